"""What every model family owes; a new file in components/models/ is tested by being there."""

import pytest
import torch
from torch import nn

from components import plugins
from components.contracts import DataSpec, ModelParams
from components.programs import largest_difference, trace
from components.training.reproducible import initialised

NAMES = plugins.available("models")
SPECS = {
    "grey 28x28": DataSpec((1, 28, 28), tuple("0123456789"), (0.13,), (0.31,), num_train=100),
    "colour 9x7": DataSpec((3, 9, 7), tuple("abc"), (0.4, 0.5, 0.6), (0.2, 0.2, 0.3), num_train=100),
}


def built(name: str, spec: DataSpec, *, seed: int = 0) -> nn.Module:
    params = plugins.params_class("models", name).model_validate({"name": name})
    assert isinstance(params, ModelParams)
    return initialised(params, spec, seed=seed).eval()


def samples(spec: DataSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *spec.sample_shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_raw_samples_become_logits(name: str, spec: DataSpec) -> None:
    """uint8 [B, *S] as stored gives finite float32 [B, C]."""
    logits = built(name, spec)(samples(spec, 5))

    assert logits.shape == (5, spec.num_classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_owns_its_prepare(name: str, spec: DataSpec) -> None:
    """`prepare` scales to 0..1, takes the mean off and divides by the deviation, channel by channel, with saved buffers."""
    module, raw = built(name, spec), samples(spec, 4)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.channel_mean, spec.channel_std))

    torch.testing.assert_close(module.prepare(raw), (raw / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert {"prepare.mean", "prepare.std"} <= set(module.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_initial_weights(name: str) -> None:
    """The same seed gives the same bits whatever was drawn before, and another seed gives others."""
    spec = SPECS["grey 28x28"]
    first = built(name, spec, seed=1).state_dict()
    torch.rand(7)
    again, other = built(name, spec, seed=1).state_dict(), built(name, spec, seed=2).state_dict()

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_building_leaves_the_callers_random_state_alone(name: str) -> None:
    """Nothing that the caller draws afterwards depends on a model having been built."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    built(name, SPECS["grey 28x28"])

    assert torch.equal(torch.rand(4), expected)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_exports_for_every_batch_size(name: str, spec: DataSpec) -> None:
    """One exported program says the same as the live model for 1, 2, 7 and 64 samples."""
    module = built(name, spec)
    program = trace(module, spec.sample_shape).module()

    assert largest_difference(module, program, samples(spec, 64).numpy(), (1, 2, 7, 64)) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_learns_with_one_sample_a_class(name: str) -> None:
    """A gradient reaches every parameter."""
    spec = SPECS["colour 9x7"]
    module = built(name, spec).train()
    nn.functional.cross_entropy(module(samples(spec, 6)), torch.arange(6) % 3).backward()

    without = [key for key, weight in module.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
