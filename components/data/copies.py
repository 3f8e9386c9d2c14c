"""A data version as a folder of the user's own: writable, verified, and there as a whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from components.artifacts.lock import held
from components.contracts import Progress
from components.data._git import is_ignored, locate
from components.data.versions import DataVersion, actual_md5, checkout, discard, disk_errors, said_once
from components.errors import BadInputError, DataDamagedError

_LOCK_WAIT_SECONDS = 3600.0
_INTERNAL = (".git", ".dvc")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and where."""

    version: DataVersion
    folder: Path
    num_files: int
    num_bytes: int


def write_copy(version: DataVersion, folder: Path, *, cache: Path, progress: Progress) -> Written:
    """Bring *version* into *cache* and copy it to *folder*, which is new or empty; every copied byte is hashed.

    The folder gets its name once all is there, so that neither a kill nor a full disk leaves half of it; what a kill
    left beside it goes with the next copy. Raises BadInputError for a folder that cannot be used, DataDamagedError
    when the copy is not as DVC recorded, and what `checkout` raises.
    """
    target = _usable(folder, version)
    name = hashlib.sha256(str(target).encode()).hexdigest()[:32]
    source = checkout(version, cache=cache, say=progress.say)
    draft = target.with_name(f".{target.name}.potstill-partial")
    with (
        disk_errors(target),
        held(
            cache / "locks" / f"copy-{name}.lock",
            wait_seconds=_LOCK_WAIT_SECONDS,
            waiting=said_once(progress.say, f"writes {target}"),
        ),
    ):
        _usable(folder, version)
        discard(draft)
        try:
            num_files, num_bytes = _copy(source, draft, progress)
            if actual_md5(draft, version) != version.md5:
                raise DataDamagedError(f"the copy of {version} in {target} is not as DVC recorded; look after its disk")
            draft.rename(target)
        finally:
            discard(draft)
    return Written(version, target, num_files, num_bytes)


def _usable(folder: Path, version: DataVersion) -> Path:
    """The real place of *folder*; BadInputError unless it is free and outside what git and DVC look after."""
    target = folder.expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BadInputError(f"{folder} is there already: name a folder that does not exist, or an empty one")
    if target == Path.cwd():
        raise BadInputError(
            f"{folder} is the folder that you work in and would be replaced: name another, such as ./data"
        )
    if not target.parent.is_dir():
        raise BadInputError(f"{folder}: there is no folder {target.parent} to put it in")
    place = locate(version.repository)
    if place.local and target.is_relative_to(place.url):
        inside = target.relative_to(place.url)
        if target == Path(place.url) or set(inside.parts) & set(_INTERNAL) or not is_ignored(place, target):
            raise BadInputError(
                f"{folder} lies in the working tree of {place.shown!r}, which is left alone: name a folder outside it, "
                "or one that its .gitignore names"
            )
    return target


def _copy(source: Path, draft: Path, progress: Progress) -> tuple[int, int]:
    """Copy all files, with the modes of new ones; their number and bytes."""
    draft.mkdir()
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    num_bytes = 0
    progress.start("copy the files", total=len(files))
    for done, path in enumerate(files, start=1):
        progress.check()
        copy = draft / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copyfile(path, copy)
        num_bytes += copy.stat().st_size
        progress.advance(done)
    return len(files), num_bytes
