"""What every transform must keep; a new file in components/transforms/ is tested by being there."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from components import plugins
from components.contracts import Draws, Mixing, MixingParams, TransformParams
from components.errors import BadInputError
from components.views import ViewDraws, counters_of

COUNT = 12
SHAPES = [(1, 8, 8), (3, 9, 7), (40,)]
LETTERS = tuple(b"aeinorst lcd  ")


def _examples() -> list[Any]:
    found = [(name, plugins.params_class("transforms", name)) for name in plugins.available("transforms")]
    examples = [(name, params, example) for name, params in found for example in _own_examples(params)]
    return [
        pytest.param(params.model_validate(example), id=f"{name}-{n}")
        for n, (name, params, example) in enumerate(examples)
    ]


def _mixing_examples() -> list[Any]:
    return [example for example in _examples() if isinstance(example.values[0], MixingParams)]


def _own_examples(params: type) -> list[dict[str, Any]]:
    return params.model_config.get("json_schema_extra", {}).get("examples", [])  # type: ignore[attr-defined]


def _draws(rows: slice | list[int], *, view: int = 2) -> ViewDraws:
    ids = b"".join(hashlib.sha256(bytes([n])).digest()[:16] for n in range(COUNT))
    counters = counters_of(np.frombuffer(ids, np.uint8).reshape(COUNT, 16)[rows])
    return ViewDraws(counters, seed=1, view=view, device=torch.device("cpu"))


def _samples(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Pictures of random pixels; texts of one length in every three, and of random letters and spaces."""
    generator = torch.Generator().manual_seed(seed)
    if len(shape) > 1:
        return torch.randint(0, 256, (COUNT, *shape), dtype=torch.uint8, generator=generator)
    texts = torch.tensor(LETTERS, dtype=torch.uint8)[
        torch.randint(0, len(LETTERS), (COUNT, *shape), generator=generator)
    ]
    return texts * (torch.arange(*shape) < torch.tensor([20, 31, *shape]).repeat(COUNT // 3)[:, None])


def _made(params: TransformParams, samples: torch.Tensor, draws: Draws, partners: torch.Tensor) -> torch.Tensor:
    step: Any = params.build(tuple(samples.shape[1:]))
    return step(samples, partners, draws) if isinstance(params, MixingParams) else step(samples, draws)


def _fits(params: TransformParams, shape: tuple[int, ...]) -> bool:
    """Colours cannot be asked of pictures that have none, nor words of pictures at all."""
    try:
        params.build(shape)
    except BadInputError:
        return False
    return True


def _fitting() -> list[Any]:
    """Every example with every shape that it takes."""
    return [
        pytest.param(*example.values, shape, id=f"{example.id}-{'x'.join(map(str, shape))}")
        for example in _examples()
        for shape in SHAPES
        if _fits(example.values[0], shape)
    ]


def test_every_transform_gives_an_example_of_its_params() -> None:
    """Params carry json_schema_extra examples, which `potstill params` shows and the tests below use."""
    without = [n for n in plugins.available("transforms") if not _own_examples(plugins.params_class("transforms", n))]

    assert not without


@pytest.mark.parametrize(("params", "shape"), _fitting())
def test_samples_in_samples_out(params: TransformParams, shape: tuple[int, ...]) -> None:
    """uint8 [B, *S] comes back as uint8 [B, *S], and what went in is untouched."""
    samples, partners = _samples(shape), _samples(shape, seed=1)
    before = samples.clone(), partners.clone()

    made = _made(params, samples, _draws(slice(None)), partners)

    assert (made.dtype, made.shape) == (torch.uint8, samples.shape)
    assert torch.equal(samples, before[0])
    assert torch.equal(partners, before[1])
    assert not torch.equal(made, samples)


@pytest.mark.parametrize(("params", "shape"), _fitting())
def test_a_row_does_not_depend_on_the_others(params: TransformParams, shape: tuple[int, ...]) -> None:
    """A sample's view is the same alone as among others."""
    samples, partners = _samples(shape), _samples(shape, seed=1)

    together = _made(params, samples, _draws(slice(None)), partners)

    alone = [_made(params, samples[[row]], _draws([row]), partners[[row]]) for row in range(COUNT)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(("params", "shape"), _fitting())
def test_no_rows_give_no_rows(params: TransformParams, shape: tuple[int, ...]) -> None:
    """An empty batch is nothing special."""
    nothing = _samples(shape)[:0]

    assert _made(params, nothing, _draws([]), nothing).shape == (0, *shape)


@pytest.mark.parametrize("params", _examples())
def test_every_example_takes_some_shape(params: TransformParams) -> None:
    """One at least of those above."""
    assert any(_fits(params, shape) for shape in SHAPES)


@pytest.mark.parametrize("params", _examples())
def test_params_survive_a_round_trip_through_json(params: TransformParams) -> None:
    """A view spec that is stored with soft targets reads back equal."""
    assert type(params).model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize("params", _mixing_examples())
def test_the_share_is_what_the_pixels_say(params: MixingParams) -> None:
    """White mixed with black: the mean of a view is the sample's own share, to the rounding of a pixel."""
    white, black = torch.full((COUNT, 3, 9, 7), 255, dtype=torch.uint8), torch.zeros(COUNT, 3, 9, 7, dtype=torch.uint8)
    mixing: Mixing = params.build((3, 9, 7))

    for view in range(20):
        shares = mixing.shares(_draws(slice(None), view=view))
        made = mixing(white, black, _draws(slice(None), view=view))
        assert shares.dtype == torch.float32
        assert (made.double().mean((1, 2, 3)) / 255 - shares.double()).abs().max() <= 0.5 / 255 + 1e-7


@pytest.mark.parametrize("params", _mixing_examples())
def test_a_sample_mixed_with_itself_stays(params: MixingParams) -> None:
    """Whatever the share."""
    samples = _samples((3, 9, 7))

    assert torch.equal(params.build((3, 9, 7))(samples, samples, _draws(slice(None))), samples)
