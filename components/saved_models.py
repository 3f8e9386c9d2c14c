"""Models as artifacts: safetensors weights beside the parameters to build them with, or a torch.export program."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from components import plugins
from components.artifacts.artifact import Artifact, sha256_of, write_json
from components.contracts import DataSpec, ModelParams
from components.errors import ArtifactDamagedError

MODEL = "model.json"
WEIGHTS = "weights.safetensors"
PROGRAM = "model.pt2"


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model artifact says of itself, without loading it."""

    family: str
    """Name of its file in components/models/, or 'torch_export'."""
    params: dict[str, Any]
    num_parameters: int | None
    """Weights that were learnt; unknown of a program."""
    weight_bytes: int
    """On disk."""


def save_model(out: Path, module: nn.Module, params: ModelParams, data: DataSpec) -> None:
    """Write weights and model.json into the folder *out*; the same weights are the same bytes."""
    weights = {name: _plain(tensor) for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(weights, out / WEIGHTS)
    description = {
        "format": "weights",
        "family": params.name,
        "params": params.model_dump(mode="json"),
        "data_spec": asdict(data),
        "num_parameters": sum(weight.numel() for weight in module.parameters()),
        "weight_bytes": (out / WEIGHTS).stat().st_size,
    }
    write_json(out / MODEL, description)


def load_model(artifact: Artifact) -> nn.Module:
    """The model in eval mode: uint8 [B, *S] -> logits [B, C]. ArtifactDamagedError when its files do not fit each other."""
    described = artifact.read_json(MODEL)
    if described["format"] == "torch_export":
        return load_program(artifact.root)
    module = build_model(described)
    try:
        module.load_state_dict(safetensors.torch.load_file(artifact.file(WEIGHTS)))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ArtifactDamagedError(f"{artifact.file(WEIGHTS)} does not hold the weights of {MODEL}: {error}") from error
    return module.eval()


def build_model(described: dict[str, Any]) -> nn.Module:
    """The module that model.json describes, with weights that mean nothing yet."""
    params = plugins.params_class("models", described["family"]).model_validate(described["params"])
    assert isinstance(params, ModelParams)
    return params.build(_data_spec(described["data_spec"]))


def describe(artifact: Artifact) -> ModelDescription:
    """Family, parameters and size; loads no tensors."""
    described = json.loads(artifact.file(MODEL).read_text(encoding="utf-8"))
    if described["format"] == "torch_export":
        return ModelDescription("torch_export", {}, None, artifact.file(PROGRAM).stat().st_size)
    return ModelDescription(
        described["family"], described["params"], described["num_parameters"], described["weight_bytes"]
    )


def model_digest(artifact: Artifact) -> str:
    """Digest of what decides the answers: family, parameters and weights, or the program; not of what was measured."""
    described = artifact.read_json(MODEL)
    content = PROGRAM if described["format"] == "torch_export" else WEIGHTS
    decisive = [described.get("family"), described.get("params"), sha256_of(artifact.file(content))]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class _Program(nn.Module):
    """An exported program, which has no training mode to leave and would refuse to be asked."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.program(samples)
        return logits

    def train(self, mode: bool = True) -> _Program:  # noqa: ARG002 - nn.Module's own signature
        return self


def load_program(folder: Path) -> nn.Module:
    """The torch.export program in *folder*, as a module in eval mode."""
    from components import programs

    return _Program(programs.load_program(folder / PROGRAM))


def _data_spec(saved: dict[str, Any]) -> DataSpec:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    return DataSpec(**fields)


def _plain(tensor: Tensor) -> Tensor:
    """On the host, contiguous and sharing nothing, as safetensors wants it."""
    return tensor.detach().to("cpu").contiguous().clone()
