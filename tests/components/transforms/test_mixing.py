"""Facts about mixup and cutmix: exact blends, exact shares, shares as the distribution says."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import special
from torch import Tensor

from components.errors import BadInputError
from components.transforms import cutmix, mixup
from components.transforms._chances import LEVELS, share_table
from components.transforms._mixing import MIDDLE_X, MIDDLE_Y, SHARE, _cut_table
from components.views import ViewDraws

BETAS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0, 64.0]


def level_of(share: int) -> int:
    """A level at which Beta(1, 1) says *share*."""
    return int(torch.nonzero(share_table(1.0) == share)[0])


@given(own=st.integers(0, 255), other=st.integers(0, 255), share=st.integers(0, 256))
def test_a_blend_is_the_nearest_value(own: int, other: int, share: int, chosen: Any) -> None:
    """The exact fraction, rounded to nearest with halves up, at each of 257 shares."""
    pictures = (torch.full((1, 1, 2, 2), value, dtype=torch.uint8) for value in (own, other))

    made = mixup.Params().build((1, 2, 2))(*pictures, chosen(1, {SHARE: level_of(share)}))

    exact = Fraction(own * share + other * (256 - share), 256)
    assert made.flatten().tolist() == [int(exact + Fraction(1, 2))] * 4


def test_a_box_by_hand(chosen: Callable[..., Any]) -> None:
    """Three quarters kept: a box of half of each side about the middle, and cut at the border."""
    samples, partners = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.ones(1, 1, 4, 4, dtype=torch.uint8)
    step = cutmix.Params().build((1, 4, 4))
    words = {SHARE: level_of(192)}

    inner = chosen(1, {**words, MIDDLE_Y: 2, MIDDLE_X: 1})
    corner = chosen(1, {**words, MIDDLE_Y: 0, MIDDLE_X: 3})

    assert step(samples, partners, inner)[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert step(samples, partners, corner)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert (step.shares(inner).item(), step.shares(corner).item()) == (12 / 16, 14 / 16)


@pytest.mark.parametrize("length", [1, 2, 7, 28, 224])
def test_sides_of_boxes_are_the_nearest_pixel(length: int) -> None:
    """length * sqrt(1 - share), at each of 257 shares."""
    exact = length * np.sqrt(1 - np.arange(257) / 256)

    assert np.abs(_cut_table(length).numpy() - exact).max() <= 0.5 + 1e-9
    assert _cut_table(length)[[0, 256]].tolist() == [length, 0]


@pytest.mark.parametrize("beta", BETAS)
def test_shares_follow_the_distribution(beta: float) -> None:
    """As many levels at or below each share as Beta(beta, beta) says, to one level; ascending and symmetric."""
    table = share_table(beta)
    at_most = torch.bincount(table, minlength=257).cumsum(0)[:256].numpy()
    expected = special.betainc(beta, beta, (np.arange(256) + 0.5) / 256) * LEVELS

    assert np.abs(at_most - expected).max() <= 0.5 + 1e-6
    assert bool((table.diff() >= 0).all())
    assert torch.equal(table.flip(0), 256 - table)


@pytest.mark.parametrize("beta", BETAS)
def test_no_share_is_near_the_middle_between_two(beta: float) -> None:
    """Every quantile is a thousand times further from where rounding turns than double precision is off."""
    quantiles = special.betaincinv(beta, beta, (np.arange(LEVELS // 2) + 0.5) / LEVELS)
    from_half = np.abs(quantiles * 256 % 1 - 0.5)

    # Evenly drawn shares are whole numbers of 1/8192: exact in binary, and so are their halves.
    assert from_half.min() > 1e-8 or beta == 1.0


def test_even_shares_are_exact() -> None:
    """Beta(1, 1): 16 levels a share, and half as many for the two ends."""
    counts = torch.bincount(share_table(1.0))

    assert counts.tolist() == [8, *[16] * 255, 8]


def test_shares_of_many_views_are_even(many: ViewDraws) -> None:
    """20,000 views of mixup (chi-square below its 0.999 quantile)."""
    shares = mixup.Params().build((1, 8, 8)).shares(many) * 256
    expected = torch.tensor([0.5, *[1] * 255, 0.5]) * 20_000 / 256

    counts = torch.bincount(shares.long(), minlength=257)
    assert torch.equal(shares, shares.round())
    assert float(((counts - expected) ** 2 / expected).sum()) < 331


@pytest.mark.parametrize("params", [mixup.Params(probability=0.25), cutmix.Params(probability=0.25, beta=4.0)])
def test_as_many_views_are_mixed_as_asked(many: ViewDraws, params: Any) -> None:
    """Out of 20,000, within four standard deviations; the others are the sample alone."""
    shares = params.build((1, 32, 32)).shares(many)

    mixed = int((shares < 1).sum())
    assert abs(mixed - 5000) <= 4 * (20_000 * 0.25 * 0.75) ** 0.5 + 20_000 * 0.25 / 256


@pytest.mark.parametrize("family", [mixup, cutmix])
@pytest.mark.parametrize(
    ("given_params", "problem"),
    [
        ({"beta": 0.01}, "greater than or equal to 0.05"),
        ({"beta": 65}, "less than or equal to 64"),
        ({"probability": 0}, "greater than 0"),
    ],
)
def test_params_out_of_range_are_refused(family: Any, given_params: dict[str, Any], problem: str) -> None:
    """With the bound."""
    with pytest.raises(ValidationError, match=problem):
        family.Params.model_validate(given_params)


def test_boxes_need_images_and_blends_do_not(chosen: Callable[..., Any]) -> None:
    """Vectors are named at build by cutmix, and blended by mixup."""
    vectors: Tensor = torch.full((1, 5), 100, dtype=torch.uint8)

    with pytest.raises(BadInputError, match=r"transform cutmix needs images .* samples are \[5\]"):
        cutmix.Params().build((5,))
    blended = mixup.Params().build((5,))(vectors, 0 * vectors, chosen(1, {SHARE: level_of(64)}))
    assert blended.tolist() == [[25] * 5]
