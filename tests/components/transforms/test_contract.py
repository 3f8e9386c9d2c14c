"""What every transform must keep; a new file in components/transforms/ is tested by being there."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from components import plugins
from components.contracts import TransformParams
from components.views import ViewDraws


def _examples() -> list[Any]:
    found = [(name, plugins.params_class("transforms", name)) for name in plugins.available("transforms")]
    examples = [(name, params, example) for name, params in found for example in _own_examples(params)]
    return [
        pytest.param(params.model_validate(example), id=f"{name}-{n}")
        for n, (name, params, example) in enumerate(examples)
    ]


def _own_examples(params: type) -> list[dict[str, Any]]:
    return params.model_config.get("json_schema_extra", {}).get("examples", [])  # type: ignore[attr-defined]


def _draws(rows: slice | list[int]) -> ViewDraws:
    ids = np.frombuffer(b"".join(hashlib.sha256(bytes([n])).digest()[:16] for n in range(12)), np.uint8).reshape(12, 16)
    return ViewDraws(ids[rows], seed=1, view=2, device=torch.device("cpu"))


def _samples(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, (12, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_transform_gives_an_example_of_its_params() -> None:
    """Params carry json_schema_extra examples, which `potstill params` shows and the tests below use."""
    without = [n for n in plugins.available("transforms") if not _own_examples(plugins.params_class("transforms", n))]

    assert not without


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7)])
@pytest.mark.parametrize("params", _examples())
def test_samples_in_samples_out(params: TransformParams, shape: tuple[int, ...]) -> None:
    """uint8 [B, *S] comes back as uint8 [B, *S], and what went in is untouched."""
    samples = _samples(shape)
    before = samples.clone()

    made = params.build(shape)(samples, _draws(slice(None)))

    assert (made.dtype, made.shape) == (torch.uint8, samples.shape)
    assert torch.equal(samples, before)
    assert not torch.equal(made, samples)


@pytest.mark.parametrize("params", _examples())
def test_a_row_does_not_depend_on_the_others(params: TransformParams) -> None:
    """A sample's view is the same alone as among others."""
    samples, transform = _samples((3, 9, 7)), params.build((3, 9, 7))

    together = transform(samples, _draws(slice(None)))

    alone = torch.cat([transform(samples[[row]], _draws([row])) for row in range(12)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("params", _examples())
def test_params_survive_a_round_trip_through_json(params: TransformParams) -> None:
    """A view spec that is stored with soft targets reads back equal."""
    assert type(params).model_validate_json(params.model_dump_json()) == params
