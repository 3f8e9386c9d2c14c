"""The name of a result before it exists: sha256 over everything that could change a number by design."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.artifacts.artifact import SCHEMA


@dataclass(frozen=True, slots=True)
class Key:
    """What goes into a result, and the digest of it."""

    kind: str
    fields: Mapping[str, Any]
    digest: str


def make_key(kind: str, fields: Mapping[str, Any]) -> Key:
    """Key of the result of step *kind*; *fields* must be JSON-able and are kept in the manifest."""
    whole = {"step": kind, "schema": SCHEMA, **fields}
    text = json.dumps(whole, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return Key(kind=kind, fields=json.loads(text), digest=hashlib.sha256(text.encode()).hexdigest())


def library_versions(distributions: Sequence[str]) -> Mapping[str, str]:
    """Their public versions: a local part such as +cpu is a build, which the fingerprint holds."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in sorted(distributions)}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the fields in which two keys differ, with both values where they are short."""
    mine, other = flat(ours), flat(theirs)
    names = sorted(name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name))
    return tuple(f"{name}: {_short(other.get(name))} -> {_short(mine.get(name))}" for name in names)


def flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name of each value in a tree of fields, with *prefix* before it; a module's name stays whole."""
    named: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            named |= flat(value, f"{prefix}{name}.") if not prefix.startswith("code.") else {f"{prefix}{name}": value}
        else:
            named[f"{prefix}{name}"] = value
    return named


def _short(value: Any) -> str:
    text = json.dumps(value)
    if isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2:
        return value[:8]
    return text if len(text) <= 40 else f"{text[:37]}..."
