"""What every model family owes; a new file in components/models/ is tested by being there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from components import plugins
from components.contracts import DataSpec, ModelParams
from components.errors import BadInputError
from components.export.torch_export import export, load
from components.programs import largest_difference
from components.training.reproducible import initialised

NAMES = plugins.available("models")
SPECS = {
    "grey 28x28": DataSpec((1, 28, 28), tuple("0123456789"), (0.13,), (0.31,), num_train=100),
    "colour 9x7": DataSpec((3, 9, 7), tuple("abc"), (0.4, 0.5, 0.6), (0.2, 0.2, 0.3), num_train=100),
    "texts of 40 bytes": DataSpec((40,), tuple("abc"), (0.4,) * 40, (0.2,) * 40, num_train=100),
}
TAKES_NO_SUCH_SAMPLES = "samples have the shape"


def params_of(name: str, checkpoint: Path) -> ModelParams:
    kind = plugins.params_class("models", name)
    given = {"folder": checkpoint, "builder": "tests.components.models.built:make"}
    own = {field: value for field, value in given.items() if field in kind.model_fields}
    params = kind.model_validate({"name": name, **own})
    assert isinstance(params, ModelParams)
    return params


def taken(name: str) -> list[str]:
    """The kinds of samples that the model does not refuse."""
    params = params_of(name, Path("nowhere"))

    def refusal(spec: DataSpec) -> str:
        try:
            params.build(spec)
        except BadInputError as error:
            return str(error)
        return ""

    return [kind for kind, spec in SPECS.items() if TAKES_NO_SUCH_SAMPLES not in refusal(spec)]


PAIRS = [pytest.param(name, SPECS[kind], id=f"{name}-{kind}") for name in NAMES for kind in taken(name)]
OF_IMAGES = [pair for pair in PAIRS if len(pair.values[1].sample_shape) == 3]
Build = Callable[..., nn.Module]


@pytest.fixture
def built(checkpoint: Path) -> Build:
    """built(name, spec, seed=0): as a training begins with it."""

    def build(name: str, spec: DataSpec, *, seed: int = 0) -> nn.Module:
        params = params_of(name, checkpoint)
        return initialised(params, replace(spec, learned=params.learn(samples(spec, 50).numpy())), seed=seed).eval()

    return build


def samples(spec: DataSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    if len(spec.sample_shape) == 3:
        return torch.randint(0, 256, (count, *spec.sample_shape), dtype=torch.uint8, generator=generator)
    letters = torch.tensor(list(b"aeinorst lcd?"), dtype=torch.uint8)
    texts = letters[torch.randint(0, len(letters), (count, *spec.sample_shape), generator=generator)]
    lengths = torch.randint(3, spec.sample_shape[0], (count, 1), generator=generator)
    return texts * (torch.arange(spec.sample_shape[0]) < lengths)


@pytest.mark.parametrize("name", NAMES)
def test_takes_some_kind_of_sample(name: str) -> None:
    """One at least of the kinds above."""
    assert taken(name)


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_raw_samples_become_logits(name: str, spec: DataSpec, built: Build) -> None:
    """uint8 [B, *S] as stored gives finite float32 [B, C]."""
    logits = built(name, spec)(samples(spec, 5))

    assert logits.shape == (5, spec.num_classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(("name", "spec"), OF_IMAGES)
def test_owns_its_prepare(name: str, spec: DataSpec, built: Build) -> None:
    """`prepare` scales to 0..1, takes the mean off and divides by the deviation, channel by channel, with saved buffers."""
    module, raw = built(name, spec), samples(spec, 4)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.channel_mean, spec.channel_std))

    torch.testing.assert_close(module.prepare(raw), (raw / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert {"prepare.mean", "prepare.std"} <= set(module.state_dict())


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_seed_decides_the_initial_weights(name: str, spec: DataSpec, built: Build) -> None:
    """The same seed gives the same bits whatever was drawn before, and another seed gives others."""
    first = built(name, spec, seed=1).state_dict()
    torch.rand(7)
    again, other = built(name, spec, seed=1).state_dict(), built(name, spec, seed=2).state_dict()

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_building_leaves_the_callers_random_state_alone(name: str, spec: DataSpec, built: Build) -> None:
    """Nothing that the caller draws afterwards depends on a model having been built."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    built(name, spec)

    assert torch.equal(torch.rand(4), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_exports_for_every_batch_size(name: str, spec: DataSpec, built: Build, tmp_path: Path) -> None:
    """One exported program says the same as the live model for 1, 2, 7 and 64 samples."""
    module = built(name, spec)
    program = load(export(module, spec.sample_shape, tmp_path))

    assert largest_difference(module, program, samples(spec, 64).numpy(), (1, 2, 7, 64)) <= 1e-5


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_learns_with_one_sample_a_class(name: str, spec: DataSpec, built: Build) -> None:
    """A gradient reaches every parameter that is not frozen."""
    module = built(name, spec).train()
    nn.functional.cross_entropy(module(samples(spec, 6)), torch.arange(6) % spec.num_classes).backward()

    learning = {key: weight for key, weight in module.named_parameters() if weight.requires_grad}
    without = [key for key, weight in learning.items() if weight.grad is None or not weight.grad.any()]
    assert learning
    assert without == []
