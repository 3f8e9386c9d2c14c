"""The measured error of stored rows is the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.soft_targets.codec import CODECS, round_trip
from components.soft_targets.error import ErrorMeter, add_to_all, kl_rows, measure, no_error

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)


def pair(rows: int = 64, classes: int = 100, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(rows)
    live = draw.normal(0, 4, (rows, classes)).astype(np.float32)
    return live, (live + draw.normal(0, noise, live.shape)).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_kl_of_two_classes_by_hand(temperature: float) -> None:
    """Live (T ln 3, 0) against an even row: 0.75 ln 1.5 + 0.25 ln 0.5 at every T."""
    live = np.array([[temperature * math.log(3), 0.0]], dtype=np.float32)

    found = kl_rows(live, np.zeros((1, 2), dtype=np.float32), temperature)

    assert found[0] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("noise", [0.001, 0.1, 30.0])
def test_kl_agrees_with_torch(temperature: float, noise: float) -> None:
    """Row sums of torch's kl_div in double precision, for small and large errors."""
    live, stored = pair(noise=noise)
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x).double() / temperature, dim=1) for x in (live, stored))

    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)

    assert kl_rows(live, stored, temperature) == pytest.approx(expected.numpy(), rel=1e-6, abs=1e-13)


@given(shift=st.floats(-1000, 1000, width=32), temperature=st.sampled_from(TEMPERATURES))
def test_kl_does_not_see_an_offset(shift: float, temperature: float) -> None:
    """A constant added to a row leaves its distribution, but for the rounding of float32."""
    live, _ = pair(8, 10)

    assert kl_rows(live, live + np.float32(shift), temperature).max() < 1e-8


def test_kl_of_distributions_that_hardly_meet_is_finite() -> None:
    """Errors of thousands of nats are measured, not overflowed."""
    live = np.array([[3000.0, 0.0]], dtype=np.float32)

    assert kl_rows(live, -live, 1.0) == pytest.approx([3000.0])


def test_exact_storage_has_no_error() -> None:
    """Equal rows have an error of 0 at every T but for rounding, as the table of fp32 says without looking."""
    live, _ = pair(200, 30)

    found = measure(live, round_trip(CODECS["fp32"], live), TEMPERATURES)

    for temperature, row in no_error(TEMPERATURES).items():
        assert found[temperature] == pytest.approx(row, abs=1e-14)


def test_measuring_in_parts_is_measuring_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure depends on how rows come in."""
    live, stored = pair(301, 7)
    whole = measure(live, stored, TEMPERATURES)
    meter = ErrorMeter(TEMPERATURES)
    monkeypatch.setattr("components.soft_targets.error.VALUES_AT_ONCE", 30)

    for start in range(0, 301, 50):
        meter.add(live[start : start + 50], stored[start : start + 50])

    assert meter.largest_logit_error == np.abs(stored - live).max()
    for temperature, row in whole.items():
        assert meter.table()[temperature] == pytest.approx(row, rel=1e-6)


def test_measuring_together_is_measuring_apart() -> None:
    """Meters that share the live softmax say what each says alone."""
    live, near = pair(50, 10)
    far = near + np.eye(50, 10, dtype=np.float32)
    meters = [ErrorMeter(TEMPERATURES), ErrorMeter(TEMPERATURES)]

    add_to_all(meters, live, [near, far])

    assert [meter.table() for meter in meters] == [measure(live, each, TEMPERATURES) for each in (near, far)]


def test_p99_is_over_rows() -> None:
    """Two bad rows in a hundred move p99, and the mean by their share."""
    live = np.zeros((100, 2), dtype=np.float32)
    stored = live.copy()
    stored[:2, 0] = 5

    table = measure(live, stored, (1.0,))[1.0]

    bad = float(kl_rows(live[:1], stored[:1], 1.0)[0])
    assert table["mean_kl"] == pytest.approx(bad * 0.02)
    assert table["p99_kl"] == pytest.approx(bad, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradients_error_and_bias_are_those_of_the_definition(temperature: float) -> None:
    """|p(live) - p(stored)| of rows, and of their mean, over the mean |1/C - p(live)|."""
    live, stored = pair(300, 12, noise=0.5)
    p, q = (torch.softmax(torch.from_numpy(x).double() / temperature, 1) for x in (live, stored))
    unit = (1 / 12 - p).norm(dim=1).mean()

    row = measure(live, stored, (temperature,))[temperature]

    assert row["gradient_error"] == pytest.approx(float((p - q).norm(dim=1).mean() / unit), rel=1e-6)
    assert row["gradient_bias"] == pytest.approx(float((p - q).mean(0).norm() / unit), rel=1e-6)


def test_the_gradients_error_is_the_same_for_every_student() -> None:
    """Autograd of KL(p(teacher) || p(student)) in the student's logits differs by p(live) - p(stored), whoever learns."""
    live, stored = (torch.from_numpy(x).double() for x in pair(5, 6, noise=0.5))

    def gradient(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        student = student.clone().requires_grad_()
        log_q = torch.log_softmax(student, 1)
        return torch.autograd.grad(
            torch.nn.functional.kl_div(log_q, torch.softmax(teacher, 1), reduction="sum"), student
        )[0]

    for student in (torch.zeros_like(live), torch.randn_like(live)):
        found = gradient(live, student) - gradient(stored, student)
        assert torch.allclose(found, torch.softmax(stored, 1) - torch.softmax(live, 1), atol=1e-12)


def test_a_lean_to_one_side_is_bias_and_noise_is_not() -> None:
    """Errors that all favour one class remain in the mean; errors of either sign cancel."""
    live = np.zeros((1000, 4), dtype=np.float32)
    live[np.arange(1000), np.arange(1000) % 4] = 1
    lean, noise = live.copy(), live.copy()
    lean[:, 0] += 0.1
    noise[:, 0] += np.where(np.arange(1000) // 4 % 2, 0.1, -0.1)

    leaning, noisy = (measure(live, stored, (1.0,))[1.0] for stored in (lean, noise))

    assert leaning["gradient_bias"] > 0.9 * leaning["gradient_error"]
    assert noisy["gradient_bias"] < 0.1 * noisy["gradient_error"]
