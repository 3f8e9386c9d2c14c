"""Facts about boxes that are blown up, with a floating-point oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from components.errors import BadInputError
from components.transforms._boxes import BoxSizes, place, root_table, side_table
from components.transforms._resampling import zoomed
from components.transforms.resized_crop import Params
from components.views import ViewDraws


def both(y: int, x: int) -> tuple[Tensor, Tensor]:
    return torch.tensor([y]), torch.tensor([x])


def oracle(samples: Tensor, starts: tuple[int, int], sizes: tuple[int, int]) -> Tensor:
    """The same box in double precision through torch's own grid_sample; starts and sizes in 1/256 pixel."""
    positions = []
    for length, start, size in zip(samples.shape[2:], starts, sizes, strict=True):
        centres = start / 256 + (torch.arange(length).double() + 0.5) * size / 256 / length
        positions.append(2 * centres / length - 1)
    y, x = torch.meshgrid(*positions, indexing="ij")
    grid = torch.stack((x, y), dim=-1).expand(len(samples), -1, -1, -1)
    return torch.nn.functional.grid_sample(samples.double(), grid, padding_mode="border", align_corners=False)


@given(size=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 100))
def test_the_whole_picture_is_itself(size: tuple[int, int, int], seed: int) -> None:
    """A box as large as the picture changes no pixel, at any size."""
    sample = torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(zoomed(sample, both(0, 0), both(256 * size[1], 256 * size[2])), sample)


def test_half_the_picture_by_hand() -> None:
    """The left half of four pixels: centres at 0.25, 0.75, 1.25 and 1.75 pixels from the left edge."""
    sample = torch.tensor([[[[0, 100, 200, 40]]]], dtype=torch.uint8)

    made = zoomed(sample, both(0, 0), both(256, 512))

    assert made.flatten().tolist() == [0, 25, 75, 125]


@pytest.mark.parametrize("starts", [(0, 0), (700, 300), (1280, 999)])
@pytest.mark.parametrize("sizes", [(2560, 2048), (3000, 2841), (300, 257)])
def test_the_box_agrees_with_a_floating_point_oracle(
    starts: tuple[int, int], sizes: tuple[int, int], noise: Callable[..., Tensor]
) -> None:
    """On noise, where neighbours differ most, within 3 of 255: weights are 1/256 steps, positions 1/256 pixel."""
    sample = noise(1, 2, 20, 15)

    made = zoomed(sample, both(*starts), both(*sizes))

    assert (made.double() - oracle(sample, starts, sizes)).abs().max() <= 3


@given(value=st.integers(0, 255), top=st.integers(0, 500), left=st.integers(0, 500), size=st.integers(1, 1000))
def test_a_plain_picture_stays_plain(value: int, top: int, left: int, size: int) -> None:
    """Weights sum to one exactly."""
    sample = torch.full((1, 1, 6, 7), value, dtype=torch.uint8)

    assert torch.equal(zoomed(sample, both(top, left), both(size, size)), sample)


def test_boxes_have_the_areas_and_shapes_that_were_asked_for(many: ViewDraws) -> None:
    """Shares of the area are even between the two bounds, ratios even in the logarithm, and boxes lie inside."""
    sizes = BoxSizes(200, 200, 256, 512, 1.5)

    height, width = sizes.draw(many, area_word=0, shape_word=1)
    top = place((200 << 8) - height, many, word=2)
    areas, ratios = (height * width).double() / (200 * 256) ** 2, (width.double() / height).log2()

    assert 0.249 < areas.min() < 0.252
    assert 0.498 < areas.max() < 0.501
    assert torch.histc(areas, 8, 0.25, 0.5).sub(2500).pow(2).div(2500).sum() < 24.3
    assert abs(float(ratios.mean())) < 0.01
    assert ratios.abs().max() == pytest.approx(0.585, abs=0.001)
    assert int(top.min()) == 0 or int(top.min()) < 30
    assert bool((top + height <= 200 << 8).all())


def test_a_box_that_is_too_long_is_cut(chosen: Callable[..., Any]) -> None:
    """Of a flat picture a box is never longer than the picture."""
    height, width = BoxSizes(10, 100, 1024, 1024, 2.0).draw(chosen(1, {1: 0}), area_word=0, shape_word=1)

    assert (int(height), int(width)) == (10 << 8, pytest.approx(100 * 0.316 / 1.414 * 256, abs=100))


def test_tables_are_exact_at_the_whole() -> None:
    """The side of the whole of a square picture is its side, no shape is one, and shapes mirror each other."""
    roots = root_table(2.0).double() / (1 << 16)

    assert side_table(28 * 28, 1024, 1024).tolist() == [28 << 16]
    assert roots[64] == 1
    assert (roots * roots.flip(0) - 1).abs().max() < 2e-5


@given(room=st.integers(0, 300))
def test_places_reach_both_ends(room: int) -> None:
    """From 0 to the room that a box leaves, both included."""

    class Extreme:
        def integers(self, low: int, high: int, *, word: int) -> Tensor:
            return torch.tensor([low, high])

    assert place(torch.tensor([room, room]), Extreme(), word=0).tolist() == [0, room]  # type: ignore[arg-type]


def test_places_are_even(many: ViewDraws) -> None:
    """Each of 11 places a fair share of 20,000 boxes (chi-square below its 0.999 quantile)."""
    counts = torch.bincount(place(torch.full((20_000,), 10), many, word=3), minlength=11).double()

    assert float(((counts - 20_000 / 11) ** 2 / (20_000 / 11)).sum()) < 29.6


@pytest.mark.parametrize(
    ("given_params", "problem"),
    [
        ({"area_min": 0.6, "area_max": 0.5}, "area_min is 0.6, more than area_max = 0.5"),
        ({"area_min": 1.0, "aspect_max": 1}, "does nothing"),
        ({"area_min": 0.0}, "greater than or equal to 0.01"),
        ({"aspect_max": 0.5}, "greater than or equal to 1"),
    ],
)
def test_params_that_make_no_sense_are_refused(given_params: dict[str, Any], problem: str) -> None:
    """Out of range, the wrong way round, or without effect."""
    with pytest.raises(ValidationError, match=problem):
        Params.model_validate({"name": "resized_crop", **given_params})


def test_samples_that_are_no_images_are_refused() -> None:
    """Vectors are named at build."""
    with pytest.raises(BadInputError, match=r"transform resized_crop needs images .* samples are \[64\]"):
        Params().build((64,))
