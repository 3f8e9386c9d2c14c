"""Models as artifacts: safetensors weights beside the parameters to build them with, or a torch.export program."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from torch import Tensor, nn

from components import plugins
from components.artifacts.artifact import Artifact, sha256_of, write_json
from components.contracts import DataSpec, ModelParams, Tokenized
from components.errors import ArtifactDamagedError
from components.exportable import MODEL
from components.programs import TOKENIZER

WEIGHTS = "weights.safetensors"
LEARNED = "learned.json"
PROGRAM = "model.pt2"
COMPOSED = {"ensemble": "components.models._ensemble", "black_box": "components.models._black_box"}
"""Formats of teachers that are no single model with weights: the module that loads them."""
Says = Literal["logits", "log_probabilities"]


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
    """Write weights, model.json and what the model learnt into the folder *out*; the same weights are the same bytes."""
    weights = {name: _plain(tensor) for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(weights, out / WEIGHTS)
    description = {
        "format": "weights",
        "family": params.name,
        "params": params.model_dump(mode="json"),
        "data_spec": {name: value for name, value in asdict(data).items() if name != "learned"},
        "num_parameters": sum(weight.numel() for weight in module.parameters()),
        "weight_bytes": (out / WEIGHTS).stat().st_size,
    }
    write_json(out / MODEL, description)
    if data.learned:
        write_json(out / LEARNED, dict(data.learned))


def save_description(out: Path, form: str, **described: Any) -> None:
    """model.json of one of COMPOSED, in the folder *out* where its members or weights lie already."""
    weight_bytes = sum(path.stat().st_size for name in (WEIGHTS, PROGRAM) for path in out.rglob(name))
    write_json(out / MODEL, {"format": form, "family": form, "params": {}, "weight_bytes": weight_bytes, **described})


def ensemble_description(out: Path, members: Sequence[str], *, combine: str, weights: Sequence[float] | None) -> None:
    """model.json of an ensemble in the folder *out*, whose *members* lie in folders of it."""
    folders = [Artifact("teacher", "", "", out / name) for name in members]
    sizes = [describe(each).num_parameters for each in folders]
    raw = combine == "logits" and all(says(each) == "logits" for each in folders)
    save_description(
        out,
        "ensemble",
        members=list(members),
        combine=combine,
        weights=None if weights is None else list(weights),
        num_parameters=None if None in sizes else sum(size or 0 for size in sizes),
        says="logits" if raw else "log_probabilities",
        exportable=all(_is_plain(each) for each in folders),
    )


def _is_plain(artifact: Artifact) -> bool:
    """Tensor operations from end to end."""
    return artifact.read_json(MODEL)["format"] == "weights" and not isinstance(load_model(artifact), Tokenized)


def save_weights(out: Path, module: nn.Module) -> None:
    """Its state in the folder *out*; the same weights are the same bytes."""
    safetensors.torch.save_file({name: _plain(tensor) for name, tensor in module.state_dict().items()}, out / WEIGHTS)


def load_model(artifact: Artifact) -> nn.Module:
    """The model in eval mode: uint8 [B, *S] -> logits [B, C]. ArtifactDamagedError when its files do not fit each other."""
    described = artifact.read_json(MODEL)
    if described["format"] == "torch_export":
        return load_program(artifact.root)
    if described["format"] in COMPOSED:
        # Named and not imported, so that changing one retrains no teacher of another kind.
        module: nn.Module = importlib.import_module(COMPOSED[described["format"]]).load(
            described, lambda name: load_model(within(artifact, name))
        )
        if not artifact.file(WEIGHTS).exists():
            return module.eval()
    else:
        module = build_model(described, learned_by(artifact))
    try:
        module.load_state_dict(safetensors.torch.load_file(artifact.file(WEIGHTS)))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ArtifactDamagedError(f"{artifact.file(WEIGHTS)} does not hold the weights of {MODEL}: {error}") from error
    return module.eval()


def within(artifact: Artifact, folder: str) -> Artifact:
    """The model in a *folder* of an artifact, as an artifact."""
    return Artifact(artifact.kind, f"{artifact.key}/{folder}", f"{artifact.digest}/{folder}", artifact.root / folder)


def says(artifact: Artifact) -> Says:
    """What the model's answers are: raw logits, or logarithms of probabilities where nobody knows the logits."""
    said: Says = artifact.read_json(MODEL).get("says", "logits")
    return said


def learned_by(artifact: Artifact) -> dict[str, str]:
    """What the model learnt of its training samples before it was built; nothing, for most."""
    learned: dict[str, str] = artifact.read_json(LEARNED) if artifact.file(LEARNED).exists() else {}
    return learned


def build_model(described: dict[str, Any], learned: Mapping[str, str]) -> nn.Module:
    """The module that model.json describes, with weights that mean nothing yet."""
    params = plugins.params_class("models", described["family"]).model_validate(described["params"])
    assert isinstance(params, ModelParams)
    return params.build(replace(_data_spec(described["data_spec"]), learned=learned))


def describe(artifact: Artifact) -> ModelDescription:
    """Family, parameters and size; loads no tensors."""
    described = json.loads(artifact.file(MODEL).read_text(encoding="utf-8"))
    if described["format"] == "torch_export":
        return ModelDescription("torch_export", {}, None, artifact.file(PROGRAM).stat().st_size)
    return ModelDescription(
        described["family"], described["params"], described.get("num_parameters"), described["weight_bytes"]
    )


def model_digest(artifact: Artifact) -> str:
    """Digest of what decides the answers: family, parameters, weights and what was learnt before, or the program.

    Not of what was measured.
    """
    described = artifact.read_json(MODEL)
    if described["format"] in COMPOSED:
        return _composed_digest(artifact, described)
    content = PROGRAM if described["format"] == "torch_export" else WEIGHTS
    decisive = [described.get("family"), described.get("params"), sha256_of(artifact.file(content))]
    decisive += [sha256_of(artifact.file(name)) for name in (LEARNED, TOKENIZER) if artifact.file(name).exists()]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _composed_digest(artifact: Artifact, described: Mapping[str, Any]) -> str:
    members = [model_digest(within(artifact, name)) for name in described.get("members", ())]
    weights = [sha256_of(artifact.file(WEIGHTS))] if artifact.file(WEIGHTS).exists() else []
    return hashlib.sha256(json.dumps([described, members, weights], sort_keys=True).encode()).hexdigest()


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
    """The torch.export program in *folder*, with its tokenizer if it has one, as a module in eval mode."""
    from components import programs

    program = _Program(programs.load_program(folder / PROGRAM))
    return programs.with_tokenizer(program, folder / TOKENIZER)


def _data_spec(saved: dict[str, Any]) -> DataSpec:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    return DataSpec(**fields)


def _plain(tensor: Tensor) -> Tensor:
    """On the host, contiguous and sharing nothing, as safetensors wants it."""
    return tensor.detach().to("cpu").contiguous().clone()
