"""Soft targets of teachers that say numbers: the error is told in units of their spread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.errors import SoftTargetsRefusedError
from components.params import SoftTargetParams
from components.soft_targets.choice import candidates, choose
from components.soft_targets.describe import codec_tables
from components.soft_targets.error import NumberMeter, in_words, no_error
from components.soft_targets.header import read_header
from components.soft_targets.quality import quality
from components.soft_targets.reader import SoftTargets
from components.soft_targets.verdict import explanations, row_expectations, summary, summary_expectations
from components.views import ViewBank

Make = Callable[..., Any]


def outputs(rows: int = 400) -> np.ndarray:
    """Two targets, of deviation 50 about 150 and 0.01 about 0."""
    draw = np.random.default_rng(0).normal(size=(rows, 2))
    return (draw * (50, 0.01) + (150, 0)).astype(np.float32)


def numbers(samples: torch.Tensor) -> torch.Tensor:
    """[B, 1, 6, 6] -> [B, 4], of unlike sizes."""
    return torch.stack([s.flatten().float()[:4] * torch.tensor([1.0, 10.0, 0.1, 3.0]) for s in samples])


def test_errors_by_hand() -> None:
    """Values 0 and 2 deviate by 1, 0 and 20 by 10; errors of 0.1 and 1 are a tenth of either."""
    live = np.array([[0.0, 0.0], [2.0, 20.0]], dtype=np.float32)
    meter = NumberMeter()
    meter.add(live[:1], live[:1] + np.float32([0.1, 1.0]))
    meter.add(live[1:], live[1:] - np.float32([0.1, 1.0]))

    assert meter.table()[1.0] == pytest.approx({"relative_rmse": 0.1, "relative_largest": 0.1}, rel=1e-5)
    assert meter.largest_logit_error == pytest.approx(1.0)
    assert in_words(meter.table()[1.0], 1.0) == "RMSE is 0.1 of the outputs' spread"
    assert no_error((4.0,), "numbers") == {1.0: {"relative_rmse": 0.0, "relative_largest": 0.0}}


def test_an_output_that_never_varies_has_no_spread() -> None:
    """Its error counts as it is."""
    meter = NumberMeter()
    meter.add(np.full((3, 1), 7, np.float32), np.full((3, 1), 7.5, np.float32))
    assert meter.table()[1.0]["relative_rmse"] == 0.5


def test_the_smallest_codec_within_the_bound() -> None:
    """Half precision is off by about 1e-3 of the spread where the mean is three times that; none counts steps."""
    rows = outputs()

    def chosen(bound: float, **params: Any) -> str:
        return choose([rows], SoftTargetParams(max_relative_error=bound, **params), 2, "numbers")[0].codec

    assert [codec.name for codec in candidates(SoftTargetParams(), 2, "numbers")] == ["fp16", "fp32"]
    assert (chosen(1e-2), chosen(1e-5)) == ("fp16", "fp32")
    with pytest.raises(
        SoftTargetsRefusedError, match=r"max_relative_error = 1e-05 \(fp16: RMSE is .*max_relative_error to"
    ):
        chosen(1e-5, codec="fp16")


def test_a_set_of_numbers_is_written_judged_and_shown(make: Make, bank: ViewBank, tmp_path: Path) -> None:
    """No entropy and no KL: its error, the teacher's own, and two tables."""
    identity = make.identity.model_copy(update={"labels": "numbers"})  # type: ignore[attr-defined]
    folder, _ = make(teacher=numbers, identity=identity)
    header, params = read_header(folder), SoftTargetParams(batch_size=8, rows_per_chunk=20)
    labels = numbers(bank.samples).numpy()
    labels[5] = np.nan
    figures, rows = quality(SoftTargets.load(folder), labels=labels, teacher=numbers, bank=bank, params=params)

    assert set(header.error) == {"1"}
    assert header.error["1"]["relative_rmse"] <= params.max_relative_error
    assert figures["labelled_rows"]["count"] == 36
    assert figures["labelled_rows"]["rmse"] < 0.1
    assert figures["live"]["relative_rmse"] <= params.max_relative_error
    assert summary(figures) == {"finite": [True], "relative_rmse": [figures["live"]["relative_rmse"]]}
    assert len(summary_expectations(figures, rows, params)) == 3
    assert row_expectations(figures, list(rows))
    assert len(list(codec_tables(header))) == 2
    assert not list(explanations(figures, rows, params))
    tight = params.model_copy(update={"max_relative_error": 1e-9})
    assert header.codec == "fp32" or list(explanations(figures, rows, tight))
