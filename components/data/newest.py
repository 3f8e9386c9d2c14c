"""The newest version of a data repository, by its tags or on a branch, asked of git alone."""

from __future__ import annotations

from dataclasses import dataclass

from components.data._git import Place, full_commit, list_tags, locate
from components.errors import DataNotFoundError
from components.params import RefreshParams


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be distilled next."""

    revisions: tuple[str, ...]
    """Newest first: tags in the order of their version numbers, or the one branch."""

    @property
    def newest(self) -> str:
        return self.revisions[0]


def candidates(repository: str, params: RefreshParams) -> Candidates:
    """Raises DataNotFoundError where no tag fits the pattern, or there is no such branch."""
    place = locate(repository)
    if params.branch is not None:
        full_commit(place, params.branch)
        return Candidates((params.branch,))
    return Candidates(_tags(place, params.tags or "*"))


def _tags(place: Place, pattern: str) -> tuple[str, ...]:
    found = list_tags(place, pattern)
    if not found:
        raise DataNotFoundError(
            f"no tag of {place.shown!r} fits refresh.tags {pattern!r}: tag a data version, or set refresh.branch"
        )
    return found
