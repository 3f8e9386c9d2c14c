"""Whether the teacher, asked again about rows of finished soft targets, says what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.soft_targets.codec import EXACT, codec_named, decode, round_trip
from components.soft_targets.error import in_words, kl_rows, measure
from components.soft_targets.verdict import largest_mean_kl, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.soft_targets.header import Header
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.teacher_pass import TeacherPass

ENOUGH_ROWS = 30
"""Of fewer, the spread is not known well enough to tell chance from error."""
NOISE = {EXACT: 1e-5, "bf16": 2.0**-7}
"""Of a logit, as a share of the largest in its row: how far other hardware, or another place in a batch, may move it."""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """Stored rows beside what the teacher says now."""

    num_rows: int
    num_identical: int
    """Rows that would be stored as the very same bytes again."""
    largest_logit_difference: float
    mean_kl: float
    """KL(teacher now || stored) at the lowest temperature at which the error was measured, in nats; 0 of numbers."""
    standard_error: float
    """Of that mean."""
    largest_mean_kl: float | None
    """That chance allows under max_kl; None where there is no max_kl, or too few rows were asked about."""
    said: str
    """The error, in words."""
    wrong: tuple[str, ...]
    """Rows that differ by more than their codec loses, by name."""

    @property
    def beyond_bound(self) -> bool:
        """Whether the mean KL is above max_kl by more than chance."""
        return self.largest_mean_kl is not None and self.mean_kl > self.largest_mean_kl

    @property
    def ok(self) -> bool:
        return not self.wrong and not self.beyond_bound


def sample_places(header: Header, num_rows: int, seed: int) -> NDArray[np.int64]:
    """At most *num_rows* places of the file [view, sample], drawn at random without repetition, ascending."""
    num_places = header.num_views * header.num_rows
    drawn = np.random.default_rng(seed).choice(num_places, size=min(num_rows, num_places), replace=False)
    return np.sort(drawn).astype(np.int64)


def recheck(targets: SoftTargets, asked: TeacherPass, places: NDArray[np.int64]) -> Rechecked:
    """Ask about *places* int64 [n], n >= 1, and compare.

    A row is wrong where a logit differs by more than twice what encoding costs it, or than the largest error that was
    found when the codec was chosen, and by more than NOISE.
    """
    header, codec = targets.header, codec_named(targets.header.codec)
    live, rows = asked.logits(places), targets.stored[places]
    stored = decode(codec, rows.copy(), header.num_classes)
    difference = np.abs(stored - live).max(axis=1)
    temperature, labels = min(map(float, header.error)), header.identity.labels
    figures = measure(live, stored, [temperature], labels)[temperature]
    kl = kl_rows(live, stored, temperature) if labels == "classes" else np.zeros(0)
    max_kl = asked.params.max_kl
    wrong = ~(difference <= _allowed(header, live, np.abs(round_trip(codec, live) - live).max(axis=1)))
    return Rechecked(
        num_rows=len(places),
        num_identical=int((codec.encode(live) == rows).all(axis=1).sum()),
        largest_logit_difference=float(difference.max()),
        mean_kl=figures.get("mean_kl", 0.0),
        standard_error=standard_error(kl.tolist()),
        largest_mean_kl=None if max_kl is None or len(kl) < ENOUGH_ROWS else largest_mean_kl(kl.tolist(), max_kl),
        said=_said(figures, temperature, kl.tolist()),
        wrong=tuple(asked.name(int(place)) for place in places[wrong]),
    )


def _said(figures: Mapping[str, float], temperature: float, kl: Sequence[float]) -> str:
    return in_words(figures, temperature) + (f" (standard error {standard_error(kl):.1e})" if kl else "")


def _allowed(header: Header, live: NDArray[np.float32], lost: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, C] and what encoding costs each row [n] -> [n]."""
    measured = next((each.largest_logit_error for each in header.candidates if each.codec == header.codec), None)
    noise = NOISE[header.precision] * np.abs(live).max(axis=1)
    allowed: NDArray[np.float32] = np.maximum(2 * lost, measured or 0.0) + noise
    return allowed
