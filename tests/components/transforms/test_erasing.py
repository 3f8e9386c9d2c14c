"""Facts about boxes that are painted over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from components.errors import BadInputError
from components.transforms._boxes import inside
from components.transforms._chances import Chance
from components.transforms.erasing import Params
from components.views import ViewDraws


def test_which_pixels_lie_in_a_box() -> None:
    """From the start up to, not including, the end; a box without height holds none."""
    box = inside(
        (torch.tensor([1, 0]), torch.tensor([2, 0])), (torch.tensor([3, 0]), torch.tensor([4, 4])), shape=(4, 4)
    )

    assert box[0, 0].int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert not box[1].any()


def erased(samples: Tensor, draws: ViewDraws, **given: Any) -> Tensor:
    """Which pixels of each view are gone, [B, H, W] bool."""
    transform: Any = Params(**given).build(tuple(samples.shape[1:]))
    return (transform(samples, draws) != samples).any(1)


def test_boxes_have_the_areas_that_were_asked_for(many: ViewDraws) -> None:
    """Every view loses one box of whole pixels, with a share of the area between the bounds, to half a pixel a side."""
    gone = erased(torch.ones(20_000, 1, 32, 32, dtype=torch.uint8), many, probability=1, area_min=0.1, area_max=0.2)

    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), rows * columns)
    share = gone.double().mean((1, 2))
    assert 0.085 < share.min() < 0.105
    assert 0.195 < share.max() < 0.215
    assert share.mean() == pytest.approx(0.15, abs=0.002)


def test_boxes_lie_everywhere(many: ViewDraws) -> None:
    """Mirrored pixels go equally often, and the middle more often than the corners."""
    gone = erased(torch.ones(20_000, 1, 8, 8, dtype=torch.uint8), many, probability=1, area_max=0.1).double().mean(0)

    assert (gone - gone.flip(0)).abs().max() < 0.015
    assert (gone - gone.flip(1)).abs().max() < 0.015
    assert gone.min() > 0
    assert gone[3:5, 3:5].min() > gone[0, 0]


@pytest.mark.parametrize("probability", [0.25, 0.5, 1.0])
def test_as_many_views_lose_a_box_as_asked(many: ViewDraws, probability: float) -> None:
    """Out of 20,000, within four standard deviations."""
    gone = erased(torch.ones(20_000, 1, 8, 8, dtype=torch.uint8), many, probability=probability)

    spread = (20_000 * probability * (1 - probability)) ** 0.5
    assert abs(int(gone.any((1, 2)).sum()) - 20_000 * probability) <= 4 * spread


def test_what_lies_outside_the_box_stays(many: ViewDraws, noise: Callable[..., Tensor]) -> None:
    """A pixel is the sample's or the fill's."""
    samples = noise(1, 3, 9, 8).expand(20_000, -1, -1, -1)[:500]
    part = ViewDraws(many.counters[:, :500], many.seed, many.view, many.device)
    transform: Any = Params(probability=1, fill=7).build((3, 9, 8))

    made = transform(samples, part)

    assert bool(((made == samples) | (made == 7)).all())


def test_noise_is_even_and_differs_between_views_and_channels(many: ViewDraws) -> None:
    """All 256 values come up equally often (chi-square below its 0.999 quantile)."""
    part = ViewDraws(many.counters[:, :2000], many.seed, many.view, many.device)
    transform: Any = Params(probability=1, area_min=1, area_max=1, aspect_max=1, fill="noise").build((3, 8, 8))

    made = transform(torch.zeros(2000, 3, 8, 8, dtype=torch.uint8), part)

    counts = torch.bincount(made.flatten().long(), minlength=256).double()
    assert float(((counts - 1500) ** 2 / 1500).sum()) < 330
    assert (made[0] != made[1]).double().mean() > 0.9
    assert (made[:, 0] != made[:, 1]).double().mean() > 0.9


def test_a_chance_is_a_whole_number_of_steps() -> None:
    """To the nearest of 65,536, and never nothing."""
    assert [Chance.of(share).wins for share in (1e-9, 0.5, 1.0)] == [1, 32768, 65536]
    assert [Chance.of(share).always for share in (0.5, 1.0)] == [False, True]


@pytest.mark.parametrize(
    ("given_params", "problem"),
    [
        ({"area_min": 0.5, "area_max": 0.2}, "area_min is 0.5, more than area_max = 0.2"),
        ({"probability": 0}, "greater than 0"),
        ({"fill": "black"}, "noise"),
        ({"fill": 256}, "less than or equal to 255"),
    ],
)
def test_params_that_make_no_sense_are_refused(given_params: dict[str, Any], problem: str) -> None:
    """Out of range, or the wrong way round."""
    with pytest.raises(ValidationError, match=problem):
        Params.model_validate({"name": "erasing", **given_params})


def test_samples_that_are_no_images_are_refused() -> None:
    """Vectors are named at build."""
    with pytest.raises(BadInputError, match=r"transform erasing needs images .* samples are \[64\]"):
        Params().build((64,))
