"""Data versions: a DVC-tracked path at a revision, resolved to its content hash and checked out beside every working tree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifacts.disk import refusal
from components.artifacts.lock import held
from components.data import _dvc
from components.data._dvc import Recorded, Remote, Target
from components.data._git import Place, full_commit, locate, without_credentials
from components.errors import DataDamagedError, DataNotFoundError, StoreError, some_of

_LOCK_WAIT_SECONDS = 3600.0
_MD5 = re.compile(r"^[0-9a-f]{32}(\.dir)?$")


@dataclass(frozen=True, slots=True)
class DataVersion:
    """A path of a repository at a commit, and the content that DVC recorded there."""

    repository: str
    path: str
    revision: str
    commit: str
    md5: str
    """DVC's; ends in '.dir' for a directory."""
    num_files: int | None = None
    num_bytes: int | None = None
    """None where DVC did not write it down."""

    @property
    def is_directory(self) -> bool:
        return self.md5.endswith(".dir")

    def __str__(self) -> str:
        return f"{self.path!r} of {without_credentials(self.repository)!r} at {self.revision!r} ({self.commit[:10]})"


def _nobody(_: str) -> None:
    return None


def resolve(repository: str, path: str, revision: str, *, cache: Path) -> DataVersion:
    """Pin *revision* to a commit and look up the content hash of *path* there.

    (repository, commit, path) never changes its content, so the answer is remembered below *cache* and a second
    look needs git alone. Raises DataNotFoundError for anything that does not exist, with what does.
    """
    place, inside = locate(repository), normal_path(path)
    commit = full_commit(place, revision)

    def ask() -> Recorded:
        return ask_dvc(place, inside, commit, revision)

    return at_commit(repository, place, inside, commit, revision, cache=cache, ask=ask)


def at_commit(
    repository: str, place: Place, path: str, commit: str, revision: str, *, cache: Path, ask: Callable[[], Recorded]
) -> DataVersion:
    """The version of *path* at a full *commit*: as remembered below *cache*, else what *ask* finds, remembered."""
    memo = _memo_file(cache, place, commit, path)
    found = _remembered(memo, place, commit, path)
    if found is None:
        found = ask()
        _remember(memo, place, commit, path, found)
    return DataVersion(repository, path, revision, commit, found.md5, found.num_files, found.num_bytes)


def normal_path(path: str) -> str:
    """*path* without detours; DataNotFoundError unless it lies inside the repository."""
    normal = posixpath.normpath(path)
    if normal.startswith(("/", "../")) or normal in (".", ".."):
        raise DataNotFoundError(f"data.path {path!r} must be a path inside the repository, relative to data.repository")
    return normal


def ask_dvc(place: Place, path: str, commit: str, revision: str) -> Recorded:
    """What DVC recorded for *path* at *commit*, looked up there."""
    found = _dvc.recorded(Target(place, path, commit, revision), listing_md5)
    if not _MD5.match(found.md5):
        raise DataDamagedError(f"DVC recorded {found.md5!r} as the md5 of {path!r} at {revision!r}")
    return found


def _memo_file(cache: Path, place: Place, commit: str, path: str) -> Path:
    identity = "\0".join((place.url, place.prefix, commit, path))
    return cache / "resolved" / f"{hashlib.sha256(identity.encode()).hexdigest()}.json"


def _memo(place: Place, commit: str, path: str) -> dict[str, str]:
    return {"repository": without_credentials(place.url), "prefix": place.prefix, "commit": commit, "path": path}


def _remembered(memo: Path, place: Place, commit: str, path: str) -> Recorded | None:
    """What is noted in *memo*, or None when there is no note or it is not whole."""
    try:
        note = json.loads(memo.read_text(encoding="utf-8"))
        found = Recorded(note.pop("md5"), note.pop("num_files"), note.pop("num_bytes"))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None
    whole = note == _memo(place, commit, path) and isinstance(found.md5, str) and _MD5.match(found.md5)
    return found if whole and all(_is_count(each) for each in (found.num_files, found.num_bytes)) else None


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and value >= 0)


def _remember(memo: Path, place: Place, commit: str, path: str, found: Recorded) -> None:
    # Only a shortcut: where it cannot be written, the step that needs the disk says so.
    with contextlib.suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        draft = memo.with_name(f".{memo.name}.{os.getpid()}.{os.urandom(4).hex()}")
        draft.write_text(json.dumps({**_memo(place, commit, path), **asdict(found)}, indent=1) + "\n", encoding="utf-8")
        draft.replace(memo)


def files_of(version: DataVersion) -> dict[str, str]:
    """Relative path -> md5 of every file of *version*, as DVC recorded it; nothing is fetched but the list itself."""
    return _dvc.listing(_target(version))


def in_remote(version: DataVersion) -> Remote | None:
    """What the DVC remote holds of *version*; None where the repository has no remote."""
    return _dvc.in_remote(_target(version))


def is_checked_out(version: DataVersion, *, cache: Path) -> bool:
    """Whether *cache* has a copy; `checkout` hashes it before it is used."""
    return (cache / _folder_name(version)).is_dir()


def checkout(version: DataVersion, *, cache: Path, say: Callable[[str], None] = _nobody) -> Path:
    """Bring *version* into *cache* and return the read-only folder that holds it (a file lies alone in its folder).

    Every byte is hashed against DVC's record, on a hit too; damaged copies are fetched again, past DVC's own cache
    if that is what is damaged. No working tree is touched, and one process fetches while others wait.
    Raises DataDamagedError, DataNotFoundError, or StoreError when the disk is full or read-only.
    """
    name = _folder_name(version)
    folder = cache / name
    lock = cache / "locks" / f"{name}.lock"
    with (
        disk_errors(cache),
        held(lock, wait_seconds=_LOCK_WAIT_SECONDS, waiting=said_once(say, f"checks out {version}")),
    ):
        if folder.exists():
            if actual_md5(folder, version) == version.md5:
                return folder
            say(f"the local copy of {version} was damaged; fetching it again")
            discard(folder)
        _fetch(version, folder, say)
    return folder


def _folder_name(version: DataVersion) -> str:
    """A directory is its content; a file is also its name, which the formats read."""
    if version.is_directory:
        return version.md5
    return (
        f"{version.md5}-{hashlib.md5(posixpath.basename(version.path).encode(), usedforsecurity=False).hexdigest()[:8]}"
    )


def _fetch(version: DataVersion, folder: Path, say: Callable[[str], None]) -> None:
    # The lock makes this name ours alone, so what a killed run left there can go.
    draft = folder.with_name(f".{folder.name}.partial")
    discard(draft)
    draft.mkdir(parents=True)
    try:
        _fetch_verified(version, draft, say)
        _make_read_only(draft / "data")
        (draft / "data").rename(folder)
        folder.chmod(0o555)
    finally:
        discard(draft)


def _fetch_verified(version: DataVersion, draft: Path, say: Callable[[str], None]) -> None:
    target = _target(version)
    own_cache = None if target.place.local else draft / "dvc-cache"
    damage = _differences(draft / "data", _dvc.fetch(target, draft / "data", past_cache_of=own_cache), version)
    if not damage:
        return
    discard(draft / "data")
    try:
        listing = _dvc.fetch(target, draft / "data", past_cache_of=draft / "empty-cache")
        left = _differences(draft / "data", listing, version)
    except DataNotFoundError as error:
        raise _damaged(version, damage, "DVC's own cache holds these bytes and the remote has no copy") from error
    if left:
        raise _damaged(version, left, "DVC's cache and its remote both hold such bytes")
    say(
        f"DVC's own cache of {without_credentials(version.repository)!r} holds damaged bytes ({some_of(damage)}); the "
        "remote's copy is whole and was used. Repair the cache: delete its damaged files, then `dvc fetch`"
    )


def _target(version: DataVersion) -> Target:
    return Target(locate(version.repository), version.path, version.commit, version.revision)


def _damaged(version: DataVersion, damage: list[str], whose: str) -> DataDamagedError:
    count = f"{len(damage)} file" + ("s" if len(damage) > 1 else "")
    return DataDamagedError(
        f"{version}: {count} not as DVC recorded: {some_of(damage)}. {whose}. Push the data again from a good copy "
        "(delete the bad file from .dvc/cache and the remote, `dvc add`, `dvc push`)"
    )


def listing_md5(listing: Mapping[str, str]) -> str:
    """DVC's md5 of a directory with these files, relative path -> md5: the hash of its listing as DVC writes it."""
    entries = [{"md5": listing[path], "relpath": path} for path in sorted(listing)]
    return f"{_md5_of_bytes(json.dumps(entries, sort_keys=True).encode())}.dir"


def _differences(folder: Path, recorded: Mapping[str, str], version: DataVersion) -> list[str]:
    """Names of files in *folder* that are not as *recorded*, and the listing itself if that is not the version's."""
    actual = _files(folder)
    wrong = sorted(path for path in {*actual, *recorded} if actual.get(path) != recorded.get(path))
    if not wrong and _md5_of_listing(recorded, version) != version.md5:
        return ["the directory listing"]
    return wrong


def actual_md5(folder: Path, version: DataVersion) -> str:
    """The md5 of what lies in *folder* now, every byte hashed; that of *version* if it is that."""
    return _md5_of_listing(_files(folder), version)


def _md5_of_listing(files: Mapping[str, str], version: DataVersion) -> str:
    if version.is_directory:
        return listing_md5(files)
    name = posixpath.basename(version.path)
    return files[name] if set(files) == {name} else "not that one file"


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _md5_of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_bytes(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _make_read_only(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)


def discard(folder: Path) -> None:
    """Remove *folder*, read-only or not; nothing where there is none."""
    if not folder.exists():
        return
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    shutil.rmtree(folder)


def said_once(say: Callable[[str], None], doing: str) -> Callable[[str], None]:
    """Say, the first time that this is called, whom the run waits for and what that one is *doing*."""
    told: set[str] = set()

    def waiting(holder: str) -> None:
        if not told:
            say(f"waiting for process {holder}, which {doing}")
        told.add(holder)

    return waiting


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk of *folder* refuses into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(refusal(error, folder) or f"the folder {folder} cannot be used: {error}") from error
