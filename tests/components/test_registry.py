"""Versions as projections, aliases and model URIs, against a real MLflow on SQLite and over HTTP."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from components import registry, saved_models
from components.artifacts.artifact import Artifact
from components.contracts import DataSpec
from components.errors import BadInputError, ExportError, PotstillError, ServerError, WeightsError
from components.models.convnet import Params as ConvNet
from components.models.mlp import Params as Mlp
from components.programs import largest_difference
from components.registry import (
    RegisteredVersion,
    current,
    download_model,
    load_registered,
    register_model,
    registered_digests,
    resolve_model,
    set_alias,
)
from components.saved_models import load_model, save_model
from components.settings import Settings
from components.teachers import fetch_program
from components.tracking import RunSpec, probe, project_run

SPEC = DataSpec((1, 12, 12), ("a", "b", "c"), (0.4,), (0.3,), 10)
TAGS = {
    "data.revision": "v1", "data.commit": "c" * 40, "data.md5": "m" * 32, "code.commit": "d" * 40, "code.dirty": "false",
    "params.sha256": "p" * 64, "teacher.digest": "t" * 64, "soft_targets.key": "s" * 64, "flow_run.id": "", "n": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """Two students with different weights."""
    return tuple(model_artifact(tmp_path_factory.mktemp("student"), seed) for seed in (0, 1))


def model_artifact(folder: Path, seed: int) -> Artifact:
    params = ConvNet(channels=(4, 6), dropout=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_model(folder, params.build(SPEC), params, SPEC)
    return Artifact("student", "k", f"{seed:064x}", folder)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    probe(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, artifacts: tuple[Artifact, Artifact]
) -> tuple[str, RegisteredVersion]:
    """A registry with one version and the champion alias, for tests that only read."""
    folder = tmp_path_factory.mktemp("registry")
    address = f"sqlite:///{folder}/mlflow.db"
    made = register(address, folder, artifacts[0])
    set_alias(address, "student", "champion", made.version)
    return address, made


def run_of(uri: str, folder: Path) -> str:
    return project_run(
        uri, "potstill", RunSpec("student", "student-identity"), [], lock_dir=folder / "locks"
    ).parent_run_id


def register(uri: str, folder: Path, artifact: Artifact, name: str = "student") -> RegisteredVersion:
    return register_model(
        uri,
        name=name,
        artifact=artifact,
        run_id=run_of(uri, folder),
        sample_shape=SPEC.sample_shape,
        tags=TAGS,
        lock_dir=folder / "locks",
        metadata={"class_names": list(SPEC.class_names)},
        about="All students.",
        note="A small one.",
    )


def samples(count: int = 7) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, *SPEC.sample_shape), dtype=np.uint8)


def test_a_version_carries_its_whole_lineage(shared, artifacts):
    """Run, digest and every tag given stand on the version, also those that are empty or numbers."""
    address, made = shared
    version = MlflowClient(address).get_model_version("student", made.version)
    assert version.tags == {**{key: str(value) for key, value in TAGS.items()}, "potstill.digest": artifacts[0].digest}
    assert made.tags == version.tags
    assert (made.uri, made.run_id, made.digest, made.created) == (
        "models:/student/1",
        version.run_id,
        artifacts[0].digest,
        True,
    )


def test_what_registered_models_stand_on_is_named_by_digest(uri, tmp_path, artifacts, monkeypatch):
    """Every digest in the tags of every version of every model, however many pages the answer has; no other tag."""
    whole = MlflowClient.search_model_versions

    def by_one(self, filter_string=None, max_results=1, **more):
        return whole(self, filter_string, max_results, **more)

    monkeypatch.setattr(MlflowClient, "search_model_versions", by_one)
    assert registered_digests(uri) == frozenset()
    for artifact, name in zip(artifacts, ("student", "teacher"), strict=True):
        register(uri, tmp_path, artifact, name)

    lineage = {value for value in map(str, TAGS.values()) if re.fullmatch("[0-9a-f]{64}", value)}
    assert registered_digests(uri) == {artifact.digest for artifact in artifacts} | lineage


def test_name_and_version_are_described(shared):
    """In words, where MLflow's pages show them."""
    address, made = shared
    client = MlflowClient(address)
    assert client.get_registered_model("student").description == "All students."
    assert client.get_model_version("student", made.version).description == "A small one."


def test_the_run_knows_its_model(shared):
    """The logged model is an output of the run and ready."""
    address, made = shared
    client = MlflowClient(address)
    (output,) = client.get_run(made.run_id).outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert logged.status == "READY"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "student", "version": made.version}]
    assert client.get_model_version("student", made.version).source == f"models:/{output.model_id}"


def test_the_interface_is_written_down(shared):
    """The signature is uint8 in, float32 out, any batch; requirements do not name this project."""
    from mlflow.models import Model

    address, made = shared
    with registry._downloaded(made.uri, address) as folder:
        model = Model.load(str(folder))
        requirements = (folder / "requirements.txt").read_text()
        program = (folder / "data" / "model.pt2").read_bytes()
        assert sorted(path.name for path in (folder / "data").iterdir()) == ["model.pt2"]
    (given,), (said,) = model.signature.inputs.inputs, model.signature.outputs.inputs
    assert (str(given.type), tuple(given.shape)) == ("uint8", (-1, 1, 12, 12))
    assert (str(said.type), tuple(said.shape)) == ("float32", (-1, 3))
    assert model.metadata == {"class_names": ["a", "b", "c"]}
    assert sorted(line.partition("==")[0] for line in requirements.split()) == ["mlflow", "numpy", "torch"]
    assert "+cpu" not in requirements
    assert str(Path.cwd()).encode() not in program


def test_the_same_artifact_is_registered_once(uri, tmp_path, artifacts):
    """Same digest, same version; another digest, the next one; another name, its own first."""
    first = register(uri, tmp_path, artifacts[0])
    again = register(uri, tmp_path, artifacts[0])
    assert (again.created, again.version) == (False, first.version)
    second = register(uri, tmp_path, artifacts[1])
    assert (second.created, second.version) == (True, "2")
    assert register(uri, tmp_path, artifacts[0], "teacher").version == "1"
    assert len(MlflowClient(uri).search_model_versions("name = 'student'")) == 2


def test_an_alias_is_moved_and_read_back(uri, tmp_path, artifacts):
    """No model and no alias is None; a moved alias stands where it was put."""
    assert current(uri, "student", "champion") is None
    first = register(uri, tmp_path, artifacts[0])
    assert current(uri, "student", "champion") is None
    assert set_alias(uri, "student", "champion", first.version).uri == first.uri
    second = register(uri, tmp_path, artifacts[1])
    assert set_alias(uri, "student", "champion", second.version).version == "2"
    found = current(uri, "student", "champion")
    assert (found.version, found.digest, found.tags) == ("2", artifacts[1].digest, second.tags)


def test_an_alias_that_somebody_else_moved_at_once_is_an_error(shared, monkeypatch):
    """When the read-back shows another version, nothing is claimed."""
    address, _ = shared
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", lambda *args: None)
    with pytest.raises(ServerError, match="stands on 1: something else moved it"):
        set_alias(address, "student", "champion", "7")


def test_a_kill_before_registration_heals(uri, tmp_path, artifacts, monkeypatch):
    """A logged model without a version is used, not logged again; an unfinished one is finished."""
    calls = {"create_model_version": 0, "finalize_logged_model": 0}

    def die(name: str) -> None:
        def killed(*args: object, **kwargs: object) -> None:
            calls[name] += 1
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, name, killed)
            with pytest.raises(KeyboardInterrupt):
                register(uri, tmp_path, artifacts[0])

    die("finalize_logged_model")
    die("create_model_version")
    assert register(uri, tmp_path, artifacts[0]).version == "1"
    assert calls == {"create_model_version": 1, "finalize_logged_model": 1}
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("potstill").experiment_id
    (model,) = client.search_logged_models([experiment])
    assert model.status == "READY"
    assert len(client.get_run(run_of(uri, tmp_path)).outputs.model_outputs) == 1


def test_a_program_that_says_something_else_is_not_registered(uri, tmp_path, artifacts, monkeypatch):
    """A model that answers differently each time is exported, found out and not registered."""

    class Drifting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return rows.float().mean((1, 2, 3))[:, None] * torch.ones(3) + self.calls

    monkeypatch.setattr(saved_models, "load_model", lambda _: Drifting())
    with pytest.raises(ExportError, match="differs from the live model"):
        register(uri, tmp_path, artifacts[0])
    assert current(uri, "student", "champion") is None
    assert MlflowClient(uri).search_model_versions("name = 'student'") == []
    monkeypatch.undo()
    assert register(uri, tmp_path, artifacts[0]).version == "1"


def test_a_uri_is_pinned_to_what_it_means_now(shared, artifacts):
    """Alias, version, logged model and run path all lead to the same digest; an alias is replaced by its version."""
    address, made = shared
    model_id = MlflowClient(address).get_run(made.run_id).outputs.model_outputs[0].model_id
    asked = {
        "models:/student@champion": "models:/student/1",
        "models:/student/1": "models:/student/1",
        f"models:/{model_id}": f"models:/{model_id}",
        f"runs:/{made.run_id}/student": f"models:/{model_id}",
    }
    for given, pinned in asked.items():
        found = resolve_model(given, address)
        assert (found.uri, found.digest) == (pinned, artifacts[0].digest)


def test_what_the_registry_does_not_know_is_bad_input(shared, tmp_path):
    """An unknown name, alias, version, model or run, and a URI of another form, say so."""
    address, _ = shared
    wrong = [
        "models:/student@nope",
        "models:/nope/1",
        "models:/student/99",
        "models:/m-00",
        "runs:/abc/x",
        "student",
        "models:/student",
    ]
    for given in wrong:
        for use in (resolve_model, load_registered, lambda given, address: download_model(given, address, tmp_path)):
            with pytest.raises(BadInputError, match=given):
                use(given, address)


def test_a_model_registered_by_others_is_digested_by_its_content(uri, tmp_path):
    """Without our tag the digest is that of the program's files, and stable."""
    foreign(uri, tmp_path, "theirs", np.uint8)
    first, second = (resolve_model("models:/theirs/1", uri) for _ in range(2))
    assert first == second
    assert len(first.digest) == 64
    out = tmp_path / "out"
    out.mkdir()
    download_model(first.uri, uri, out)
    assert (
        largest_difference(
            load_registered(first.uri, uri), load_model(Artifact("teacher", "k", "d", out)), samples(), (1, 5)
        )
        == 0
    )


def foreign(uri: str, folder: Path, name: str, dtype: type, **chosen: str) -> None:
    """Log and register a model the way any MLflow user would."""
    import mlflow.pytorch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    class Mean(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.float().mean((1, 2, 3))[:, None] * torch.ones(3)

    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(dtype), (-1, 1, 12, 12))]), Schema([TensorSpec(np.dtype(np.float32), (-1, 3))])
    )
    options = {"input_example": samples(2).astype(dtype), "serialization_format": "pt2", **chosen}
    with registry._without_advice():
        mlflow.pytorch.save_model(
            Mean(), str(folder / name), signature=signature, mlflow_model=Model(), pip_requirements=["torch"], **options
        )
    client = MlflowClient(uri)
    client.create_registered_model(name)
    client.create_model_version(name, (folder / name).as_uri())


def test_a_model_of_another_interface_is_refused(uri, tmp_path):
    """A program that wants doubles cannot be fed stored samples: the message shows its signature."""
    foreign(uri, tmp_path, "doubles", np.float64)
    with pytest.raises(BadInputError, match="must be uint8 or float32"):
        download_model("models:/doubles/1", uri, tmp_path)


def test_a_model_of_numbers_is_registered_and_brought_back(uri, tmp_path):
    """float32 in, numbers in the labels' unit out, the same from the registry; and as a teacher it fits its own data alone."""
    numbers = DataSpec(
        (3,), (), (0.0,) * 3, (1.0,) * 3, 9, "float32", target_names=("y",), target_mean=(150.0,), target_std=(50.0,)
    )
    params = Mlp(hidden=(4,))
    module = params.build(numbers).eval()
    out = tmp_path / "numbers"
    out.mkdir()
    save_model(out, module, params, numbers)
    made = register_model(
        uri,
        name="numbers",
        artifact=Artifact("student", "k", "a" * 64, out),
        run_id=run_of(uri, tmp_path),
        sample_shape=(3,),
        sample_dtype="float32",
        tags={},
        lock_dir=tmp_path / "locks",
    )
    rows = torch.randn(5, 3)

    assert torch.allclose(load_registered(made.uri, uri)(rows), module(rows))
    settings = Settings(tracking_uri=uri)
    fetch_program(tmp_path, made.uri, settings, numbers)
    with pytest.raises(WeightsError, match="takes float32 samples, and these are uint8"):
        fetch_program(tmp_path, made.uri, settings, SPEC)


def test_a_model_without_a_program_is_refused(uri, tmp_path):
    """A model whose folder holds no torch.export program is never unpickled."""
    foreign(uri, tmp_path, "other", np.uint8)
    program = tmp_path / "other" / "data" / "model.pt2"
    program.rename(program.with_name("model.pth"))
    for use in (load_registered, lambda given, address: download_model(given, address, tmp_path)):
        with pytest.raises(BadInputError, match=r"no torch\.export program"):
            use("models:/other/1", uri)


def test_a_downloaded_program_is_a_teacher(shared, artifacts, tmp_path):
    """What was downloaded predicts like the model that was registered, for any batch, and unpickles nothing of ours."""
    address, _ = shared
    download_model("models:/student@champion", address, tmp_path)
    looked_up = []
    watching = True
    sys.addaudithook(lambda event, args: looked_up.append(args) if watching and event == "pickle.find_class" else None)
    teacher = load_model(Artifact("teacher", "k", "d", tmp_path))
    loaded = load_registered("models:/student@champion", address)
    watching = False
    assert {module.partition(".")[0] for module, _ in (args[-2:] for args in looked_up)} <= {"torch", "collections"}
    for program in (teacher, loaded):
        assert largest_difference(load_model(artifacts[0]), program, samples(), (1, 2, 6, 7)) <= 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt2"]


def test_registration_is_silent(uri, tmp_path, artifacts, capfd):
    """No lines about registered models, created versions or downloads."""
    register(uri, tmp_path, artifacts[0])
    load_registered("models:/student/1", uri)
    assert capfd.readouterr() == ("", "")


ALONE = """
import sys
from importlib.abc import MetaPathFinder

class NoPotstill(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("components", "flows"):
            raise ImportError(name)

sys.meta_path.insert(0, NoPotstill())
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
rows = numpy.load(sys.argv[2])
import torch
program = mlflow.pytorch.load_model("models:/student@champion")
plain = mlflow.pyfunc.load_model("models:/student@champion")
for count in (1, 6):
    with torch.no_grad():
        numpy.save(f"{sys.argv[3]}/program-{count}.npy", program(torch.from_numpy(rows[:count])).numpy())
    numpy.save(f"{sys.argv[3]}/plain-{count}.npy", plain.predict(rows[:count]))
"""


@pytest.mark.slow
def test_it_loads_without_this_project(shared, artifacts, tmp_path):
    """A process that has only mlflow and torch loads the champion and predicts batches of 1 and 6, as torch and as pyfunc."""
    address, _ = shared
    np.save(tmp_path / "rows.npy", samples())
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", ALONE, address, str(tmp_path / "rows.npy"), str(tmp_path)]
    subprocess.run(arguments, check=True, timeout=180, env=environment, cwd=tmp_path)
    live = load_model(artifacts[0])
    for count in (1, 6):
        with torch.no_grad():
            wanted = live(torch.from_numpy(samples()[:count])).numpy()
        for kind in ("program", "plain"):
            np.testing.assert_allclose(np.load(tmp_path / f"{kind}-{count}.npy"), wanted, atol=1e-6)


@pytest.mark.slow
def test_the_cached_path_imports_no_torch(shared, artifacts):
    """Finding a version, an alias and a pinned URI costs no torch."""
    address, _ = shared
    script = (
        "import sys; sys.path.insert(0, sys.argv[4])\nfrom pathlib import Path\n"
        "from components.artifacts.artifact import Artifact\n"
        "from components.registry import current, register_model, resolve_model\n"
        "artifact = Artifact('student', 'k', sys.argv[2], Path('.'))\n"
        "made = register_model(sys.argv[1], name='student', artifact=artifact, run_id='', sample_shape=(1,), tags={},"
        " lock_dir=Path(sys.argv[3]))\n"
        "assert not made.created and current(sys.argv[1], 'student', 'champion').version == made.version\n"
        "assert resolve_model('models:/student@champion', sys.argv[1]).digest == sys.argv[2]\n"
        "assert 'torch' not in sys.modules"
    )
    root, locks = Path(__file__).parents[2], artifacts[0].root
    arguments = [sys.executable, "-c", script, address, artifacts[0].digest, str(locks), str(root)]
    subprocess.run(arguments, check=True, timeout=120)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A real MLflow server on a free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "served"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            arguments, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(PotstillError):
            return probe(address, timeout_seconds=1)
        time.sleep(0.3)
    raise AssertionError("the server did not start")


@pytest.mark.service
def test_over_http_it_is_the_same(tmp_path, artifacts, capfd):
    """A server gives the same versions, aliases, digests and predictions."""
    with serving(tmp_path) as address:
        made = register(address, tmp_path, artifacts[0])
        assert made.created
        assert replace(register(address, tmp_path, artifacts[0]), created=True) == made
        assert set_alias(address, "student", "champion", made.version).digest == artifacts[0].digest
        assert resolve_model("models:/student@champion", address).uri == made.uri
        assert (
            registry.version_url(address, made)
            == f"{address}/#/models/student/versions/1?workflowType=machine_learning"
        )
        loaded = load_registered("models:/student@champion", address)
        assert largest_difference(load_model(artifacts[0]), loaded, samples(), (1, 2, 7)) <= 1e-6
        with pytest.raises(BadInputError, match="no model"):
            resolve_model("models:/student@nope", address)
    assert capfd.readouterr() == ("", "")
