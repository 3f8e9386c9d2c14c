"""Shift, flip, rotation and scale agree with hand-made pictures, with each other and with a floating-point oracle."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import BadInputError
from components.transforms._resampling import (
    ONE,
    Motion,
    resampled,
    shifted,
    shrink_table,
    turn_table,
)
from components.transforms.affine import Params
from components.views import ViewDraws, counters_of

GOLDEN_PIXELS = "4967bcaa3bd8d619848c2a7b7cf44862a9ccf974e5da9c95dc4de913fd9652ae"
NO_TURN = (ONE, 0)


def motion(*, x: int = 0, y: int = 0, side: int = 1, turn: tuple[int, int] | None = None, count: int = 1) -> Motion:
    column = [torch.full((count,), value) for value in (side, x, y)]
    return Motion(*column, turn=None if turn is None else torch.tensor([turn] * count))


def picture(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)[None, None]


def noise(count: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def oracle(samples: torch.Tensor, moved: Motion, angle: float, scale: float, padding: str) -> torch.Tensor:
    """The same inverse map in double precision through torch's own grid_sample; float64 [B, ch, H, W]."""
    height, width = samples.shape[2:]
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    u = x - (width - 1) / 2 - moved.shift_x.item()
    v = y - (height - 1) / 2 - moved.shift_y.item()
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    source_x, source_y = moved.side.item() * (cos * u + sin * v), cos * v - sin * u
    grid = torch.stack((source_x * 2 / width, source_y * 2 / height), dim=-1).expand(len(samples), -1, -1, -1)
    return torch.nn.functional.grid_sample(samples.double(), grid, padding_mode=padding, align_corners=False)


def test_shift_moves_right_and_down_and_fills() -> None:
    """One pixel right, one up, on a 3 x 3 picture, by hand."""
    sample = picture([[1, 2, 3], [4, 5, 6], [7, 8, 9]])

    made = shifted(sample, motion(x=1, y=-1), 99)

    assert made[0, 0].tolist() == [[99, 4, 5], [99, 7, 8], [99, 99, 99]]


def test_shift_with_edge_repeats_the_border() -> None:
    """Pixels from outside are those of the nearest border."""
    sample = picture([[1, 2, 3], [4, 5, 6], [7, 8, 9]])

    made = shifted(sample, motion(x=2, y=0), "edge")

    assert made[0, 0].tolist() == [[1, 1, 1], [4, 4, 4], [7, 7, 7]]


def test_flip_mirrors_left_and_right_before_the_shift() -> None:
    """A mirrored picture then moves the way that the shift says."""
    sample = picture([[1, 2, 3]])

    assert shifted(sample, motion(side=-1), 0)[0, 0].tolist() == [[3, 2, 1]]
    assert shifted(sample, motion(side=-1, x=1), 0)[0, 0].tolist() == [[0, 3, 2]]


def test_a_quarter_turn_is_exact() -> None:
    """90 degrees clockwise moves each pixel of a square onto another, without blending."""
    sample = noise(1, 2, 6, 6)

    made = resampled(sample, motion(turn=(0, ONE)), 0)

    assert torch.equal(made, torch.rot90(sample, -1, (2, 3)))


@given(
    size=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    shift=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    side=st.sampled_from([1, -1]),
    fill=st.one_of(st.integers(0, 255), st.just("edge")),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
def test_the_fast_path_has_the_bits_of_the_general_one(
    size: tuple[int, int, int], shift: tuple[int, int], side: int, fill: Any, dtype: torch.dtype
) -> None:
    """Whole-pixel moves give the same pixels as the general map with a turn of nothing."""
    sample = noise(2, *size)
    moves = {"x": shift[0], "y": shift[1], "side": side, "count": 2}

    fast = shifted(sample, motion(**moves), fill)
    general = resampled(sample, motion(**moves, turn=NO_TURN).to(dtype), fill)

    assert torch.equal(fast, general)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("fill", "padding"), [(0, "zeros"), ("edge", "border")])
@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.25), (12.5, 1.0), (-77, 0.6), (180, 1.5)])
def test_the_map_agrees_with_a_floating_point_oracle(
    degrees: float, scale: float, fill: Any, padding: str, side: int
) -> None:
    """On noise, where neighbours differ most, within 3 of 255: weights are 1/256 steps, positions 1/256 pixel."""
    sample = noise(3, 1, 20, 15)
    angle = math.radians(degrees)
    turn = (round(math.cos(angle) / scale * ONE), round(math.sin(angle) / scale * ONE))
    moves = {"x": 2, "y": -3, "side": side, "turn": turn}

    made = resampled(sample, motion(**moves, count=3), fill)

    assert (made.double() - oracle(sample, motion(**moves), angle, scale, padding)).abs().max() <= 3


@given(value=st.integers(0, 255), angle=st.integers(0, 2 * 640), scale=st.integers(0, 2 * 200))
def test_a_plain_picture_stays_plain(value: int, angle: int, scale: int) -> None:
    """Weights sum to one exactly: a picture of one grey keeps it at every angle and scale."""
    sample = torch.full((1, 1, 7, 6), value, dtype=torch.uint8)
    turn = (turn_table(640)[angle] * shrink_table(200)[scale] + (ONE >> 1)) >> 16

    made = resampled(sample, motion(turn=tuple(turn.tolist())), "edge")

    assert torch.equal(made, sample)


def test_tables_are_symmetric_and_exact_at_nothing() -> None:
    """No turn is (1, 0), no scale is 1, and left is the mirror of right."""
    turns = turn_table(64)

    assert turns[64].tolist() == [ONE, 0]
    assert torch.equal(turns.flip(0), turns * torch.tensor([1, -1]))
    assert int(shrink_table(10)[10]) == ONE


def test_positions_get_the_bits_they_need() -> None:
    """32 bits serve pictures of common size, 64 those whose positions would overflow."""
    params = Params(shift_pixels=3, rotate_degrees=1, scale=0.5)
    transform = params.build((1, 4, 20_000))

    assert transform._narrowest(20_000) == torch.int64
    assert transform._narrowest(224) == torch.int32


@pytest.mark.parametrize(
    ("given_params", "problem"),
    [
        ({}, "does nothing"),
        ({"shift_pixels": -1}, "greater than or equal to 0"),
        ({"rotate_degrees": 181}, "less than or equal to 180"),
        ({"rotate_degrees": 0.001}, "rotate_degrees is 0.001, less than one step"),
        ({"scale": 0.0001}, "scale is 0.0001, less than one step"),
        ({"shift_pixels": 1, "fill": 256}, "less than or equal to 255"),
        ({"shift_pixels": 1, "fill": "mirror"}, "edge"),
    ],
)
def test_params_that_make_no_sense_are_refused(given_params: dict[str, Any], problem: str) -> None:
    """Out of range, without effect, or without enough effect for one step."""
    with pytest.raises(ValidationError, match=problem):
        Params.model_validate({"name": "affine", **given_params})


def test_samples_that_are_no_images_are_refused() -> None:
    """Vectors, and pictures smaller than the shift, are named at build."""
    with pytest.raises(BadInputError, match=r"needs images .* samples are \[64\]"):
        Params(shift_pixels=1).build((64,))
    with pytest.raises(BadInputError, match=r"shift_pixels is 8.*at most 7"):
        Params(shift_pixels=8).build((1, 8, 8))


def test_pixels_are_pinned() -> None:
    """All amounts together, on fixed ids, give pixels that never change."""
    ids = np.arange(16 * 32, dtype=np.uint8).reshape(32, 16)
    params = Params(shift_pixels=3, flip_horizontal=True, rotate_degrees=20, scale=0.25, fill=7)
    made = params.build((3, 12, 10))(noise(32, 3, 12, 10), ViewDraws(counters_of(ids), 0, 1, torch.device("cpu")))

    assert hashlib.sha256(made.numpy().tobytes()).hexdigest() == GOLDEN_PIXELS
