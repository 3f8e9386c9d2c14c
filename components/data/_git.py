"""Which commit a revision is, asked of git alone so that a cached run needs no DVC."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from components.errors import DataNotFoundError, ServerError, some_of
from components.settings import find_local

_URL = re.compile(r"^([a-z][a-z0-9+.-]*://|[^/@:\s]+@[^/:\s]+:|[^/:\s]{2,}:(?!\\))", re.IGNORECASE)
_COMMIT = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_NETWORK_SECONDS = 120


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
    result = _git("ls-remote", "--", place.url)
    if result.returncode:
        raise DataNotFoundError(f"git cannot read data.repository {place.shown!r}: {_why(result)}")
    refs = _refs(result.stdout)
    for name in (revision, f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}"):
        if name in refs:
            return refs[name]
    raise _unknown(place, revision, refs)


def list_tags(place: Place, pattern: str) -> tuple[str, ...]:
    """Tags that fit the shell *pattern*, the highest version first; DataNotFoundError where git cannot be asked."""
    prefix = "refs/tags/"
    result = _git("ls-remote", "--refs", "--sort=-version:refname", "--", place.url, f"{prefix}{pattern}")
    if result.returncode:
        raise DataNotFoundError(f"git cannot read data.repository {place.shown!r}: {_why(result)}")
    return tuple(name.removeprefix(prefix) for name in _refs(result.stdout))


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
