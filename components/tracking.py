"""The MLflow tracking door: runs are projections of committed results, found again by an identity tag and never doubled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from components.artifacts.disk import refusal
from components.artifacts.lock import held
from components.errors import BadInputError, PotstillError, ServerError, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Item = TypeVar("Item")

IDENTITY_TAG = "potstill.identity"
COMPLETE_TAG = "potstill.complete"
"""Set last, to the contents: a run without it is filled in again, which changes nothing that is there already."""
STEP_TAG = "potstill.step"
PARENT_TAG = "mlflow.parentRunId"
TOTALS_TAG, TOTALS_STEP_TAG = "potstill.totals.last", "potstill.totals.step"
"""Who added to the running totals last, and how many have."""

METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
"""Also of tags; both bounds are MLflow's."""
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 8000
DATASET_DIGEST_CHARACTERS = 36
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What kind of experiment MLflow's pages show; left out, they guess from what was logged."""
MODEL_PAGES = "?workflowType=machine_learning"
"""At the end of a link: without it, a browser that is new to MLflow gets its pages about prompts and traces."""
LOCK_WAIT_SECONDS = 600.0

QUIET_AND_QUICK = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Seven retries, the vendor's default, are four minutes of silence.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
_VENDORS = frozenset({"mlflow", "requests", "urllib3", "sqlalchemy", "alembic", "botocore", "boto3", "sqlite3"})


class MetricPoint(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """The data a run read, as MLflow shows it."""

    name: str
    digest: str
    """Shown up to 36 characters; the whole one belongs in the tags."""
    source: str
    """Repository, path and revision, for people."""
    context: str = "training"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a run shall say, all of it taken from committed results."""

    name: str
    """Of a child: the step's."""
    identity: str
    """The digest of what the run is about: one run an identity and experiment."""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[MetricPoint] = ()
    dataset: DatasetRef | None = None
    artifacts: Sequence[tuple[Path, str]] = ()
    """(a file or a folder, the folder of the run it goes into; '' is the run's root)."""
    draw: Callable[[Path], None] | None = None
    """Fills a folder with plots and pages, which become the run's own; called only when the run is really logged."""
    status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED"
    start_ms: int | None = None
    end_ms: int | None = None
    contents: str = "true"
    """Digest of what it says, of a run that may come to say more: one that says something else is filled in again."""


@dataclass(frozen=True, slots=True)
class ProjectedRuns:
    """Where the runs are, and which of them were not there before."""

    parent_run_id: str
    children: Mapping[str, str]
    """Run id by the child's name."""
    created: tuple[str, ...]
    """Names of the runs made, or filled in, by this call."""
    experiment_id: str
    url: str
    """Page of the parent run; '' when no server shows one."""


def probe(tracking_uri: str, *, timeout_seconds: float = 5.0) -> None:
    """Return when MLflow answers at *tracking_uri*; raise ServerError, quickly, when it does not."""
    scheme = urlsplit(tracking_uri).scheme
    if scheme in ("", "file"):
        raise BadInputError(
            f"tracking URI {tracking_uri!r}: MLflow keeps no runs in plain folders any more; "
            "give http(s)://host:port, sqlite:///file, or nothing for the local server"
        )
    if scheme in ("http", "https"):
        _probe_health(tracking_uri, timeout_seconds)
    with vendor_errors(tracking_uri):
        client(tracking_uri).search_experiments(max_results=1)


def _probe_health(tracking_uri: str, timeout_seconds: float) -> None:
    url = tracking_uri.rstrip("/") + "/health"
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:  # noqa: S310 - probe lets http(s) pass only
            healthy = answer.status == 200 and answer.read(16).strip() == b"OK"
    except urllib.error.HTTPError as error:
        healthy = error.code in (401, 403)  # behind a proxy that wants a login: the real client knows it
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{without_password(tracking_uri)}: no tracking server answers: {_reason(error)}{WAY_OUT}"
        ) from error
    if not healthy:
        raise ServerError(f"{without_password(tracking_uri)}: something answers, but it is no healthy MLflow{WAY_OUT}")


def _reason(error: Exception) -> str:
    return str(error.reason if isinstance(error, urllib.error.URLError) else error)


WAY_OUT = ". Start it (`potstill up` starts a local one), or set MLFLOW_TRACKING_URI"


def project_run(
    tracking_uri: str,
    experiment: str,
    parent: RunSpec,
    children: Sequence[RunSpec],
    *,
    lock_dir: Path,
    artifact_root: str | None = None,
) -> ProjectedRuns:
    """Make the parent run and its children appear, once: what is there and complete is left alone.

    A child that has a complete run already, under whatever parent, gets no second one. A run that was
    left half-logged is filled in. *lock_dir* keeps two processes of this machine from making the same
    run; *artifact_root* is where a new experiment's files go (default: the server's own choice; beside
    the file for SQLite). Raises ServerError.
    """
    with alone(lock_dir, tracking_uri, experiment), vendor_errors(tracking_uri):
        mlflow_client = client(tracking_uri)
        experiment_id = _experiment_id(mlflow_client, tracking_uri, experiment, artifact_root)
        projection = _Projection(mlflow_client, experiment_id)
        parent_id = projection.begin(parent, {})
        ids = {
            child.name: projection.project(child, {PARENT_TAG: parent_id, STEP_TAG: child.name}) for child in children
        }
        projection.finish(parent, parent_id)
    return ProjectedRuns(
        parent_id, ids, tuple(projection.created), experiment_id, run_url(tracking_uri, experiment_id, parent_id)
    )


def project_child(tracking_uri: str, experiment: str, parent_run_id: str, child: RunSpec, *, lock_dir: Path) -> str:
    """Make one more child of a run that is there already appear, once; returns its run id. Raises ServerError."""
    with alone(lock_dir, tracking_uri, experiment), vendor_errors(tracking_uri):
        mlflow_client = client(tracking_uri)
        experiment_id = _experiment_id(mlflow_client, tracking_uri, experiment, None)
        return _Projection(mlflow_client, experiment_id).project(
            child, {PARENT_TAG: parent_run_id, STEP_TAG: child.name}
        )


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """What a run that was logged completely says."""

    run_id: str
    experiment_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""


def find_run(tracking_uri: str, tags: Mapping[str, str], *, experiment_id: str = "") -> LoggedRun | None:
    """The first complete run with these *tags*, in any experiment without *experiment_id*; None where there is none.

    Raises ServerError.
    """
    if any("'" in value for value in tags.values()):
        return None
    with vendor_errors(tracking_uri):
        mlflow_client = client(tracking_uri)
        ids = (
            [experiment_id] if experiment_id else [found.experiment_id for found in mlflow_client.search_experiments()]
        )
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        wanted += f" and tags.`{COMPLETE_TAG}` != ''"
        runs = mlflow_client.search_runs(ids, wanted, order_by=["attributes.start_time ASC"], max_results=1)
        return _logged(runs[0]) if runs else None


def get_run(tracking_uri: str, run_id: str) -> LoggedRun | None:
    """The run of that id; None where there is none. Raises ServerError."""
    from mlflow.exceptions import MlflowException

    with vendor_errors(tracking_uri):
        try:
            return _logged(client(tracking_uri).get_run(run_id))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def _logged(run: Run) -> LoggedRun:
    return LoggedRun(run.info.run_id, str(run.info.experiment_id), dict(run.data.tags), dict(run.data.metrics))


def add_to_totals(
    tracking_uri: str, run_id: str, amounts: Mapping[str, float], *, once: str, at_ms: int, lock_dir: Path
) -> None:
    """Add *amounts* to metrics of a run that is there already, which may be over; one step further for each call.

    The same *once* as last time adds nothing, so that whoever is not sure may repeat the call. Raises ServerError.
    """
    with alone(lock_dir, tracking_uri, run_id), vendor_errors(tracking_uri):
        from mlflow.entities import Metric, RunTag

        mlflow_client = client(tracking_uri)
        data = mlflow_client.get_run(run_id).data
        if data.tags.get(TOTALS_TAG) == once:
            return
        step = int(data.tags.get(TOTALS_STEP_TAG, 0)) + 1
        metrics = [Metric(key, data.metrics.get(key, 0.0) + amount, at_ms, step) for key, amount in amounts.items()]
        tags = [RunTag(TOTALS_TAG, once), RunTag(TOTALS_STEP_TAG, str(step))]
        mlflow_client.log_batch(run_id, metrics=metrics, tags=tags)


class _Projection:
    """One pass over the specs of a run and its children."""

    def __init__(self, mlflow_client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = mlflow_client, experiment_id
        self.created: list[str] = []
        self._complete: set[str] = set()

    def project(self, spec: RunSpec, links: Mapping[str, str]) -> str:
        run_id = self.begin(spec, links)
        self.finish(spec, run_id)
        return run_id

    def begin(self, spec: RunSpec, links: Mapping[str, str]) -> str:
        """The run of this identity: a complete one if there is any, else a half-logged one, else a new one."""
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`{IDENTITY_TAG}` = '{spec.identity}'", order_by=["attributes.start_time ASC"]
        )
        complete = [run for run in found if run.data.tags.get(COMPLETE_TAG) == spec.contents]
        if complete:
            self._complete.add(complete[0].info.run_id)
        if complete or found:
            return str((complete or found)[0].info.run_id)
        tags = {**_tags(spec.tags), **links, IDENTITY_TAG: spec.identity}
        run = self.client.create_run(self.experiment_id, start_time=spec.start_ms, run_name=spec.name, tags=tags)
        return str(run.info.run_id)

    def finish(self, spec: RunSpec, run_id: str) -> None:
        """Log everything, then say that it is everything; each call repeats without effect."""
        if run_id in self._complete:
            return
        self.created.append(spec.name)
        _log_values(self.client, run_id, spec)
        _log_dataset(self.client, run_id, spec.dataset)
        for path, folder in spec.artifacts:
            _log_artifact(self.client, run_id, path, folder)
        if spec.draw is not None:
            with tempfile.TemporaryDirectory(prefix="potstill-") as drawn:
                spec.draw(Path(drawn))
                self.client.log_artifacts(run_id, drawn)
        self.client.set_terminated(run_id, spec.status, spec.end_ms)
        self.client.set_tag(run_id, COMPLETE_TAG, spec.contents)


def _log_values(mlflow_client: MlflowClient, run_id: str, spec: RunSpec) -> None:
    from mlflow.entities import Metric, Param, RunTag

    for tags in _chunks(_tags(spec.tags).items(), PARAMS_PER_BATCH):
        mlflow_client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags])
    for params in _chunks(spec.params.items(), PARAMS_PER_BATCH):
        mlflow_client.log_batch(run_id, params=[Param(key, _shorten(value, PARAM_CHARACTERS)) for key, value in params])
    for points in _chunks(spec.metrics, METRICS_PER_BATCH):
        metrics = [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in points]
        mlflow_client.log_batch(run_id, metrics=metrics)


def _log_dataset(mlflow_client: MlflowClient, run_id: str, dataset: DatasetRef | None) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if dataset is None:
        return
    digest, source = dataset.digest[:DATASET_DIGEST_CHARACTERS], json.dumps({"uri": dataset.source})
    entity = Dataset(name=dataset.name, digest=digest, source_type="dvc", source=source)
    mlflow_client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", dataset.context)])])


def _log_artifact(mlflow_client: MlflowClient, run_id: str, path: Path, folder: str) -> None:
    if path.is_dir():
        mlflow_client.log_artifacts(run_id, str(path), folder or None)
    elif path.is_file():
        mlflow_client.log_artifact(run_id, str(path), folder or None)
    else:
        raise StoreError(f"{path} should be logged to MLflow but does not exist")


def _experiment_id(mlflow_client: MlflowClient, tracking_uri: str, name: str, artifact_root: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = mlflow_client.get_experiment_by_name(name)
    if found is None:
        try:
            place = _artifact_location(tracking_uri, name, artifact_root)
            return str(mlflow_client.create_experiment(name, place, tags=EXPERIMENT_TAGS))
        except MlflowException:
            found = mlflow_client.get_experiment_by_name(name)  # another machine was quicker
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise BadInputError(
            f"experiment {name!r} is in MLflow's trash: restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}), or set registry.experiment to another name"
        )
    return str(found.experiment_id)


def _artifact_location(tracking_uri: str, name: str, artifact_root: str | None) -> str | None:
    """Beside the file for SQLite, since MLflow's own default is the current directory."""
    folder = re.sub(r"[^\w.-]", "_", name)
    if artifact_root is not None:
        return f"{artifact_root.rstrip('/')}/{folder}"
    if tracking_uri.startswith("sqlite:///"):
        return (Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts" / folder).as_uri()
    return None


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """The run's page; '' without a server."""
    if not tracking_uri.startswith(("http://", "https://")):
        return ""
    return f"{without_password(tracking_uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}{MODEL_PAGES}"


def flatten(tree: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings and lists as dotted names: {'a': {'b': [1]}} -> {'a.b.0': '1'}; empty ones are kept as text."""
    if isinstance(tree, Mapping):
        items: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {prefix: tree if isinstance(tree, str) else json.dumps(tree)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat if flat or not prefix else {prefix: json.dumps(tree)}


def epoch_metrics(history: Sequence[Mapping[str, float]], *, at_ms: int) -> list[MetricPoint]:
    """A model's history.json, one record an epoch, as points whose step is the epoch."""
    return [
        MetricPoint(key, float(value), int(record["epoch"]), at_ms)
        for record in history
        for key, value in record.items()
        if key != "epoch" and value is not None
    ]


def system_metrics(samples: Sequence[Mapping[str, float]], *, start_ms: int) -> list[MetricPoint]:
    """A step's measured/system.json as the points that MLflow shows under 'system metrics'."""
    return [
        MetricPoint(f"system/{key}", float(value), step, start_ms + round(sample["seconds"] * 1000))
        for step, sample in enumerate(samples)
        for key, value in sample.items()
        if key != "seconds"
    ]


def client(tracking_uri: str) -> MlflowClient:
    """A client that says nothing on its own and gives up within seconds; never the thread's active run."""
    for name, value in QUIET_AND_QUICK.items():
        os.environ.setdefault(name, value)
    if "mlflow" in sys.modules:
        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def vendor_errors(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow and what it stands on raise into a ServerError that names the server, or a disk's StoreError."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:
        if not _is_vendors(error):
            raise
        if isinstance(error, OSError) and (refused := refusal(error, Path(tempfile.gettempdir()))):
            raise StoreError(refused) from error
        reason = str(error).strip().partition("\n")[0]
        raise ServerError(f"{without_password(tracking_uri)}: MLflow failed: {without_password(reason)}") from error


def _is_vendors(error: Exception) -> bool:
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(roots & _VENDORS)


def without_password(text: str) -> str:
    """*text* with the password of every URL in it hidden."""
    return re.sub(r"(://[^/:@\s]+:)[^/@\s]+@", r"\1***@", text)


@contextmanager
def alone(lock_dir: Path, *names: str) -> Iterator[None]:
    """Hold the one lock of *names* on this machine."""
    name = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
    with held(lock_dir / f"mlflow-{name}.lock", wait_seconds=LOCK_WAIT_SECONDS, waiting=lambda _: None):
        yield


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _shorten(str(value), TAG_CHARACTERS) for key, value in tags.items()}


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
