"""Artifacts in a local directory: one folder each, published by one rename that fails if it exists."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import urlparse

from components.artifacts import lock
from components.artifacts.artifact import MANIFEST, WORK, Manifest, fsync, manifest_of, walk
from components.artifacts.process import is_gone, machine
from components.settings import Settings

TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
ABANDONED_SECONDS = 24 * 3600.0
USED = ".used"
"""Folder of empty files whose age says when an artifact was last used."""


class FileStorage:
    """`<root>/<kind>/<key>/`; whatever begins with a dot is not (yet) an artifact."""

    mark_seconds = 0.0
    """Every use is marked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)
        self._new = [folder for folder in (root, *root.parents) if not os.path.lexists(folder)]

    def folder(self, kind: str, key: str) -> Path | None:
        """The published folder, if there is one."""
        folder = self.root / kind / key
        return folder if (folder / MANIFEST).exists() else None

    def copies(self, kind: str, key: str) -> Iterator[Path]:
        """What has the name of the published folder, whatever it is: there is no other copy."""
        folder = self.root / kind / key
        if os.path.lexists(folder):
            yield folder

    def manifest(self, kind: str, key: str) -> Manifest | None:
        return manifest_of(self.root / kind / key)

    def staging(self, kind: str, key: str) -> Path:
        """A new folder to fill, in the directory where it will be published."""
        folder = self._hidden(kind, key)
        folder.mkdir(parents=True)
        return folder

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for work in progress on this key; it survives a kill."""
        folder = self.root / WORK / kind / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, staged: Path, kind: str, key: str) -> bool:
        """Make *staged* the artifact; False if there is one already, whoever made it."""
        files, folders = walk(staged)
        for path in (*files, *reversed(folders), staged):
            fsync(path)
        try:
            staged.rename(self.root / kind / key)
        except OSError as error:
            if error.errno in TAKEN:
                return False
            raise
        # Their own names may be as new.
        for folder in (self.root / kind, self.root, *(folder.parent for folder in self._new)):
            fsync(folder)
        return True

    def quarantine(self, kind: str, key: str) -> Path:
        """Move a damaged artifact out of the way, for whoever wants to know why."""
        target = self.root / ".quarantine" / f"{kind}-{key}-{secrets.token_hex(4)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process saw the damage as well, and was faster
            (self.root / kind / key).rename(target)
        return target

    def discard(self, folder: Path) -> None:
        """Remove a staging or scratch folder."""
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, kind: str) -> None:
        """Remove staging folders whose process is gone; those of other machines once nobody has touched them for a day."""
        for folder in (self.root / kind).glob(".*-*-*-*"):
            _, where, pid, _ = folder.name.rsplit("-", 3)
            if is_gone(int(pid)) if where and where == machine() else _is_abandoned(folder):
                self.discard(folder)

    def lock(
        self, kind: str, key: str, *, wait_seconds: float, waiting: Callable[[str], None]
    ) -> AbstractContextManager[bool]:
        return lock.held(self.root / ".locks" / f"{kind}-{key}", wait_seconds=wait_seconds, waiting=waiting)

    def keys(self, kind: str) -> Iterator[str]:
        """Keys of the published artifacts of *kind*, newest first."""
        folders = [folder for folder in (self.root / kind).glob("[!.]*") if (folder / MANIFEST).exists()]
        yield from (
            folder.name for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        )

    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(folder.name for folder in self.root.glob("[!.]*") if folder.is_dir()))

    def touch(self, kind: str, key: str) -> None:
        """Who may only read leaves no mark: it matters to collection alone, which somebody else does."""
        mark = self.root / USED / kind / key
        with suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def used(self, kind: str) -> Mapping[str, float]:
        return {mark.name: mark.stat().st_mtime for mark in (self.root / USED / kind).glob("*")}

    def remove(self, kind: str, key: str, *, last_used: float | None) -> bool:
        """A run that found the artifact marks it and looks again, so that one of the two notices the other."""
        folder, hidden = self.root / kind / key, self._hidden(kind, key)
        try:
            folder.rename(hidden)
        except FileNotFoundError:
            return False
        if self.used(kind).get(key) != last_used:
            with suppress(OSError):  # whoever came meanwhile has published the same again
                hidden.rename(folder)
                return False
        fsync(folder.parent)
        (self.root / USED / kind / key).unlink(missing_ok=True)
        self.discard(hidden)
        return True

    def check(self) -> str:
        return self.where

    def _hidden(self, kind: str, key: str) -> Path:
        """A name that `sweep` recognises, here or on a machine that shares the directory, once this process is gone."""
        return self.root / kind / f".{key[:16]}-{machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def open_storage(settings: Settings) -> FileStorage:
    """A plain path or file:///..."""
    parsed = urlparse(settings.store_url)
    return FileStorage(Path(parsed.path if parsed.scheme else settings.store_url).absolute())


def _is_abandoned(folder: Path) -> bool:
    """Whether nothing in it has changed for a day, nor its own name."""
    try:
        files, folders = walk(folder)
        changes = [path.lstat().st_mtime for path in (*files, *folders)]
        return max(folder.lstat().st_ctime, *changes, 0.0) < time.time() - ABANDONED_SECONDS
    except FileNotFoundError:  # it has just been published, or removed
        return False
