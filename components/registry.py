"""The MLflow registry door: versions are projections of model artifacts, found by digest, and aliases are read back."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from components.artifacts.artifact import Artifact, FileEntry, payload_digest, sha256_of, write_json
from components.contracts import Tokenized
from components.errors import BadInputError, ExportError, ServerError
from components.tracking import MODEL_PAGES, alone, client, vendor_errors, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from numpy.typing import NDArray
    from torch import Tensor, nn

DIGEST_TAG = "potstill.digest"
DIRTY_TAG = "code.dirty"
"""'true' where the code had uncommitted changes."""
VERSIONS_TAG = "mlflow.modelVersions"
SAMPLE_SHAPE = "sample_shape"
"""Of what the tokenizer takes, in the metadata of a model."""
SAMPLE_TYPES = ("uint8", "float32")
PARITY_BATCHES = (1, 2, 7)
EXAMPLE_ROWS = 2
PARAMETERS = "potstill.params"
"""In the metadata of a model: all of params.yaml."""
PREDICTIONS = "predictions.npz"
"""Beside the model: inputs and what it said to them when it was registered."""
PROGRAM = Path("data", "model.pt2")
"""Where MLflow's torch.export flavour keeps the program."""
READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of one registered model."""

    name: str
    version: str
    uri: str
    """models:/<name>/<version>: never an alias, so it means the same tomorrow."""
    digest: str
    """Of the artifact it was made from; '' when something else registered it."""
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    created: bool = False
    """By this very call."""
    created_at_ms: int = 0
    """By the registry's clock, since 1970."""
    aliases: tuple[str, ...] = ()
    """That stood on it when it was asked for."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What a model URI meant when it was asked."""

    uri: str
    """Pinned: a version or a logged model, no alias."""
    digest: str


def register_model(
    tracking_uri: str,
    *,
    name: str,
    artifact: Artifact,
    run_id: str,
    sample_shape: tuple[int, ...],
    sample_dtype: str = "uint8",
    tags: Mapping[str, str],
    lock_dir: Path,
    metadata: Mapping[str, Any] | None = None,
    about: str = "",
    note: str = "",
) -> RegisteredVersion:
    """Register the model in *artifact* under *name* unless a version with its digest is there already.

    One that uncommitted code had made gets *tags* anew when committed code makes the same.

    It is logged to *run_id* as a torch.export program ([B, *S] as stored -> float32 [B, C], any B), read back
    from the server and held against the live model before there is a version of it. *note* describes the
    version for people, *about* the name, if it is new; both are Markdown. Raises ServerError, and ExportError
    when the two disagree.
    """
    with alone(lock_dir, tracking_uri, name), vendor_errors(tracking_uri):
        mlflow_client = client(tracking_uri)
        found = _find(mlflow_client, name, artifact.digest)
        if found is not None:
            return _registered(_made_again(mlflow_client, found, tags))
        all_tags = {**{key: str(value) for key, value in tags.items()}, DIGEST_TAG: artifact.digest}
        wanted = _Wanted(name, artifact, run_id, sample_shape, sample_dtype, all_tags, metadata or {}, about, note)
        model_id = _logged_model(mlflow_client, tracking_uri, wanted)
        return _registered(_create_version(mlflow_client, tracking_uri, wanted, model_id), created=True)


def current(tracking_uri: str, name: str, alias: str) -> RegisteredVersion | None:
    """The version that *alias* stands for; None without such a model or alias."""
    with vendor_errors(tracking_uri):
        version = _aliases(client(tracking_uri), name).get(alias)
        return None if version is None else _registered(client(tracking_uri).get_model_version(name, str(version)))


def registered_digests(tracking_uri: str) -> frozenset[str]:
    """Every digest that the tags of any version of any registered model hold: its own and those it stands on.

    Raises ServerError when the server does not answer.
    """
    with vendor_errors(tracking_uri):
        mlflow_client, found, token = client(tracking_uri), [], None
        while True:
            versions = mlflow_client.search_model_versions(page_token=token)
            found += versions
            token = versions.token
            if not token:
                break
    values = (str(value) for version in found for value in version.tags.values())
    return frozenset(value for value in values if re.fullmatch(r"[0-9a-f]{64}", value))


def set_alias(tracking_uri: str, name: str, alias: str, version: str) -> RegisteredVersion:
    """Move *alias* to *version* and read it back; raises ServerError when it does not stand there then."""
    with vendor_errors(tracking_uri):
        mlflow_client = client(tracking_uri)
        mlflow_client.set_registered_model_alias(name, alias, version)
        found = _aliases(mlflow_client, name).get(alias)
        if str(found) != str(version):
            raise ServerError(
                f"alias {alias!r} of {name!r} was set to version {version} but stands on {found or 'none'}: "
                "something else moved it at the same moment; run the same command again"
            )
        return _registered(mlflow_client.get_model_version(name, version))


def remove_alias(tracking_uri: str, name: str, alias: str) -> None:
    """Without complaint where there is none."""
    with vendor_errors(tracking_uri):
        if alias in _aliases(client(tracking_uri), name):
            client(tracking_uri).delete_registered_model_alias(name, alias)


def set_tag(tracking_uri: str, version: RegisteredVersion, tag: str, value: str) -> None:
    """Write *value* down at *version*."""
    with vendor_errors(tracking_uri):
        client(tracking_uri).set_model_version_tag(version.name, version.version, tag, value)


def get_version(tracking_uri: str, name: str, version: str) -> RegisteredVersion | None:
    """Version number *version*; None without such a model or version."""
    from mlflow.exceptions import MlflowException

    with vendor_errors(tracking_uri):
        try:
            return _registered(client(tracking_uri).get_model_version(name, version))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def find_version(tracking_uri: str, name: str, digest: str) -> RegisteredVersion | None:
    """The first version that was made from the artifact *digest*; None without such a model or version."""
    with vendor_errors(tracking_uri):
        found = _find(client(tracking_uri), name, digest)
        return None if found is None else _registered(found)


def find_by_tag(tracking_uri: str, name: str, tag: str, value: str, *, also: str) -> RegisteredVersion | None:
    """The latest version whose *tag* is *value* and that has the tag *also*; None without such a model or version."""
    with vendor_errors(tracking_uri):
        found = client(tracking_uri).search_model_versions(f"name = '{name}' and tags.`{tag}` = '{value}'")
        tagged = (version for version in found if also in version.tags)
        latest = max(tagged, key=lambda version: int(version.version), default=None)
        return None if latest is None else _registered(latest)


def resolve_model(uri: str, tracking_uri: str) -> ResolvedModel:
    """Pin *uri* (models:/name@alias, models:/name/version, models:/m-id or runs:/run/path) and digest what it means.

    Raises BadInputError when there is no such model.
    """
    with _asked_for(uri, tracking_uri):
        mlflow_client = client(tracking_uri)
        pinned, tags = _pin(mlflow_client, uri)
        digest = tags.get(DIGEST_TAG)
        if digest is None:
            with _downloaded(pinned, tracking_uri) as folder:
                digest = _content_digest(folder / PROGRAM.parent)
        return ResolvedModel(pinned, digest)


def load_registered(uri: str, tracking_uri: str) -> nn.Module:
    """The registered program itself: [B, *S] as stored -> float32 [B, C]. Raises BadInputError for models of other kinds."""
    with _asked_for(uri, tracking_uri), _downloaded(uri, tracking_uri) as folder:
        return _load(folder, uri)


def parameters_of(uri: str, tracking_uri: str) -> Mapping[str, Any]:
    """All of params.yaml as it was when the model was registered; BadInputError for a model that does not say."""
    from mlflow.models import Model

    with _asked_for(uri, tracking_uri), _downloaded(uri, tracking_uri) as folder:
        found: Mapping[str, Any] | None = (Model.load(str(folder)).metadata or {}).get(PARAMETERS)
    if found is None:
        raise BadInputError(
            f"{uri} does not say with which parameters it was made: it was not registered by this Potstill"
        )
    return found


def download_model(uri: str, tracking_uri: str, out: Path) -> None:
    """Leave `model.pt2` and `model.json` in *out*, and a tokenizer, as components.saved_models.load_model reads them.

    Raises BadInputError for a model that is no torch.export program of one input: uint8, float32, or tokens.
    """
    from components.programs import TOKENIZER

    with _asked_for(uri, tracking_uri), _downloaded(uri, tracking_uri) as folder:
        _load(folder, uri)  # MLflow refuses an archive with pickles in it here
        shape, dtype, num_outputs = _interface(folder, uri)
        shutil.copyfile(folder / PROGRAM, out / PROGRAM.name)
        if (tokenizer := (folder / PROGRAM).with_name(TOKENIZER)).is_file():
            shutil.copyfile(tokenizer, out / TOKENIZER)
        described = {
            "format": "torch_export",
            "sample_shape": shape,
            "sample_dtype": dtype,
            "num_outputs": num_outputs,
        }
        write_json(out / "model.json", described)


def version_url(tracking_uri: str, version: RegisteredVersion) -> str:
    """The version's page; '' without a server."""
    if not tracking_uri.startswith(("http://", "https://")):
        return ""
    page = f"#/models/{quote(version.name)}/versions/{version.version}{MODEL_PAGES}"
    return f"{without_password(tracking_uri).rstrip('/')}/{page}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A version that is not there yet."""

    name: str
    artifact: Artifact
    run_id: str
    sample_shape: tuple[int, ...]
    sample_dtype: str
    tags: Mapping[str, str]
    metadata: Mapping[str, Any]
    about: str
    note: str


def _logged_model(mlflow_client: MlflowClient, tracking_uri: str, wanted: _Wanted) -> str:
    """The id of a model of that run whose status is READY: one that was finished before, or logged and compared now."""
    logged = _begin_model(mlflow_client, wanted)
    if logged.status != "READY":
        _upload_and_compare(mlflow_client, tracking_uri, logged, wanted)
        mlflow_client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def _begin_model(mlflow_client: MlflowClient, wanted: _Wanted) -> LoggedModel:
    """What an earlier attempt left, finished or not, or else a new one that the run knows as its output."""
    from mlflow.entities import LoggedModelOutput

    run = mlflow_client.get_run(wanted.run_id)
    filter_string = f"tags.`{DIGEST_TAG}` = '{wanted.artifact.digest}'"
    found = mlflow_client.search_logged_models([run.info.experiment_id], filter_string)
    usable = [model for model in found if model.source_run_id == wanted.run_id and model.status in ("READY", "PENDING")]
    logged = min(
        usable, key=lambda model: (model.status != "READY", model.creation_timestamp), default=None
    ) or mlflow_client.create_logged_model(
        run.info.experiment_id, wanted.name, source_run_id=wanted.run_id, tags=dict(wanted.tags)
    )
    if logged.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        mlflow_client.log_outputs(wanted.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _upload_and_compare(mlflow_client: MlflowClient, tracking_uri: str, logged: LoggedModel, wanted: _Wanted) -> None:
    from components.saved_models import load_model

    live, samples = load_model(wanted.artifact), _samples(wanted.sample_shape, wanted.sample_dtype)
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        folder = Path(scratch) / "model"
        _save(live, samples, folder, logged, wanted.metadata)
        mlflow_client.log_model_artifacts(logged.model_id, str(folder))
    try:
        _demand_same(live, samples, f"models:/{logged.model_id}", tracking_uri)
    except ExportError:
        mlflow_client.finalize_logged_model(logged.model_id, "FAILED")
        raise


def _made_again(mlflow_client: MlflowClient, found: ModelVersion, tags: Mapping[str, str]) -> ModelVersion:
    """The version, with *tags* where uncommitted code had made it and committed code makes the same one now."""
    if found.tags.get(DIRTY_TAG) != "true" or tags.get(DIRTY_TAG) != "false":
        return found
    for name, value in tags.items():
        mlflow_client.set_model_version_tag(found.name, found.version, name, str(value))
    return mlflow_client.get_model_version(found.name, found.version)


def _create_version(mlflow_client: MlflowClient, tracking_uri: str, wanted: _Wanted, model_id: str) -> ModelVersion:
    """A version, and the link to it that MLflow's page of the logged model shows."""
    _ensure_name(mlflow_client, wanted.name, wanted.about)
    with _default_tracking_uri(tracking_uri):
        made = mlflow_client.create_model_version(
            wanted.name,
            f"models:/{model_id}",
            wanted.run_id,
            dict(wanted.tags),
            description=wanted.note or None,
            await_creation_for=READY_SECONDS,
            model_id=model_id,
        )
    links = json.loads(mlflow_client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    links.append({"name": made.name, "version": str(made.version)})
    mlflow_client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps(links)})
    return made


def _save(
    live: nn.Module, samples: NDArray[Any], folder: Path, logged: LoggedModel, metadata: Mapping[str, Any]
) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model

    from components.programs import TOKENIZER, program_of

    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
    )
    exported, taken = program_of(live, torch.from_numpy(samples))
    shape = {SAMPLE_SHAPE: list(samples.shape[1:])} if isinstance(live, Tokenized) else {}
    with _without_advice(), _without_source_lines():
        mlflow.pytorch.save_model(
            exported,
            str(folder),
            mlflow_model=model,
            signature=_signature(exported, taken.numpy()),
            input_example=taken[:EXAMPLE_ROWS].numpy(),
            pip_requirements=_requirements(),
            serialization_format="pt2",
            metadata={**metadata, **shape},
        )
    _save_predictions(folder / PREDICTIONS, exported, taken)
    if isinstance(live, Tokenized):
        (folder / PROGRAM).with_name(TOKENIZER).write_text(live.tokenizer, encoding="utf-8")


@contextmanager
def _without_advice() -> Iterator[None]:
    """MLflow warns of its own code while it imports it; nothing in that is for the user of this project."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow(\.|$)")
        yield


@contextmanager
def _without_source_lines() -> Iterator[None]:
    """Keep this machine's paths out of the program."""
    from torch.fx import config

    before, config.do_not_emit_stack_traces = config.do_not_emit_stack_traces, True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


def _requirements() -> list[str]:
    """What a process needs to load the model: this project is not among it."""
    from importlib.metadata import version

    return [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "numpy", "torch")]


def _save_predictions(path: Path, exported: nn.Module, taken: Tensor) -> None:
    import numpy as np
    import torch

    with torch.no_grad():
        np.savez(path, inputs=taken.numpy(), outputs=exported(taken).numpy())


def _signature(exported: nn.Module, taken: NDArray[Any]) -> ModelSignature:
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with torch.no_grad():
        logits = exported(torch.from_numpy(taken[:EXAMPLE_ROWS])).numpy()
    # Unnamed: MLflow hands a named array to the model as a dictionary, which its own torch flavour refuses.
    return ModelSignature(
        inputs=Schema([TensorSpec(taken.dtype, (-1, *taken.shape[1:]))]),
        outputs=Schema([TensorSpec(logits.dtype, (-1, *logits.shape[1:]))]),
    )


def _samples(sample_shape: tuple[int, ...], sample_dtype: str) -> NDArray[Any]:
    """A few random ones, the same every time: [max(PARITY_BATCHES), *S]."""
    import numpy as np

    draw, shape = np.random.default_rng(0), (max(PARITY_BATCHES), *sample_shape)
    if sample_dtype == "uint8":
        return draw.integers(0, 256, shape, dtype=np.uint8)
    return draw.standard_normal(shape, dtype=np.float32)


def _demand_same(live: nn.Module, samples: NDArray[Any], uri: str, tracking_uri: str) -> None:
    from components.programs import demand_parity, largest_difference

    with _downloaded(uri, tracking_uri) as folder:
        loaded = _load(folder, uri)
    try:
        difference = largest_difference(live, loaded, samples, PARITY_BATCHES)
    except Exception as error:  # a program that was frozen to one batch size raises on every other
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"the logged model {uri} cannot predict batches of {PARITY_BATCHES}: {reason}") from error
    demand_parity(difference, f"the logged model {uri}")


def _ensure_name(mlflow_client: MlflowClient, name: str, about: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow_client.create_registered_model(name, description=about or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _default_tracking_uri(tracking_uri: str) -> Iterator[None]:
    """Without a server, MLflow's own store looks logged models up at the default URI, whatever its client was told."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _find(mlflow_client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    found = mlflow_client.search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    ready = [version for version in found if version.status == "READY"]
    return min(ready, key=lambda version: int(version.version), default=None)


def _aliases(mlflow_client: MlflowClient, name: str) -> Mapping[str, Any]:
    from mlflow.exceptions import MlflowException

    try:
        aliases: Mapping[str, Any] = mlflow_client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return aliases


def _registered(found: ModelVersion, *, created: bool = False) -> RegisteredVersion:
    version, tags = str(found.version), dict(found.tags)
    uri = f"models:/{found.name}/{version}"
    return RegisteredVersion(
        name=found.name,
        version=version,
        uri=uri,
        digest=tags.get(DIGEST_TAG, ""),
        run_id=found.run_id or "",
        tags=tags,
        created=created,
        created_at_ms=int(found.creation_timestamp or 0),
        aliases=tuple(sorted(found.aliases)),
    )


@contextmanager
def _asked_for(uri: str, tracking_uri: str) -> Iterator[None]:
    """Errors about a URI that the user named: what is not there is bad input, not a broken server."""
    from mlflow.exceptions import MlflowException

    with vendor_errors(tracking_uri):
        try:
            yield
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            where = without_password(tracking_uri)
            raise BadInputError(f"no model {uri!r} at {where}: {error.message}") from error


def _pin(mlflow_client: MlflowClient, uri: str) -> tuple[str, Mapping[str, str]]:
    """A URI without an alias, and the tags that stand there."""
    if match := re.fullmatch(r"models:/(m-[0-9a-f]+)", uri):
        return uri, mlflow_client.get_logged_model(match[1]).tags
    if match := re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri):
        name, alias, version = match.groups()
        version = version or str(mlflow_client.get_model_version_by_alias(name, alias).version)
        return f"models:/{name}/{version}", mlflow_client.get_model_version(name, version).tags
    if match := re.fullmatch(r"runs:/([^/]+)/(.+)", uri):
        return _pin_in_run(mlflow_client, uri, *match.groups())
    raise BadInputError(
        f"model URI {uri!r} is none of models:/<name>@<alias>, models:/<name>/<version>, models:/m-<id>, runs:/<run>/<path>"
    )


def _pin_in_run(mlflow_client: MlflowClient, uri: str, run_id: str, path: str) -> tuple[str, Mapping[str, str]]:
    """The model that the run logged under the name *path*, or else its plain artifact."""
    experiment_id = mlflow_client.get_run(run_id).info.experiment_id
    found = mlflow_client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' and name = '{path}'")
    return (f"models:/{found[0].model_id}", found[0].tags) if found else (uri, {})


@contextmanager
def _downloaded(uri: str, tracking_uri: str) -> Iterator[Path]:
    """The model's folder, for a while."""
    from mlflow.artifacts import download_artifacts

    mlflow_client = client(tracking_uri)
    location = _location(mlflow_client, _pin(mlflow_client, uri)[0])
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        yield Path(download_artifacts(location, dst_path=scratch, tracking_uri=tracking_uri, registry_uri=tracking_uri))


def _location(mlflow_client: MlflowClient, pinned: str) -> str:
    """Where the files are: MLflow itself would look a models:/ URI up at the process-wide tracking URI."""
    scheme, _, rest = pinned.partition(":/")
    if scheme == "runs":
        run_id, _, path = rest.partition("/")
        return f"{mlflow_client.get_run(run_id).info.artifact_uri}/{path}"
    if "/" in rest:
        name, version = rest.split("/")
        source = str(mlflow_client.get_model_version_download_uri(name, version))
        return _location(mlflow_client, source) if source.startswith(("models:/", "runs:/")) else source
    return str(mlflow_client.get_logged_model(rest).artifact_location)


def _load(folder: Path, uri: str) -> nn.Module:
    import mlflow.pytorch

    from components.programs import TOKENIZER, with_tokenizer

    if not (folder / PROGRAM).is_file():
        raise BadInputError(
            f"{uri} holds no torch.export program (no {PROGRAM.as_posix()}): log it again with "
            "mlflow.pytorch.log_model(..., serialization_format='pt2'); pickled models are not loaded"
        )
    with _without_advice():
        loaded: nn.Module = mlflow.pytorch.load_model(str(folder))
    return with_tokenizer(loaded, (folder / PROGRAM).with_name(TOKENIZER))


def _interface(folder: Path, uri: str) -> tuple[list[int], str, int]:
    """Shape and type of a sample, and number of outputs, from the model's signature; where it takes tokens, its metadata."""
    from mlflow.models import Model

    from components.programs import TOKENIZER

    model = Model.load(str(folder))
    tokenized = (folder / PROGRAM).with_name(TOKENIZER).is_file()
    signature = model.signature
    inputs = signature.inputs.inputs if signature and signature.inputs else []
    outputs = signature.outputs.inputs if signature and signature.outputs else []
    kinds = ("int64",) if tokenized else SAMPLE_TYPES
    if len(inputs) != 1 or len(outputs) != 1 or str(inputs[0].type) not in kinds or len(outputs[0].shape) != 2:
        taken = f"{' or '.join(kinds)} [-1, *{'tokens' if tokenized else 'sample shape'}]"
        wanted = f"{taken} -> logits [-1, classes], or numbers [-1, targets]"
        raise BadInputError(f"{uri}: the signature must be {wanted}, but is {signature}")
    shape = model.metadata[SAMPLE_SHAPE] if tokenized else inputs[0].shape[1:]
    return list(shape), "uint8" if tokenized else str(inputs[0].type), int(outputs[0].shape[1])


def _content_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return payload_digest(
        tuple(FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in files)
    )
