"""Facts about saving and loading models."""

from pathlib import Path

import pytest
import torch

from components.artifacts.artifact import Artifact
from components.contracts import DataSpec, ModelParams
from components.errors import ArtifactDamagedError
from components.models import convnet, mlp, resnet
from components.programs import save_program, trace
from components.saved_models import describe, load_model, save_model
from components.training.reproducible import initialised

SPEC = DataSpec((1, 12, 12), ("a", "b", "c"), (0.1,), (0.3,), num_train=9)
FAMILIES: list[ModelParams] = [mlp.Params(hidden=(5,)), convnet.Params(channels=(3, 4)), resnet.Params(depth=8)]
SAMPLES = torch.randint(0, 256, (6, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def saved(folder: Path, params: ModelParams) -> tuple[Artifact, torch.nn.Module]:
    folder.mkdir()
    module = initialised(params, SPEC, seed=0)
    module(SAMPLES)  # moves the running statistics of norms away from where they begin
    save_model(folder, module.eval(), params, SPEC)
    return Artifact("student", "key", "digest", folder), module


@pytest.mark.parametrize("params", FAMILIES, ids=lambda params: params.name)
def test_comes_back_bit_for_bit(tmp_path: Path, params: ModelParams) -> None:
    """The loaded model says exactly what the saved one did, in eval mode, from raw samples."""
    artifact, module = saved(tmp_path / "a", params)
    loaded = load_model(artifact)

    assert not loaded.training
    assert torch.equal(loaded(SAMPLES), module(SAMPLES))


@pytest.mark.parametrize("params", FAMILIES, ids=lambda params: params.name)
def test_same_weights_same_bytes(tmp_path: Path, params: ModelParams) -> None:
    """Saving twice writes the same files."""
    first, second = (saved(tmp_path / name, params)[0].root for name in "ab")

    for name in ("weights.safetensors", "model.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_describes_itself_without_loading(tmp_path: Path) -> None:
    """Family, parameters, number of weights and bytes stand in model.json."""
    artifact, module = saved(tmp_path / "a", mlp.Params(hidden=(5,)))
    described = describe(artifact)

    assert (described.family, described.params["hidden"]) == ("mlp", [5])
    assert described.num_parameters == sum(weight.numel() for weight in module.parameters()) == 144 * 5 + 5 + 15 + 3
    assert described.weight_bytes == artifact.file("weights.safetensors").stat().st_size


def test_weights_of_another_model_are_damage(tmp_path: Path) -> None:
    """Files that do not belong together are named, not loaded in part."""
    artifact, _ = saved(tmp_path / "a", mlp.Params(hidden=(5,)))
    other, _ = saved(tmp_path / "b", mlp.Params(hidden=(6,)))
    artifact.file("weights.safetensors").write_bytes(other.file("weights.safetensors").read_bytes())

    with pytest.raises(ArtifactDamagedError, match=r"weights\.safetensors does not hold the weights of model\.json"):
        load_model(artifact)


@pytest.mark.slow
def test_a_program_loads_like_a_model(tmp_path: Path) -> None:
    """An exported program is a module in eval mode too, may be asked for eval again, and says the same."""
    _, module = saved(tmp_path / "a", convnet.Params(channels=(3, 4)))
    folder = tmp_path / "b"
    folder.mkdir()
    save_program(trace(module, SPEC.sample_shape), folder / "model.pt2")
    (folder / "model.json").write_text('{"format": "torch_export"}', encoding="utf-8")
    artifact = Artifact("teacher", "key", "digest", folder)
    loaded = load_model(artifact).eval()

    torch.testing.assert_close(loaded(SAMPLES), module(SAMPLES))
    assert describe(artifact).family == "torch_export"
    assert describe(artifact).weight_bytes == (folder / "model.pt2").stat().st_size
