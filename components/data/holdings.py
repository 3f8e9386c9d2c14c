"""Which data versions lie packed in the store, and what each of them holds; nothing is computed or fetched for it."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import FileEntry, sha256_of
from components.artifacts.collection import last_used
from components.artifacts.inventory import Entry, entries
from components.artifacts.ledger import savings
from components.data.packed import INFO
from components.data.versions import DataVersion

if TYPE_CHECKING:
    from components.artifacts.store import Store

KIND = "data"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a packed data version holds."""

    num_rows: int
    num_classes: int | None
    """None where labels are numbers."""


@dataclass(frozen=True, slots=True)
class Use:
    """When a run last made or found a data version, and which run that was."""

    at: datetime
    run: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """The data artifacts of a store, those of the parameters' own format only."""

    store: Store
    entries: Sequence[Entry]
    format: Mapping[str, Any]
    """How the parameters read a version; rows and classes hang on it."""

    def of(self, version: DataVersion) -> list[Entry]:
        """Those made from the content of *version*, newest first."""
        return [each for each in self.entries if _is_of(each, version)]

    def contents(self, version: DataVersion) -> Contents | None:
        """Of the newest one read in the parameters' format whose local copy is whole; None if there is none."""
        alike = (each for each in self.of(version) if _facts(each, "params").get("format") == self.format)
        return next(filter(None, map(self._contents, alike)), None)

    def last_use(self, version: DataVersion) -> Use | None:
        """The last time that a run made or found a version with this content, however it was split."""
        found = self.of(version)
        marks = last_used(self.store, (KIND,)) if found else {}
        uses = [Use(datetime.fromtimestamp(at, UTC), "") for each in found if (at := marks.get((KIND, each.key)))]
        uses += [Use(each.created, each.manifest.producer) for each in found if each.created and each.manifest]
        keys = {each.key for each in found}
        journal = savings(self.store.storage.root) if found else ()
        uses += [
            Use(datetime.fromisoformat(each.at), each.run) for each in journal if each.key in keys and each.kind == KIND
        ]
        return max(uses, key=lambda use: (use.at.replace(microsecond=0), bool(use.run)), default=None)

    def _contents(self, entry: Entry) -> Contents | None:
        recorded = next((file for file in entry.manifest.files if file.path == INFO), None) if entry.manifest else None
        info = self._info(entry, recorded) if recorded else None
        if info is None:
            return None
        numbers = info.get("numbers", {}).get("target_names")
        return Contents(int(info["num_samples"]), None if numbers else len(info["class_names"]))

    def _info(self, entry: Entry, recorded: FileEntry) -> dict[str, Any] | None:
        path = self.store.storage.root / KIND / entry.key / INFO
        if not path.is_file() or sha256_of(path) != recorded.sha256:
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def holdings(store: Store, reads: Mapping[str, Any]) -> Holdings:
    """What *store* holds; *reads* are the parameters of the data step."""
    return Holdings(store, [each for each in entries(store, (KIND,)) if not each.older_schema], reads["format"])


def _is_of(entry: Entry, version: DataVersion) -> bool:
    facts = _facts(entry, "facts")
    return facts.get("md5") == version.md5 and facts.get("file") in (None, posixpath.basename(version.path))


def _facts(entry: Entry, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry.manifest.fields.get(name, {}) if entry.manifest else {}
    return found
