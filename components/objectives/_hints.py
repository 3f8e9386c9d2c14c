"""The difference to a hint, after a regressor that learns with the student."""

from __future__ import annotations

from torch import Tensor, nn

from components.contracts import Batch, ObjectiveSpec, Signals
from components.objectives._base import OnFeatures, shape_at
from components.objectives._maps import MAP, meeting, unlike
from components.schedules import Scheduled

ALLOWED = "two maps (channels, height, width), two vectors, or two sequences (length, width) of one length"


class Hints(OnFeatures):
    """Mean squared difference of the teacher's features and the regressor's guess of them."""

    def __init__(
        self, pair: tuple[str, str], regressor: nn.Module, pool: nn.Module, *, alpha: Scheduled, weight: Scheduled
    ) -> None:
        """*regressor* takes the student's features to the teacher's width and to the size that *pool* takes the teacher's to."""
        super().__init__([pair], alpha=alpha, weight=weight)
        self.regressor, self.pool = regressor, pool

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - no labels are needed
        """-> [N]."""
        ((ours, theirs),) = self.heard(student, teacher)
        return (self.regressor(ours) - self.pool(theirs)).square().flatten(1).mean(1)


def make_hints(spec: ObjectiveSpec, pair: tuple[str, str], *, alpha: Scheduled, weight: Scheduled) -> Hints:
    """BadInputError where the two tap points cannot be compared."""
    ours, theirs = shape_at(spec.student, pair[0], "student"), shape_at(spec.teacher, pair[1], "teacher")
    # All but the widths must agree: the length of a sequence, which no regressor can guess.
    if len(ours) != len(theirs) or len(ours) > MAP or (len(ours) < MAP and ours[:-1] != theirs[:-1]):
        raise unlike(pair, ours, theirs, ALLOWED)
    if len(ours) < MAP:
        return Hints(pair, nn.Linear(ours[-1], theirs[-1]), nn.Identity(), alpha=alpha, weight=weight)
    pool_ours, pool_theirs = meeting(ours, theirs)
    regressor = nn.Sequential(pool_ours, nn.Conv2d(ours[0], theirs[0], kernel_size=1))
    return Hints(pair, regressor, pool_theirs, alpha=alpha, weight=weight)
