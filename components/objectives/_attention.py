"""Where two models look: the energy of their feature maps at each place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import Batch, ObjectiveSpec, Signals
from components.errors import BadInputError
from components.objectives._base import OnFeatures, common_stages, points_in_words, shape_at
from components.objectives._maps import MAP, meeting, unlike
from components.schedules import Scheduled

Form = Literal["code", "paper"]


class AttentionTransfer(OnFeatures):
    """Distance of attention maps, summed over pairs of tap points."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        pools: Sequence[tuple[nn.Module, nn.Module]],
        *,
        form: Form,
        alpha: Scheduled,
        weight: Scheduled,
    ) -> None:
        """*pools* bring the maps of each pair to one size."""
        super().__init__(pairs, alpha=alpha, weight=weight)
        self.pools_ours = nn.ModuleList([ours for ours, _ in pools])
        self.pools_theirs = nn.ModuleList([theirs for _, theirs in pools])
        self.distance = _squared if form == "code" else _unsquared

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - no labels are needed
        """-> [N]."""
        pairs = zip(self.heard(student, teacher), self.pools_ours, self.pools_theirs, strict=True)
        distances = [
            self.distance(attention(pool_ours(ours)) - attention(pool_theirs(theirs)))
            for (ours, theirs), pool_ours, pool_theirs in pairs
        ]
        return torch.stack(distances).sum(0)


def attention(maps: Tensor) -> Tensor:
    """[N, channels, H, W] -> [N, H * W] of length 1: the mean square over channels (p = 2)."""
    return functional.normalize(maps.square().mean(1).flatten(1), dim=1)


def _squared(difference: Tensor) -> Tensor:
    """As the authors' code: the mean square over places."""
    return difference.square().mean(1)


def _unsquared(difference: Tensor) -> Tensor:
    """As their equation 2: the length of the difference."""
    return torch.linalg.vector_norm(difference, dim=1)


def make_attention_transfer(
    spec: ObjectiveSpec, pairs: Sequence[tuple[str, str]], *, form: Form, alpha: Scheduled, weight: Scheduled
) -> AttentionTransfer:
    """Without *pairs* all stages that both models name and that are maps; BadInputError where one of a pair is no map."""
    chosen = pairs or _all_maps(spec)
    shapes = [
        (shape_at(spec.student, ours, "student"), shape_at(spec.teacher, theirs, "teacher")) for ours, theirs in chosen
    ]
    for pair, (ours, theirs) in zip(chosen, shapes, strict=True):
        if not len(ours) == len(theirs) == MAP:
            raise unlike(pair, ours, theirs, "two maps (channels, height, width)")
    pools = [meeting(*pair) for pair in shapes]
    return AttentionTransfer(chosen, pools, form=form, alpha=alpha, weight=weight)


def _all_maps(spec: ObjectiveSpec) -> list[tuple[str, str]]:
    assert spec.teacher is not None, "an objective that needs features is built with the teacher's taps"
    models = (spec.student, spec.teacher)
    found = [(tap, tap) for tap in common_stages(spec) if all(len(model.shapes[tap]) == MAP for model in models)]
    if found:
        return found
    raise BadInputError(
        "student.objective: attention_transfer compares maps (channels, height, width), and no stage is one in both "
        f"models (student: {points_in_words(spec.student)}; teacher: {points_in_words(spec.teacher)}); name pairs of tap "
        "points that are, or take an objective that compares features of any shape, such as rkd or similarity_preserving"
    )
