"""Great Expectations says whether soft targets may be used; the verdict is kept, and its reasons are said in words."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.artifact import Artifact, write_json
from components.artifacts.store import Store
from components.errors import SoftTargetsRefusedError
from components.params import Params
from components.settings import Settings
from components.soft_targets.verdict import explanations
from components.steps.soft_targets_gate import DOCS, KIND, judge
from components.steps.step import World
from components.validation.report import load_report

PARAMS = Params.model_validate(
    {
        "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
        "workload": {"name": "image_classification"},
        "teacher": {"model": {"name": "mlp"}},
        "student": {"model": {"name": "mlp", "hidden": [4]}, "objective": {"name": "kd"}},
        "soft_targets": {"temperatures": (1.0, 4.0)},
        "gate": {"floor": 0.0},
        "registry": {"student": "s", "teacher": "t"},
    }
)
GOOD: dict[str, Any] = {
    "finite": True,
    "entropy": {"1": {"mean": 0.7}, "4": {"mean": 1.2}},
    "log_num_classes": 1.386,
    "live": {"rows": 3, "kl": {"1": {"mean_kl": 1e-6}, "4": {"mean_kl": 1e-7}}, "largest_logit_difference": 0.0},
}
ROWS: dict[str, list[Any]] = {
    "row": [3, 5, 8],
    "view": [0, 0, 1],
    "teacher_correct": [True, None, False],
    "entropy_nats": [0.1, 0.9, 1.386],
    "largest_logit": [3.0, 2.0, 9.5],
    "kl_T1": [1e-6, 0.0, -1e-12],
    "kl_T4": [1e-7, 0.0, 0.0],
}


class Judged:
    """Puts figures before the judge."""

    def __init__(self, folder: Path, settings: Settings, store: Store) -> None:
        self.folder, self.settings, self.store = folder, settings, store

    def __call__(
        self, figures: dict[str, Any], *, rows: dict[str, list[Any]] = ROWS, params: Params = PARAMS, name: str = "a"
    ) -> None:
        root = self.folder / name
        root.mkdir(exist_ok=True)
        write_json(root / "quality.json", figures)
        write_json(root / "quality_rows.json", rows)
        made = Artifact("soft_targets", name * 64, name * 64, root)
        judge(made, World(params, self.settings, {}, self.store))

    def verdicts(self) -> list[Artifact]:
        found = [self.store.find(KIND, key) for key in self.store.storage.keys(KIND)]
        return [verdict for verdict in found if verdict]


@pytest.fixture
def judged(tmp_path: Path, settings: Settings, store: Store) -> Judged:
    return Judged(tmp_path, settings, store)


def changed(place: str, value: Any) -> dict[str, Any]:
    figures = copy.deepcopy(GOOD)
    *path, last = place.split("/")
    inner = figures
    for name in path:
        inner = inner[name]
    inner[last] = value
    return figures


def test_good_targets_pass_and_the_verdict_is_kept(judged: Judged) -> None:
    """Once, as a record without Data Docs, which nobody would open."""
    judged(GOOD)
    judged(GOOD)
    (verdict,) = judged.verdicts()
    report = load_report(verdict)

    assert report.success
    assert report.num_checks > 10
    assert not verdict.measured(DOCS).exists()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("entropy/1/mean", 1e-5, "min_entropy_nats"),
        ("entropy/1/mean", 1.3859, "max_entropy_share"),
        ("live/kl/1/mean_kl", 2e-4, "at T=1"),
        ("live/kl/4/mean_kl", 2e-4, "at T=4"),
    ],
)
def test_each_bound_stops_the_run(judged: Judged, place: str, value: float, said: str) -> None:
    """With what it means, and Data Docs to open."""
    with pytest.raises(SoftTargetsRefusedError, match="soft targets refused") as raised:
        judged(changed(place, value))

    assert said in str(raised.value)
    (verdict,) = judged.verdicts()
    assert str(verdict.measured(DOCS) / "index.html") in str(raised.value)
    assert (verdict.measured(DOCS) / "index.html").exists()


def test_chance_does_not_stop_the_run(judged: Judged) -> None:
    """A mean KL within 3 standard errors of the bound passes; with less spread it is refused, and both figures are said."""
    figures = changed("live/kl/1/mean_kl", 1.1e-4)
    judged(figures, rows={**ROWS, "kl_T1": [0.9e-4, 1.1e-4, 1.3e-4]})

    with pytest.raises(SoftTargetsRefusedError, match=r"0\.00011 .*standard error 5\.8e-07.*max_kl = 0\.0001"):
        judged(figures, rows={**ROWS, "kl_T1": [1.09e-4, 1.1e-4, 1.11e-4]}, name="b")


def test_numbers_that_are_none_stop_the_run(judged: Judged) -> None:
    """There is no other figure then."""
    with pytest.raises(SoftTargetsRefusedError, match="not finite"):
        judged({"finite": False}, rows={})


@pytest.mark.parametrize("column", ["entropy_nats", "largest_logit", "kl_T4"])
def test_one_row_that_cannot_be_stops_the_run(judged: Judged, column: str) -> None:
    """A missing value in the table of rows is no figure at all."""
    with pytest.raises(SoftTargetsRefusedError, match=column):
        judged(GOOD, rows={**ROWS, column: [None, *ROWS[column][1:]]})


def test_a_moved_bound_is_judged_anew(judged: Judged) -> None:
    """And moved back, the verdict from before is found."""
    strict = PARAMS.model_copy(
        update={"soft_targets": PARAMS.soft_targets.model_copy(update={"min_entropy_nats": 1.0})}
    )
    judged(GOOD)
    with pytest.raises(SoftTargetsRefusedError, match="min_entropy_nats = 1"):
        judged(GOOD, params=strict)
    judged(GOOD)

    assert len(judged.verdicts()) == 2


def test_what_is_refused_is_explained(judged: Judged) -> None:
    """The judge and the words agree on every figure, on either side of its bound."""
    cases = [("entropy/1/mean", (9e-5, 1.1e-4, 1.37, 1.373)), ("live/kl/1/mean_kl", (9e-5, 1.1e-4))]
    names = iter("bcdefghijkl")
    for place, values in cases:
        for value in values:
            figures = changed(place, value)
            meant = list(explanations(figures, ROWS, PARAMS.soft_targets))
            if not meant:
                judged(figures, name=next(names))
                continue
            with pytest.raises(SoftTargetsRefusedError) as raised:
                judged(figures, name=next(names))
            assert meant[0] in str(raised.value)
