"""The door to DVC: what it tracks at a commit, and the bytes of it, without touching any working tree."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.disk import refusal
from components.artifacts.lock import held
from components.data._git import Place, without_credentials
from components.errors import DataDamagedError, DataNotFoundError, PotstillError, ServerError, StoreError, some_of
from components.settings import turn_telemetry_off

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

_LOGGERS = ("dvc", "dvc_data", "dvc_objects")
LOCK_WAIT_SECONDS = 3600.0
_OWN_CACHE = "auto-generated-upstream"
"""What DVC calls the cache of a repository that has no remote, when it reads it from outside."""
_ONE_AT_A_TIME = threading.Lock()
"""DVC keeps clones of URLs in a table of the process, and cleaning it up concerns every thread."""


@dataclass(frozen=True, slots=True)
class Target:
    """A path of a repository at a commit."""

    place: Place
    path: str
    """Relative to the folder that the user named."""
    commit: str
    revision: str
    """As the user gave it, for messages."""

    @property
    def inside(self) -> str:
        """The path from the top of the repository."""
        return posixpath.join(self.place.prefix, self.path)

    def __str__(self) -> str:
        return f"{self.path!r} of {self.place.shown!r} at {self.revision!r} ({self.commit[:10]})"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What DVC wrote down about a path at a commit."""

    md5: str
    """Ends in '.dir' for a directory."""
    num_files: int | None = None
    num_bytes: int | None = None
    """None where DVC did not write it down, as of a folder inside a tracked one."""


@dataclass(frozen=True, slots=True)
class Remote:
    """What a DVC remote holds of a path at a commit."""

    name: str
    num_files: int
    missing: tuple[str, ...]
    """Relative paths of the files that it lacks."""
    listing_missing: bool
    """Whether it lacks the list of a directory's files, without which nothing of it can be found."""

    @property
    def whole(self) -> bool:
        return not self.missing and not self.listing_missing


def recorded(target: Target, listing_md5: Callable[[Mapping[str, str]], str]) -> Recorded:
    """What DVC recorded for *target*; a folder inside a tracked one gets the md5 it would have on its own.

    Raises DataNotFoundError when the repository has no DVC in it or DVC does not track the path there.
    """
    with _opened(target) as system:
        info = _tracked_info(system, target)
        if "md5" in info:
            meta = info["entry"].meta
            return Recorded(str(info["md5"]), meta.nfiles if meta.isdir else 1, meta.size)
        if info["type"] == "directory":
            files = _listing(system, target)
            return Recorded(listing_md5(files), len(files))
        raise _no_md5(target)


def listing(target: Target) -> dict[str, str]:
    """Relative path -> md5 of every file of *target*; its bytes are not fetched."""
    with _opened(target) as system:
        return _recorded_files(system, target, _tracked_info(system, target))


def in_remote(target: Target) -> Remote | None:
    """What the remote of *target* holds of it, asked of the remote itself; None where there is no remote.

    Raises ServerError where the remote does not answer, or is one that keeps no files by their hash.
    """
    from dvc.config import NoRemoteError

    with _opened(target) as system:
        info = _tracked_info(system, target)
        files = _recorded_files(system, target, info)
        repository = system.info(target.place.prefix)["repo"]
        try:
            remote = repository.cloud.get_remote(name=_remote_name(repository, target))
        except NoRemoteError:
            return None
        if remote.name == _OWN_CACHE:
            return None
        if remote.fs.version_aware or remote.worktree:
            raise ServerError(
                f"the remote {remote.name!r} keeps files under their own names: `dvc status --cloud` looks at it"
            )
        wanted = {*files.values(), *({str(info["md5"])} if "md5" in info else ())}
        there = set(remote.odb.oids_exist(sorted(wanted)))
    lacking = wanted - there
    return Remote(
        name=remote.name,
        num_files=len(files),
        missing=tuple(path for path, md5 in files.items() if md5 in lacking),
        listing_missing=any(md5.endswith(".dir") for md5 in lacking),
    )


def _remote_name(repository: Any, target: Target) -> str | None:
    """Of the output that holds *target*, if it names one of its own; None for the default remote."""
    inside = f"/{target.inside}/"
    return next((out.remote for out in repository.index.outs if inside.startswith(f"{out.fs_path}/")), None)


def fetch(target: Target, into: Path, *, past_cache_of: Path | None = None) -> dict[str, str]:
    """Copy *target* into the new folder *into*; returns the md5 that DVC recorded for each relative path.

    *past_cache_of*: an empty folder that stands in for DVC's own cache, so that the remote is read.
    """
    with _opened(target, cache=past_cache_of) as system:
        info = _tracked_info(system, target)
        files = _recorded_files(system, target, info)
        if info["type"] == "directory":
            system.get(target.inside, str(into), recursive=True)
        else:
            into.mkdir()
            system.get_file(target.inside, str(into / posixpath.basename(target.path)))
        return files


@contextmanager
def _opened(target: Target, cache: Path | None = None) -> Iterator[DVCFileSystem]:
    turn_telemetry_off()
    with _ONE_AT_A_TIME, _one_process_at_a_time(), _quiet():
        from dvc.api import DVCFileSystem
        from dvc.repo.open_repo import clean_repos

        # Never a link into DVC's cache, whatever the repository prefers: the copy here becomes read-only.
        config: dict[str, Any] = {"cache": {"type": ["reflink", "copy"]}}
        if cache is not None:
            config["cache"]["dir"] = str(cache)
        try:
            with _translated(target):
                yield DVCFileSystem(target.place.url, rev=target.commit, subrepos=True, config=config)
        finally:
            clean_repos()


def _one_process_at_a_time() -> AbstractContextManager[bool]:
    """DVC keeps one index of a repository for all of a user's processes: read while another builds it, it lacks paths."""
    return held(_folder_of_this_user() / "dvc.lock", wait_seconds=LOCK_WAIT_SECONDS, waiting=lambda _: None)


def _folder_of_this_user() -> Path:
    """In the temporary folder, which others can write too: so it must be a real folder and this user's own."""
    folder = Path(tempfile.gettempdir()) / f"potstill-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to somebody else or is a link; remove it, or set TMPDIR")
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines and, since they hang on the log level, no progress bars of DVC."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """Turn whatever DVC raises into errors that a user can act on."""
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index.index import DataIndexDirError

    try:
        yield
    except PotstillError:
        raise
    except (FileNotFoundError, DataIndexDirError) as error:
        raise DataNotFoundError(
            f"the data of {target} is neither in DVC's cache nor in its remote: run `dvc push` at that revision where the "
            "data was added, or check the remote's address (a relative one works only for a local repository with DVC at "
            f"its top): {error}"
        ) from error
    except SCMError as error:
        raise DataNotFoundError(f"{target} cannot be read: {without_credentials(str(error))}") from error
    except DvcException as error:
        raise DataDamagedError(f"DVC cannot read {target}: {without_credentials(str(error))}") from error
    except OSError as error:
        where = Path(error.filename or target.place.shown)
        raise StoreError(refusal(error, where) or f"cannot copy {target}: {error}") from error
    except Exception as error:
        # Remotes raise the errors of their own vendors, which are not known here.
        raise ServerError(
            f"the DVC remote of {target} does not give the data: {without_credentials(str(error))}"
        ) from error


def _tracked_info(system: DVCFileSystem, target: Target) -> Mapping[str, Any]:
    """DVC's own facts about *target*; DataNotFoundError unless it lies in one tracked output."""
    try:
        around = system.info(target.place.prefix)
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"{target.place.shown!r} has no folder {target.place.prefix!r} at {target.revision!r}"
        ) from error
    if around["repo"].dvc_dir is None:
        raise DataNotFoundError(
            f"{target.place.shown!r} has no DVC in it at {target.revision!r} ({target.commit[:10]}): run `dvc init` and "
            "`dvc add` there and commit, or name the repository that holds the data"
        )
    try:
        info = system.info(target.inside)
    except FileNotFoundError:
        info = {}
    dvc_info: Mapping[str, Any] = info.get("dvc_info") or {}
    if not dvc_info.get("isout"):
        raise _not_tracked(target, around["repo"], in_git="fs_info" in info)
    if info["type"] == "file" and "md5" not in dvc_info:
        raise _no_md5(target)
    return dvc_info


def _not_tracked(target: Target, repository: Any, *, in_git: bool) -> DataNotFoundError:
    import difflib

    start = f"/{target.place.prefix}"
    tracked = sorted(posixpath.relpath(str(out.fs_path), start) for out in repository.index.outs)
    close = difflib.get_close_matches(target.path, tracked, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    where = "is there, but not as one thing that DVC tracks" if in_git else "does not exist"
    return DataNotFoundError(
        f"data.path: {target} {where}. DVC tracks there: {some_of(tracked, limit=10) or 'nothing'}.{hint}"
    )


def _no_md5(target: Target) -> DataNotFoundError:
    return DataNotFoundError(
        f"DVC recorded no md5 for {target}, so its bytes cannot be verified; data added by DVC 2 is brought up to date "
        "by `dvc cache migrate --dvc-files` and a commit"
    )


def _recorded_files(system: DVCFileSystem, target: Target, info: Mapping[str, Any]) -> dict[str, str]:
    if info["type"] != "directory":
        return {posixpath.basename(target.path): str(info["md5"])}
    return _listing(system, target)


def _listing(system: DVCFileSystem, target: Target) -> dict[str, str]:
    found = system.find(target.inside, detail=True)
    files = {posixpath.relpath(path, target.inside): info.get("dvc_info") or {} for path, info in sorted(found.items())}
    if any("md5" not in info for info in files.values()):
        raise _no_md5(target)
    return {path: str(info["md5"]) for path, info in files.items()}
