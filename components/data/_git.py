"""Which commit a revision is, asked of git alone so that a cached run needs no DVC."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.artifacts.lock import held
from components.errors import DataNotFoundError, ServerError, some_of
from components.settings import find_local

_URL = re.compile(r"^([a-z][a-z0-9+.-]*://|[^/@:\s]+@[^/:\s]+:|[^/:\s]{2,}:(?!\\))", re.IGNORECASE)
_COMMIT = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_NETWORK_SECONDS = 120
_LOCK_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Place:
    """A git repository, and the folder in it that paths start from."""

    shown: str
    """As the user gave it, without credentials."""
    url: str
    """The top folder of a local work tree, else what git and DVC clone from."""
    prefix: str = ""
    """Folder below the top, '' or without a slash at the end."""
    local: bool = True
    """Whether *url* is a work tree on this machine."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a repository."""

    commit: str
    parent: str
    """The first one; '' for none."""
    when: datetime
    """It was committed."""
    who: str
    """Its author's name."""
    message: str
    """The first line."""


def without_credentials(text: str) -> str:
    """Drop 'user:password@' from the URLs in *text*."""
    return _CREDENTIALS.sub("://", text)


def locate(repository: str) -> Place:
    """Find *repository*, a path or a URL; DataNotFoundError when it is no git repository."""
    shown = without_credentials(repository)
    found = find_local(repository)
    if found is None:
        if _URL.match(repository):
            return Place(shown, repository, local=False)
        hint = "; `potstill example-data` builds the example" if "example-data" in repository else ""
        raise DataNotFoundError(f"data.repository {shown!r} does not exist (looked from {Path.cwd()}){hint}")
    if _ask_local(found, shown, "--is-bare-repository") == "true":
        return Place(shown, str(found.resolve()), local=False)
    top = _ask_local(found, shown, "--show-toplevel")
    return Place(shown, top, _ask_local(found, shown, "--show-prefix").rstrip("/"))


def _ask_local(folder: Path, shown: str, question: str) -> str:
    result = _git("-C", str(folder if folder.is_dir() else folder.parent), "rev-parse", question)
    if result.returncode:
        raise DataNotFoundError(f"data.repository {shown!r} is no git repository that can be read: {_why(result)}")
    return result.stdout.strip()


def full_commit(place: Place, revision: str) -> str:
    """The full commit that *revision* (tag, branch or commit) is now; DataNotFoundError if it is none."""
    if not revision or revision.startswith("-") or any(character.isspace() for character in revision):
        raise DataNotFoundError(f"data.revision {revision!r} is no name of a tag, branch or commit")
    return _local_commit(place, revision) if place.local else _remote_commit(place, revision)


def _local_commit(place: Place, revision: str) -> str:
    result = _git("-C", place.url, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    commit = result.stdout.strip()
    if result.returncode or not _COMMIT.match(commit):
        names = _git("-C", place.url, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", "refs/heads")
        raise _unknown(place, revision, _refs(names.stdout))
    return commit


def _remote_commit(place: Place, revision: str) -> str:
    if _COMMIT.match(revision):
        return revision
    refs = _refs(_answer(place, "ls-remote", "--", place.url))
    for name in (revision, f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}"):
        if name in refs:
            return refs[name]
    raise _unknown(place, revision, refs)


def list_tags(place: Place, pattern: str) -> tuple[str, ...]:
    """Tags that fit the shell *pattern*, the highest version first; DataNotFoundError where git cannot be asked."""
    prefix = "refs/tags/"
    answer = _answer(place, "ls-remote", "--refs", "--sort=-version:refname", "--", place.url, f"{prefix}{pattern}")
    return tuple(name.removeprefix(prefix) for name in _refs(answer))


def is_ignored(place: Place, path: Path) -> bool:
    """Whether git leaves *path*, which need not exist, in the work tree of *place* to others."""
    return _git("-C", place.url, "check-ignore", "--quiet", "--", f"{path}/").returncode == 0


def readable(place: Place, cache: Path) -> Place:
    """Where the history of *place* can be read: itself, or a copy of it below *cache* that is brought up to date.

    Raises DataNotFoundError where the repository behind a URL cannot be read.
    """
    if Path(place.url).is_dir():
        return place
    mirror = cache / "mirrors" / f"{hashlib.sha256(place.url.encode()).hexdigest()[:32]}.git"
    with held(mirror.with_suffix(".lock"), wait_seconds=_LOCK_WAIT_SECONDS, waiting=lambda _: None):
        # The URL is given each time and noted nowhere, since it may hold a password.
        quietly = ("--quiet", "--prune", "--no-write-fetch-head", "--no-auto-maintenance")
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        steps = (
            ("init", "--quiet", "--bare", str(mirror)),
            ("-C", str(mirror), "fetch", *quietly, "--", place.url, *refs),
        )
        for step in steps:
            _answer(place, *step)
    return Place(place.shown, str(mirror), place.prefix, local=False)


def names_by_commit(place: Place) -> dict[str, tuple[str, ...]]:
    """Commit -> its tags, then the branches that stand on it; of a place that is `readable`."""
    found: dict[str, list[str]] = {}
    for kind in ("tags", "heads"):
        wanted = "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname:lstrip=2)"
        for line in _read(place, "for-each-ref", "--sort=-version:refname", wanted, f"refs/{kind}").splitlines():
            object_type, commit, *rest = line.split(" ")
            if object_type == "tag":
                object_type, commit = rest[:2]
            if object_type == "commit":
                found.setdefault(commit, []).append(rest[-1])
    return {commit: tuple(names) for commit, names in found.items()}


def commits(place: Place, *revisions: str) -> list[Commit]:
    """These commits, in this order."""
    return _log(place, "--no-walk=unsorted", *revisions) if revisions else []


def commits_that_touch(place: Place, files: Sequence[str], *revisions: str) -> list[Commit]:
    """Every commit behind a tag, a branch or *revisions* that changed one of *files* (git's patterns from the top)."""
    return _log(
        place, "--branches", "--tags", "--full-history", *revisions, "--", *(f":(top,glob){file}" for file in files)
    )


def newest_first(place: Place, *revisions: str) -> list[str]:
    """Every commit behind a tag, a branch or *revisions*: children before parents, otherwise by the clock."""
    return _read(place, "rev-list", "--date-order", "--branches", "--tags", *revisions).split()


def dvc_files(place: Place, commit: str) -> frozenset[str]:
    """Name and content of each file by which DVC knows what it tracks at *commit*."""
    lines = _read(place, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    return frozenset(
        line for line in lines if line.endswith((".dvc", "/dvc.lock", "\tdvc.lock", "dvc.yaml", ".dvc/config"))
    )


def literally(path: str) -> str:
    """*path* as a pattern that stands for itself alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _log(place: Place, *what: str) -> list[Commit]:
    text = _read(place, "log", "--format=%H%x1f%P%x1f%cI%x1f%an%x1f%s%x1e", *what)
    return [_commit(record.strip("\n")) for record in text.split("\x1e") if record.strip("\n")]


def _commit(record: str) -> Commit:
    commit, parents, when, who, message = record.split("\x1f")
    return Commit(commit, parents.split(" ")[0], datetime.fromisoformat(when), who, message)


def _read(place: Place, *command: str) -> str:
    return _answer(place, "-C", place.url, *command)


def _answer(place: Place, *command: str) -> str:
    result = _git(*command)
    if result.returncode:
        raise DataNotFoundError(f"git cannot read data.repository {place.shown!r}: {_why(result)}")
    return result.stdout


def _refs(text: str) -> dict[str, str]:
    return {name: commit for commit, name in (line.split(maxsplit=1) for line in text.splitlines())}


def _unknown(place: Place, revision: str, refs: dict[str, str]) -> DataNotFoundError:
    tags = _names(refs, "refs/tags/")
    branches = _names(refs, "refs/heads/")
    close = difflib.get_close_matches(revision, [*tags, *branches], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if not place.local and re.fullmatch(r"[0-9a-f]{4,39}", revision):
        hint += " A commit of a repository behind a URL must be given in full."
    listed = f"tags: {some_of(tags, limit=10) or 'none'}; branches: {some_of(branches, limit=10) or 'none'}"
    return DataNotFoundError(f"data.revision {revision!r} does not exist in {place.shown!r} ({listed}).{hint}")


def _names(refs: dict[str, str], prefix: str) -> list[str]:
    return sorted(name.removeprefix(prefix) for name in refs if name.startswith(prefix) and not name.endswith("^{}"))


def _why(result: subprocess.CompletedProcess[str]) -> str:
    return without_credentials(" ".join(result.stderr.split())) or f"git ended with {result.returncode}"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            timeout=_NETWORK_SECONDS,
        )
    except FileNotFoundError as error:
        raise DataNotFoundError("git is not installed or not on PATH, and data versions are git revisions") from error
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"git {arguments[0]} has not answered within {_NETWORK_SECONDS} s") from error


def _environment() -> dict[str, str]:
    # Inside a git hook GIT_DIR and its kin point at the repository of the hook, not at the data's.
    kept = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
