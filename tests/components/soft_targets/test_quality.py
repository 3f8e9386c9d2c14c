"""Figures of soft targets, and the bounds that stop a student from using poor ones."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.contracts import UNLABELLED
from components.evaluation import metrics
from components.params import SoftTargetParams
from components.soft_targets.quality import quality
from components.soft_targets.reader import SoftTargets
from components.soft_targets.verdict import explanations
from components.views import ViewBank

PARAMS = SoftTargetParams(batch_size=8, rows_per_chunk=20, temperatures=(1.0, 4.0))
Make = Callable[..., Any]
Quality = tuple[dict[str, Any], dict[str, list[Any]]]


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(50, dtype=np.int64) % 4


@pytest.fixture
def quality_of(make: Make, bank: ViewBank, labels: np.ndarray) -> Callable[..., Quality]:
    def both(folder: Path, *, teacher: Any = None, labels: np.ndarray = labels) -> Quality:
        asked = teacher or make.new_teacher()  # type: ignore[attr-defined]
        return quality(SoftTargets.load(folder), labels=labels, teacher=asked, bank=bank, params=PARAMS)

    return both


@pytest.fixture
def figures_of(quality_of: Make) -> Callable[..., dict[str, Any]]:
    return lambda folder, **changed: quality_of(folder, **changed)[0]


def constant(*logits: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda samples: torch.tensor([logits]).repeat(len(samples), 1)


def test_the_teacher_itself_is_measured_on_the_first_view(
    make: Make, figures_of: Make, expected: np.ndarray, labels: np.ndarray
) -> None:
    """Accuracy, NLL and calibration error of the stored rows are those of the evaluation's own functions."""
    found = figures_of(make(codec="fp32")[0])["labelled_rows"]

    told = labels[make.rows]  # type: ignore[attr-defined]
    assert found["count"] == 37
    assert found["accuracy"] == metrics.accuracy(expected[0], told)
    assert found["nll"] == pytest.approx(metrics.negative_log_likelihood(expected[0], told))
    assert found["ece"] == pytest.approx(metrics.expected_calibration_error(expected[0], told))


def test_rows_without_a_label_do_not_count(make: Make, figures_of: Make, labels: np.ndarray) -> None:
    """Some unlabelled rows are left out; without any label there is nothing to measure."""
    out, _ = make()
    labels[10:] = UNLABELLED

    assert figures_of(out, labels=labels)["labelled_rows"]["count"] == 7
    assert figures_of(out, labels=np.full(50, UNLABELLED))["labelled_rows"] == {"count": 0}


def test_entropy_by_hand(make: Make, figures_of: Make) -> None:
    """Logits (T ln 2, 0, 0, 0) at T=4 have probabilities 2/5 and 1/5 three times."""
    teacher = constant(4 * math.log(2), 0, 0, 0)
    found = figures_of(make(teacher=teacher, codec="fp32")[0], teacher=teacher)

    by_hand = -(0.4 * math.log(0.4) + 0.6 * math.log(0.2))
    assert found["entropy"]["4"] == pytest.approx(
        dict.fromkeys(("mean", "p01", "p05", "p50", "p95", "p99"), by_hand), rel=1e-6
    )
    assert found["log_num_classes"] == pytest.approx(math.log(4))


def test_entropy_is_over_all_rows_of_all_views(make: Make, figures_of: Make, expected: np.ndarray) -> None:
    """The mean over V * N rows."""
    log_p = metrics.log_softmax(expected.reshape(-1, 4))

    assert figures_of(make(codec="fp32")[0])["entropy"]["1"]["mean"] == pytest.approx(
        -(np.exp(log_p) * log_p).sum(1).mean()
    )


def test_the_live_teacher_agrees_with_what_it_said(make: Make, figures_of: Make) -> None:
    """All 111 rows, asked again: the error is that of the codec."""
    exact, half = (figures_of(make(codec=codec)[0])["live"] for codec in ("fp32", "fp16"))

    assert exact["rows"] == half["rows"] == 111
    assert exact["largest_logit_difference"] == 0
    assert 0 < half["kl"]["1"]["mean_kl"] < 1e-5


def test_figures_are_plain_and_repeatable(make: Make, figures_of: Make) -> None:
    """They go to a file of the result, so the same input must give the same text."""
    out, _ = make()

    first, second = (json.dumps(figures_of(out), sort_keys=True, allow_nan=False) for _ in range(2))

    assert first == second


def test_a_row_of_the_table_is_one_that_was_asked_again(
    make: Make, bank: ViewBank, labels: np.ndarray, expected: np.ndarray
) -> None:
    """All 111 rows of this small set, with what the teacher says of each."""
    teacher = make.new_teacher()  # type: ignore[attr-defined]
    labels[5] = UNLABELLED
    _, rows = quality(SoftTargets.load(make(codec="fp32")[0]), labels=labels, teacher=teacher, bank=bank, params=PARAMS)
    row, view = rows["row"][40], rows["view"][40]
    said = expected[view, list(make.rows).index(row)]  # type: ignore[attr-defined]

    assert {len(column) for column in rows.values()} == {111}
    assert rows["largest_logit"][40] == pytest.approx(np.abs(said).max())
    assert rows["teacher_correct"][40] == (said.argmax() == labels[row])
    assert [right for right, row in zip(rows["teacher_correct"], rows["row"], strict=True) if row == 5] == [None] * 3
    assert max(rows["kl_T4"]) < 1e-9
    json.dumps(rows, allow_nan=False)


def problems(found: Quality) -> str:
    return "; ".join(explanations(*found, PARAMS))


def test_good_targets_pass(make: Make, quality_of: Make) -> None:
    """Finite, neither one-hot nor uniform, and true to the teacher."""
    assert problems(quality_of(make()[0])) == ""


def test_one_hot_targets_are_named(make: Make, quality_of: Make) -> None:
    """With the figure and the bound."""
    teacher = constant(60, 0, 0, 0)

    found = problems(quality_of(make(teacher=teacher)[0], teacher=teacher))

    assert "below soft_targets.min_entropy_nats = 0.0001" in found


def test_uniform_targets_are_named(make: Make, quality_of: Make) -> None:
    """An untrained teacher says nothing."""
    teacher = constant(0.01, 0, 0, 0)

    found = problems(quality_of(make(teacher=teacher)[0], teacher=teacher))

    assert "100.0% of log C, above soft_targets.max_entropy_share = 0.99" in found


def test_targets_of_another_teacher_are_named(make: Make, quality_of: Make) -> None:
    """Every temperature at which the live teacher disagrees."""
    out, _ = make()

    found = problems(quality_of(out, teacher=make.new_teacher(scale=1.5)))  # type: ignore[attr-defined]

    assert "live teacher is" in found
    assert "at T=1 over 111" in found
    assert "at T=4 over 111" in found


def test_numbers_that_are_none_are_named(make: Make, quality_of: Make) -> None:
    """A stored NaN stops at the first figure."""
    out, _ = make(codec="fp32")
    content = bytearray((out / "logits.bin").read_bytes())
    content[:4] = np.float32("nan").tobytes()
    (out / "logits.bin").write_bytes(content)

    found = quality_of(out)

    assert found == ({"finite": False}, {})
    assert "not finite" in problems(found)


def test_all_problems_are_named_at_once(make: Make, quality_of: Make) -> None:
    """Softness and truth in one message."""
    figures, rows = copy.deepcopy(quality_of(make()[0]))
    figures["entropy"]["1"]["mean"] = 0.0
    figures["live"]["kl"]["4"]["mean_kl"] = 1.0

    assert len(list(explanations(figures, rows, PARAMS))) == 2
