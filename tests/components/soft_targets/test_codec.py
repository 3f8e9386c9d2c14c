"""Codecs keep what they promise, and the measured error is the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.soft_targets.codec import CODECS, ErrorMeter, kl_rows, measure, no_error, round_trip

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)


def logits_within(largest: float) -> st.SearchStrategy[np.ndarray]:
    values = st.floats(-largest, largest, width=32, allow_subnormal=True)
    return hnp.arrays(np.float32, shapes, elements=values)


@given(logits=logits_within(float(np.finfo(np.float32).max)))
def test_fp32_keeps_every_bit(logits: np.ndarray) -> None:
    """What is decoded has the very bits that were encoded, subnormal numbers and signed zeros included."""
    assert round_trip(CODECS["fp32"], logits).tobytes() == logits.tobytes()


@given(logits=logits_within(65504))
def test_fp16_rounds_to_nearest(logits: np.ndarray) -> None:
    """Half precision is off by at most 2^-11 of the value, or half of its smallest step."""
    assert CODECS["fp16"].why_not(logits) is None

    off = np.abs(round_trip(CODECS["fp16"], logits).astype(np.float64) - logits)

    assert (off <= np.maximum(np.abs(logits.astype(np.float64)) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize("name", sorted(CODECS))
@given(logits=logits_within(1000))
def test_rows_have_the_stride_that_is_promised(name: str, logits: np.ndarray) -> None:
    """Encoded rows are uint8 [N, stride]."""
    codec = CODECS[name]

    encoded = codec.encode(logits)

    assert (encoded.dtype, encoded.shape) == (np.uint8, (len(logits), codec.row_stride_bytes(logits.shape[1])))


@pytest.mark.parametrize("name", sorted(CODECS))
def test_strided_logits_are_encoded_too(name: str) -> None:
    """A transposed array is encoded by value, not by memory."""
    logits = np.arange(12, dtype=np.float32).reshape(3, 4).T

    assert np.array_equal(round_trip(CODECS[name], logits.copy()), round_trip(CODECS[name], logits))


@pytest.mark.parametrize(("value", "holds"), [(65504.0, True), (-65504.0, True), (65505.0, False), (-1e30, False)])
def test_fp16_refuses_what_would_overflow(value: float, holds: bool) -> None:
    """65504 is its largest value; beyond it the codec says why it cannot."""
    why_not = CODECS["fp16"].why_not(np.array([[0.0, value]], dtype=np.float32))

    assert (why_not is None) == holds
    if why_not:
        assert "65504" in why_not


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_kl_of_two_classes_by_hand(temperature: float) -> None:
    """Live (T ln 3, 0) against an even row: 0.75 ln 1.5 + 0.25 ln 0.5 at every T."""
    live = np.array([[temperature * math.log(3), 0.0]], dtype=np.float32)

    found = kl_rows(live, np.zeros((1, 2), dtype=np.float32), temperature)

    assert found[0] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_agrees_with_torch(temperature: float) -> None:
    """Row sums of torch's kl_div in double precision."""
    draw = np.random.default_rng(0)
    live, stored = (draw.normal(0, 4, (64, 100)).astype(np.float32) for _ in range(2))
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x).double() / temperature, dim=1) for x in (live, stored))

    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)

    assert kl_rows(live, stored, temperature) == pytest.approx(expected.numpy(), rel=1e-9)


def test_exact_storage_has_no_error() -> None:
    """Equal rows have a KL of exactly 0 at every T, as the table of fp32 says without looking."""
    logits = np.random.default_rng(0).normal(0, 9, (200, 30)).astype(np.float32)

    assert measure(logits, round_trip(CODECS["fp32"], logits), TEMPERATURES) == no_error(TEMPERATURES)


def test_measuring_in_parts_is_measuring_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean and p99 do not depend on how rows come in."""
    draw = np.random.default_rng(0)
    live = draw.normal(0, 4, (301, 7)).astype(np.float32)
    stored = (live + draw.normal(0, 0.01, live.shape)).astype(np.float32)
    meter = ErrorMeter(TEMPERATURES)
    for start in range(0, 301, 50):
        meter.add(live[start : start + 50], stored[start : start + 50])
    monkeypatch.setattr("components.soft_targets.codec.VALUES_AT_ONCE", 30)

    for temperature, whole in measure(live, stored, TEMPERATURES).items():
        assert meter.table()[temperature] == pytest.approx(whole, rel=1e-6)


def test_p99_is_over_rows() -> None:
    """Two bad rows in a hundred move p99, and the mean by their share."""
    live = np.zeros((100, 2), dtype=np.float32)
    stored = live.copy()
    stored[:2, 0] = 5

    table = measure(live, stored, (1.0,))[1.0]

    bad = float(kl_rows(live[:1], stored[:1], 1.0)[0])
    assert table["mean_kl"] == pytest.approx(bad * 0.02)
    assert table["p99_kl"] == pytest.approx(bad, rel=1e-6)
