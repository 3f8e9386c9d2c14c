"""Which versions of the data there are: tags, branches, and the commits at which the content of the path changed."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.data import _git
from components.data._dvc import Recorded
from components.data._git import Commit, Place
from components.data.versions import DataVersion, ask_dvc, at_commit, normal_path
from components.errors import DataDamagedError, DataNotFoundError

_PIPELINES = ("dvc.lock", "**/dvc.lock")
_SAID_FROM = 10
"""So many questions take DVC a few seconds."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One commit that has a name, or at which the content changed."""

    names: tuple[str, ...]
    """Tags, then branches; none for a commit that is only on the way."""
    commit: Commit
    version: DataVersion | None
    """None where DVC does not track the path, or what it wrote down cannot be read."""
    problem: str = ""
    """Why there is no version."""


@dataclass(frozen=True, slots=True)
class History:
    """The versions of one path, newest first."""

    listed: tuple[Listed, ...]

    def newer_than(self, version: DataVersion) -> tuple[Listed, ...]:
        """Those with another content that are listed before *version*, newest first; none if it is not listed."""
        commits = [each.commit.commit for each in self.listed]
        before = self.listed[: commits.index(version.commit)] if version.commit in commits else ()
        return tuple(each for each in before if each.version and each.version.md5 != version.md5)


def history(repository: str, path: str, *, cache: Path, say: Callable[[str], None], also: str | None = None) -> History:
    """Every commit of *repository* that has a tag or a branch, or changed the content of *path*; and the commit *also*.

    The data are not fetched. What DVC recorded is asked for once for each state of its files, and remembered below
    *cache*; the history of a repository behind a URL is copied there, and brought up to date each time.
    A file named otherwise than DVC names it (`<path>.dvc`, `dvc.lock`) is seen at tags and branches only.
    Raises DataNotFoundError for a repository that is none or cannot be read.
    """
    place, inside = _git.locate(repository), normal_path(path)
    source = _git.readable(place, cache)
    names = _git.names_by_commit(source)
    also_commits = (also,) if also else ()
    changing = _git.commits_that_touch(source, _dvc_names(place, inside), *also_commits)
    named = dict.fromkeys((*names, *also_commits))
    found = {commit.commit: commit for commit in (*changing, *_git.commits(source, *named))}
    records = _Records(repository, place, source, inside, cache, names, say)
    listed = [
        Listed(
            names.get(commit.commit, ()),
            commit,
            records.version(commit.commit),
            records.problems.get(commit.commit, ""),
        )
        for commit in (found[each] for each in _git.newest_first(source, *also_commits) if each in found)
        if commit.commit in named or records.changed(commit)
    ]
    return History(tuple(listed))


def _dvc_names(place: Place, path: str) -> tuple[str, ...]:
    """The files in which DVC can have written down what *path*, or a folder around it, holds."""
    around = [each for each in (PurePosixPath(path), *PurePosixPath(path).parents) if each.name]
    return (*(f"{_git.literally(posixpath.join(place.prefix, str(each)))}.dvc" for each in around), *_PIPELINES)


@dataclass(slots=True)
class _Records:
    """What DVC recorded at each commit, asked for once where DVC's own files are the same."""

    repository: str
    place: Place
    source: Place
    path: str
    cache: Path
    names: dict[str, tuple[str, ...]]
    say: Callable[[str], None]
    problems: dict[str, str] = field(default_factory=dict)
    """By commit."""
    _versions: dict[str, DataVersion | None] = field(default_factory=dict)
    _of_state: dict[frozenset[str], Recorded | str] = field(default_factory=dict)

    def changed(self, commit: Commit) -> bool:
        """Whether the content differs from that at its first parent."""
        before = self.version(commit.parent) if commit.parent else None
        after = self.version(commit.commit)
        return (before.md5 if before else None) != (after.md5 if after else None)

    def version(self, commit: str) -> DataVersion | None:
        if commit not in self._versions:
            revision = next(iter(self.names.get(commit, ())), commit)
            try:
                self._versions[commit] = at_commit(
                    self.repository,
                    self.place,
                    self.path,
                    commit,
                    revision,
                    cache=self.cache,
                    ask=lambda: self._ask(commit),
                )
            except (DataNotFoundError, DataDamagedError) as error:
                self.problems[commit] = str(error)
                self._versions[commit] = None
        return self._versions[commit]

    def _ask(self, commit: str) -> Recorded:
        state = _git.dvc_files(self.source, commit)
        if state not in self._of_state:
            if len(self._of_state) == _SAID_FROM:
                self.say("asking DVC about every state of its files; the answers are remembered …")
            try:
                self._of_state[state] = ask_dvc(self.source, self.path, commit, commit)
            except (DataNotFoundError, DataDamagedError) as error:
                self._of_state[state] = str(error)
        found = self._of_state[state]
        if isinstance(found, str):
            raise DataNotFoundError(found)
        return found
