"""Teachers from elsewhere, made into the same artifact as one that was trained here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import sha256_of
from components.contracts import DataSpec, ModelParams, Resolved
from components.errors import ServerError, WeightsError
from components.params import BlackBoxTeacher, MlflowTeacher, TeacherSource, WeightsTeacher
from components.settings import Settings, find_local

if TYPE_CHECKING:
    from torch import Tensor, nn

LISTED = 10
"""Problems of a kind that a message lists."""


def resolve_teacher(source: TeacherSource, settings: Settings) -> Resolved:
    """What *source* means right now: the content's digest for the key, and where to find it.

    Raises WeightsError for a file that is not there, BadInputError for a model that the registry does not know,
    and ServerError where there is no registry.
    """
    if isinstance(source, WeightsTeacher):
        return Resolved(facts={"weights_sha256": _digest(weights_file(source))})
    if isinstance(source, MlflowTeacher):
        from components.registry import resolve_model

        if not settings.tracking_uri:
            raise ServerError(
                f"teacher.source.uri {source.uri!r} needs MLflow, and no address is known: set MLFLOW_TRACKING_URI "
                "(`potstill status` shows that of the local server); `potstill run` sets it by itself"
            )
        found = resolve_model(source.uri, settings.tracking_uri)
        return Resolved(facts={"model_digest": found.digest}, notes={"teacher_uri": found.uri})
    if isinstance(source, BlackBoxTeacher) and source.file:
        return Resolved(facts={"file_sha256": _digest(black_box_file(source))})
    return Resolved()


def black_box_file(source: BlackBoxTeacher) -> Path:
    """Where its answers lie; WeightsError if they do not."""
    assert source.file is not None
    return _found(source.file)


def weights_file(source: WeightsTeacher) -> Path:
    """Where the weights lie, in the working directory or the repository around it; WeightsError if they do not."""
    return _found(source.file)


def _found(file: Path) -> Path:
    found = find_local(file)
    if found is None:
        raise WeightsError(f"teacher.source.file {file} does not exist (looked from {Path.cwd()})")
    return found


def weights_module(file: Path, sha256: str, params: ModelParams, data: DataSpec) -> nn.Module:
    """*params*' model with the weights in *file*, in eval mode; WeightsError lists all that does not fit."""
    import safetensors
    import safetensors.torch

    refuse_change(file, sha256)
    try:
        found = safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{file} is not a safetensors file: {error}") from error
    module = params.build(data)
    problems = list(_misfits(module.state_dict(), found))
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise WeightsError(f"{file} does not fit teacher.model ({params.name}):\n{lines}\n{_way_out(problems)}")
    module.load_state_dict(found)
    return module.eval()


def refuse_change(file: Path, sha256: str) -> None:
    """WeightsError unless *file* is what it was when the key was made."""
    if _digest(file) != sha256:
        raise WeightsError(f"{file} changed while it was about to be read; run the same command again")


def fetch_program(out: Path, uri: str, settings: Settings, data: DataSpec) -> None:
    """Download the torch.export program behind the pinned *uri* into *out*; WeightsError if it is for other data."""
    import json

    from components.registry import download_model

    download_model(uri, settings.tracking_uri, out)
    described = json.loads((out / "model.json").read_text(encoding="utf-8"))
    problems = list(_other_interface(described, data))
    if problems:
        raise WeightsError(f"{uri} cannot teach on this data: {'; '.join(problems)}")


def _other_interface(described: Mapping[str, object], data: DataSpec) -> Iterator[str]:
    if described["sample_shape"] != list(data.sample_shape):
        yield f"it takes samples of shape {described['sample_shape']}, and these are {list(data.sample_shape)}"
    if described["sample_dtype"] != data.sample_dtype:
        yield f"it takes {described['sample_dtype']} samples, and these are {data.sample_dtype}"
    if described["num_outputs"] != data.num_outputs:
        what = "classes" if data.label_kind == "classes" else "targets"
        yield f"it knows {described['num_outputs']} {what}, and the data has {data.num_outputs}"


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    missing = [f"{name} {list(wanted[name].shape)}" for name in wanted if name not in found]
    unexpected = [f"{name} {list(found[name].shape)}" for name in found if name not in wanted]
    both = [name for name in wanted if name in found]
    shapes = [
        f"{name} is {list(found[name].shape)} in the file and {list(wanted[name].shape)} in the model"
        for name in both
        if found[name].shape != wanted[name].shape
    ]
    not_finite = [name for name in both if not found[name].isfinite().all()]
    kinds = {"missing": missing, "unexpected": unexpected, "other shape": shapes, "not finite": not_finite}
    for kind, names in kinds.items():
        yield from (f"{kind}: {name}" for name in sorted(names)[:LISTED])
        if len(names) > LISTED:
            yield f"{kind}: and {len(names) - LISTED} more"


def _way_out(problems: list[str]) -> str:
    if any("missing: prepare." in problem for problem in problems):
        return (
            "prepare.mean and prepare.std are the normalisation that the weights were trained with: one number a channel, "
            "of pixel values scaled to 0..1; add them to the file, and correct teacher.model where more is wrong"
        )
    return "correct teacher.model so that it is the model that these weights are of, or name another file"


def _digest(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise WeightsError(f"teacher.source.file: {file} cannot be read: {error.strerror or error}") from error
