"""How often the gate promotes by mistake, and how often it finds what is there: simulated pairs of models.

`pytest -m bench -s tests/benchmarks/test_gate.py` prints the figures of docs/results.md and draws its plot below var/bench.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from components.contracts import Evidence, Measure
from components.evaluation.statistics import wilson_interval
from components.gate import decide
from components.params import GateParams
from components.settings import outermost_repository

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

PAIRS, ALPHA, MARGIN = 4000, 0.05, 0.02
SIZES, DISCORDANT = (500, 2000, 10_000), (0.04, 0.12)
PLOT = "gate_power.png"


class Workload:
    """Of one metric, a share of right rows or a mean of losses."""

    fidelity_measures: ClassVar[dict[str, Measure]] = {}

    def __init__(self, measure: Measure) -> None:
        self.measures = {"metric": measure}


ACCURACY = Workload(Measure("accuracy", "higher", "share", of_rows="share"))
LOSS = Workload(Measure("loss", "lower", "", of_rows="mean"))


def promoted(workload: Workload, ours: NDArray[Any], theirs: NDArray[Any], **chosen: Any) -> bool:
    gate = GateParams.model_validate({"metric": "metric", "alpha": ALPHA, "candidates_per_holdout": 1, **chosen})
    new, old = (
        Evidence(name, "holdout", {"metric": float(rows.mean())}, rows)
        for name, rows in (("new", ours), ("old", theirs))
    )
    return decide(new, old, None, gate, workload).outcome == "promote"  # type: ignore[arg-type]


def pair_of_classifiers(
    draw: np.random.Generator, size: int, discordant: float, difference: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Right or wrong on *size* rows; the first is right more often by *difference* in truth."""
    ours, theirs = np.ones(size), np.ones(size)
    chance = draw.random(size)
    theirs[chance < (discordant + difference) / 2] = 0
    ours[chance > 1 - (discordant - difference) / 2] = 0
    return ours, theirs


def share_promoted(difference: float, *, size: int, discordant: float, pairs: int = PAIRS, **chosen: Any) -> int:
    draw = np.random.default_rng(size)
    return sum(
        promoted(ACCURACY, *pair_of_classifiers(draw, size, discordant, difference), floor=0, **chosen)
        for _ in range(pairs)
    )


def said(what: str, found: int, pairs: int) -> float:
    """Print the share with its interval, and return the lower bound."""
    interval = wilson_interval(found, pairs)
    print(f"{what}: {found / pairs:.4f} ({interval.low:.4f} to {interval.high:.4f}) of {pairs} promoted")
    return interval.low


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("discordant", DISCORDANT)
def test_an_equal_student_is_seldom_superior(size: int, discordant: float) -> None:
    """At most alpha of equal students are promoted as better ones."""
    found = share_promoted(0.0, size=size, discordant=discordant, against_champion="superiority")

    assert said(f"superiority, equal, {size} rows, {discordant:.0%} discordant", found, PAIRS) <= ALPHA


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("discordant", DISCORDANT)
def test_a_student_worse_by_the_margin_seldom_passes(size: int, discordant: float) -> None:
    """At most alpha of students that are worse by exactly the margin are promoted as not worse."""
    found = share_promoted(-MARGIN, size=size, discordant=discordant, margin=MARGIN)

    assert (
        said(f"non-inferiority, worse by the margin, {size} rows, {discordant:.0%} discordant", found, PAIRS) <= ALPHA
    )


@pytest.mark.parametrize("skewed", [False, True], ids=["bell", "skewed"])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_losses_too(margin: float, skewed: bool) -> None:
    """Losses row by row, of a bell curve or with a long tail; 400 rows, a true difference of exactly the margin."""
    draw, pairs = np.random.default_rng(7), 2000
    chosen = {"against_champion": "superiority"} if margin == 0 else {"margin": margin}
    found = 0
    for _ in range(pairs):
        theirs = draw.exponential(1, 400) if skewed else draw.normal(5, 1, 400)
        noise = draw.exponential(0.5, 400) - 0.5 if skewed else draw.normal(0, 0.5, 400)
        found += promoted(LOSS, theirs + noise + margin, theirs, floor=1e9, **chosen)

    assert said(f"losses, {'skewed' if skewed else 'bell'}, margin {margin:g}", found, pairs) <= ALPHA


def test_power() -> None:
    """A holdout of 2,000 rows finds what `detectable` promises; curves for three sizes are drawn."""
    differences = np.linspace(-0.04, 0.04, 17)
    curves = {
        (kind, size): [
            share_promoted(float(at), size=size, discordant=0.08, pairs=400, **chosen) / 400 for at in differences
        ]
        for kind, chosen in (
            ("not worse by more than 2 points", {"margin": MARGIN}),
            ("better", {"against_champion": "superiority"}),
        )
        for size in SIZES
    }
    _draw(differences, curves)
    detectable = (1.645 + 0.842) * sqrt(0.08 / 2000)
    found = share_promoted(detectable, size=2000, discordant=0.08, pairs=1000, against_champion="superiority")
    interval = wilson_interval(found, 1000)
    print(f"power at the detectable difference of {100 * detectable:.2f} points: {found / 10:.1f} %")

    assert interval.high > 0.74
    assert interval.low < 0.86


def _draw(differences: NDArray[Any], curves: dict[tuple[str, int], list[float]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    kinds = list(dict.fromkeys(kind for kind, _ in curves))
    figure, axes = plt.subplots(1, len(kinds), figsize=(10, 3.8), sharey=True, layout="constrained")
    colours = dict(zip(SIZES, ("#9ecae1", "#4292c6", "#084594"), strict=True))
    for axis, kind in zip(axes, kinds, strict=True):
        for size in SIZES:
            axis.plot(100 * differences, curves[kind, size], color=colours[size], label=f"{size:,} rows", marker=".")
        axis.axhline(ALPHA, color="0.5", linestyle=":", linewidth=1)
        axis.axvline(-100 * MARGIN if "worse" in kind else 0, color="0.5", linestyle=":", linewidth=1)
        axis.set_title(kind, fontsize=11)
        axis.set_xlabel("true difference to the champion, points of accuracy")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share promoted")
    axes[1].legend(frameon=False, loc="upper left")
    folder = outermost_repository(Path.cwd()) / "var" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / PLOT, dpi=120)
    plt.close(figure)
