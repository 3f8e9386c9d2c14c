"""Facts about brightness, contrast, saturation and hue, with a floating-point oracle."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from components.errors import BadInputError
from components.transforms._colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, Jitter, hue_table, mean_luma
from components.transforms.color_jitter import Params
from components.views import ViewDraws

ALL = Jitter(256, 256, 256, 180)
NEUTRAL = {BRIGHTNESS: 256, CONTRAST: 256, SATURATION: 256, HUE: 180}
LUMA = torch.tensor([77, 150, 29]).double() / 256


def oracle(samples: Tensor, brightness: float, contrast: float, saturation: float, degrees: float) -> Tensor:
    """The same in double precision, one after the other."""
    angle, values = math.radians(degrees), samples.double()
    mean = torch.einsum("c,bchw->b", LUMA, values)[:, None, None, None] / samples[0, 0].numel()
    grey = torch.einsum("c,bchw->bhw", LUMA, values)[:, None]
    values = grey + saturation * (values - grey)
    axis = torch.ones(3).double() / math.sqrt(3)
    cross = torch.linalg.cross(axis.view(1, 3, 1, 1).expand_as(values), values, dim=1)
    along = torch.einsum("c,bchw->bhw", axis, values)[:, None] * axis.view(1, 3, 1, 1)
    values = values * math.cos(angle) + cross * math.sin(angle) + along * (1 - math.cos(angle))
    return (brightness * (mean + contrast * (values - mean))).clamp(0, 255)


@given(
    factors=st.tuples(st.integers(0, 512), st.integers(0, 512), st.integers(0, 512)),
    degrees=st.integers(-180, 180),
    seed=st.integers(0, 1000),
)
def test_the_map_agrees_with_a_floating_point_oracle(
    factors: tuple[int, int, int], degrees: int, seed: int, chosen: Any
) -> None:
    """On noise, at any factors and angle, within 1 of 255."""
    sample = torch.randint(0, 256, (1, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    words = dict(zip((BRIGHTNESS, CONTRAST, SATURATION), factors, strict=True)) | {HUE: 180 + degrees}

    made = ALL(sample, chosen(1, words))

    expected = oracle(sample, *(factor / 256 for factor in factors), degrees)
    assert (made.double() - expected).abs().max() <= 1


@given(brightness=st.integers(0, 512), contrast=st.integers(0, 512), channels=st.sampled_from([1, 2, 3]))
def test_without_colours_one_factor_serves(brightness: int, contrast: int, channels: int, chosen: Any) -> None:
    """Brightness and contrast alone, of any number of channels, within 1 of the formula."""
    generator = torch.Generator().manual_seed(brightness)
    sample = torch.randint(0, 256, (1, channels, 6, 5), dtype=torch.uint8, generator=generator)
    weights = LUMA if channels == 3 else torch.full((channels,), 1 / channels).double()

    made = Jitter(256, 256, 0, 0)(sample, chosen(1, {BRIGHTNESS: brightness, CONTRAST: contrast}))

    mean = torch.einsum("c,bchw->", weights, sample.double()) / 30
    expected = brightness / 256 * (mean + contrast / 256 * (sample.double() - mean))
    assert (made.double() - expected.clamp(0, 255)).abs().max() <= 1


def test_nothing_drawn_is_nothing_done(chosen: Callable[..., Any], noise: Callable[..., Tensor]) -> None:
    """Factors of one and no turn give the very pixels."""
    sample = noise(2, 3, 8, 7)

    assert torch.equal(ALL(sample, chosen(2, NEUTRAL)), sample)
    assert torch.equal(Jitter(256, 256, 0, 0)(sample, chosen(2, NEUTRAL)), sample)


@given(value=st.integers(0, 255), saturation=st.integers(0, 512), degrees=st.integers(0, 360))
def test_a_grey_pixel_stays_grey(value: int, saturation: int, degrees: int, chosen: Any) -> None:
    """Saturation and hue do nothing to it, at any amount, to the bit."""
    sample = torch.full((1, 3, 2, 2), value, dtype=torch.uint8)

    assert torch.equal(ALL(sample, chosen(1, {**NEUTRAL, SATURATION: saturation, HUE: degrees})), sample)


def test_no_saturation_is_grey(chosen: Callable[..., Any], noise: Callable[..., Tensor]) -> None:
    """All channels become the luma of the pixel."""
    sample = noise(1, 3, 5, 5)

    made = ALL(sample, chosen(1, {**NEUTRAL, SATURATION: 0}))

    assert torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made[:, 0], made[:, 2])
    assert (made[:, 0].double() - torch.einsum("c,bchw->bhw", LUMA, sample.double())).abs().max() <= 1


def test_a_third_of_the_circle_moves_the_channels(chosen: Callable[..., Any], noise: Callable[..., Tensor]) -> None:
    """120 degrees take red to green, green to blue, blue to red; the other way round the other way."""
    sample = noise(1, 3, 5, 5)

    assert torch.equal(ALL(sample, chosen(1, {**NEUTRAL, HUE: 300})), sample.roll(1, dims=1))
    assert torch.equal(ALL(sample, chosen(1, {**NEUTRAL, HUE: 60})), sample.roll(-1, dims=1))


@pytest.mark.parametrize("degrees", [-60, 30, 90])
def test_hue_turns_the_way_that_hsv_counts(degrees: int, chosen: Callable[..., Any]) -> None:
    """Of a mild colour, that leaves the cube nowhere, within 6 degrees of the HSV hue."""
    sample = torch.tensor([140, 120, 110], dtype=torch.uint8).view(1, 3, 1, 1)

    made = ALL(sample, chosen(1, {**NEUTRAL, HUE: 180 + degrees})).flatten().tolist()

    hues = [360 * colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0] for colour in ([140, 120, 110], made)]
    assert (hues[1] - hues[0] - degrees + 180) % 360 - 180 == pytest.approx(0, abs=6)


def test_rows_of_the_turns_sum_to_one() -> None:
    """Exactly, at each of 361 angles, and no turn is the identity."""
    table = hue_table(180)

    assert bool((table.sum(2) == 1 << 12).all())
    assert torch.equal(table[180], torch.eye(3, dtype=torch.int64) << 12)


def test_mean_luma_by_hand() -> None:
    """(77 * 10 + 150 * 20 + 29 * 30) / 256 of a plain picture, in 1/256; the plain mean of other pictures."""
    colours = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)

    assert mean_luma(colours).tolist() == [77 * 10 + 150 * 20 + 29 * 30]
    assert mean_luma(colours[:, :2]).tolist() == [15 * 256]


def test_factors_are_even(many: ViewDraws) -> None:
    """The brightness of a plain picture takes all values between its extremes, a fair share each."""
    jitter = Params(brightness=0.25).build((1, 1, 1))

    made = jitter(torch.full((20_000, 1, 1, 1), 128, dtype=torch.uint8), many).flatten()  # type: ignore[operator]

    assert (int(made.min()), int(made.max())) == (96, 160)
    counts = torch.histc(made[(made > 96) & (made < 160)].double(), 63, 97, 159)
    assert float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 104


@pytest.mark.parametrize(
    ("given_params", "problem"),
    [
        ({}, "does nothing"),
        ({"brightness": 1.5}, "less than or equal to 1"),
        ({"contrast": 0.001}, "contrast is 0.001, less than one step of 0.00390625"),
        ({"hue_degrees": 181}, "less than or equal to 180"),
    ],
)
def test_params_that_make_no_sense_are_refused(given_params: dict[str, Any], problem: str) -> None:
    """Out of range, without effect, or without enough effect for one step."""
    with pytest.raises(ValidationError, match=problem):
        Params.model_validate({"name": "color_jitter", **given_params})


def test_colours_are_not_asked_of_pictures_without() -> None:
    """Saturation and hue of one channel are refused with the way out, brightness is not."""
    with pytest.raises(
        BadInputError, match=r"need RGB images, and samples have 1 channel: set both to 0 and keep bright"
    ):
        Params(saturation=0.1).build((1, 8, 8))
    with pytest.raises(BadInputError, match="samples have 4 channels"):
        Params(hue_degrees=5).build((4, 8, 8))
    with pytest.raises(BadInputError, match=r"transform color_jitter needs images"):
        Params(brightness=0.5).build((8, 8))
    Params(brightness=0.5, contrast=0.5).build((1, 8, 8))
