"""When replayed views matter: stronger and stronger augmentation, with soft targets of the same view or of the clean sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from components.evaluation.over_seeds import paired_difference, spread
from flows.repeat import plain
from tests.studies._runs import ROOT, Subject, digits, keep, own_data

pytestmark = [pytest.mark.study, pytest.mark.timeout(6 * 3600)]
STRENGTHS = {
    "weak": "{name: affine, shift_pixels: 1, rotate_degrees: 3, scale: 0.03}",
    "medium": "{name: affine, shift_pixels: 3, rotate_degrees: 15, scale: 0.15}",
    "strong": "{name: affine, shift_pixels: 7, rotate_degrees: 60, scale: 0.5}",
}
COUNT = 8
SUBJECTS = {"digits": digits, "Fashion-MNIST": lambda: own_data("fashion_mnist", "fashion-mnist")}


@pytest.mark.parametrize("name", SUBJECTS)
def test_replayed_against_clean_soft_targets(name: str) -> None:
    """The student sees the same views in both arms; the hard-label student sees them too."""
    found = {strength: _arms(SUBJECTS[name](), strength) for strength in STRENGTHS}
    keep(f"view_strength, {name}", found)
    _draw(name, found)

    assert found["strong"]["replayed_minus_clean"]["mean"] > found["weak"]["replayed_minus_clean"]["low"]


def _arms(subject: Subject, strength: str) -> dict[str, Any]:
    views = f"student.views={{count: {COUNT}, transforms: [{STRENGTHS[strength]}]}}"
    replayed = subject.accuracies(views)
    clean = subject.accuracies(views, "student.allow_mismatched_views=true")
    hard = subject.accuracies(views, arm="baseline")
    arms = {"hard_labels": hard, "replayed": replayed, "clean": clean}
    return {
        **{name: plain(spread(values)) for name, values in arms.items()},
        "replayed_minus_clean": plain(paired_difference(replayed, clean)),
        "replayed_minus_hard_labels": plain(paired_difference(replayed, hard)),
        "per_seed": arms,
    }


def _draw(name: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
    styles = {"replayed": ("#084594", "o"), "clean": ("#d94801", "s"), "hard_labels": ("0.45", "^")}
    titles = {"replayed": "soft targets of the same view", "clean": "soft targets of the clean sample"}
    for place, (arm, (colour, marker)) in enumerate(styles.items()):
        means = [100 * each[arm]["mean"] for each in found.values()]
        errors = [100 * each[arm]["sd"] for each in found.values()]
        places = [number + (place - 1) * 0.06 for number in range(len(means))]
        axis.errorbar(
            places, means, errors, color=colour, marker=marker, capsize=3, label=titles.get(arm, "hard labels")
        )
    axis.set_xticks(range(len(found)), found)
    axis.set_title(name, fontsize=11)
    axis.set_xlabel("augmentation")
    axis.set_ylabel("test accuracy, %, mean ± sd of 5 seeds")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower left")
    figure.savefig(ROOT / "var" / "studies" / f"view_strength_{name.lower()}.png", dpi=120)
    plt.close(figure)
