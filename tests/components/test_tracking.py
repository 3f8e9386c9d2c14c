"""Runs as projections: once each, whatever happened before, against a real MLflow on SQLite and over HTTP."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from components import tracking
from components.errors import BadInputError, ServerError, StoreError
from components.tracking import (
    DatasetRef,
    MetricPoint,
    ProjectedRuns,
    RunSpec,
    add_to_totals,
    flatten,
    probe,
    project_child,
    project_run,
)

AT_MS = 1_700_000_000_000
NUM_POINTS = 2_300


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    probe(f"sqlite:///{path}")
    return path


def copy_of(database: Path, target: Path) -> str:
    shutil.copyfile(database, target)
    return f"sqlite:///{target}"


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    return copy_of(empty_database, tmp_path / "mlflow.db")


def specs(folder: Path) -> tuple[RunSpec, list[RunSpec]]:
    """A parent and two children that use everything a run can say."""
    note = folder / "note.txt"
    note.write_text("hello\n")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "index.html").write_text("<p>docs</p>\n")
    points = [MetricPoint(f"loss_{i % 2}", 1 / (1 + i), i // 2, AT_MS + i) for i in range(NUM_POINTS)]
    data = DatasetRef("digits", "0123456789abcdef" * 4, "registry/digits@v1")
    common = {
        "tags": {"data.revision": "v1"},
        "params": {f"p{i:03d}": "v" * (9000 if i == 0 else 5) for i in range(230)},
    }
    children = [
        RunSpec(
            name,
            f"{name}-identity",
            metrics=points,
            dataset=data,
            artifacts=[(note, ""), (folder / "docs", "docs")],
            **common,
        )
        for name in ("teacher", "student")
    ]
    return RunSpec("brave-run", "parent-identity", start_ms=AT_MS, end_ms=AT_MS + 5000, **common), children


def project(uri: str, folder: Path, **changes: object) -> ProjectedRuns:
    parent, children = specs(folder)
    return project_run(uri, "potstill", parent, children, lock_dir=folder / "locks", **changes)


def everything(uri: str) -> dict[str, object]:
    """What MLflow holds, by the run's name: to be compared before and after."""
    client = MlflowClient(uri)
    found = {}
    for run in client.search_runs([client.get_experiment_by_name("potstill").experiment_id], max_results=100):
        history = {
            key: [(m.value, m.step, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        inputs = [(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs]
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.parent")}
        found.setdefault(run.info.run_name, []).append((run.info.status, tags, run.data.params, history, files, inputs))
    return found


def test_a_run_says_everything_once(uri, tmp_path):
    """All params, metric values, data set and files arrive; long values are cut; the children know their parent."""
    made = project(uri, tmp_path)
    assert sorted(made.created) == ["brave-run", "student", "teacher"]
    client = MlflowClient(uri)
    student = client.get_run(made.children["student"])
    assert student.data.tags["mlflow.parentRunId"] == made.parent_run_id
    assert student.data.tags["potstill.step"] == "student"
    assert student.info.status == "FINISHED"
    assert len(student.data.params) == 230
    assert len(student.data.params["p000"]) == 6000
    assert len(client.get_metric_history(student.info.run_id, "loss_0")) == NUM_POINTS // 2
    (data,) = student.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", ("0123456789abcdef" * 4)[:36])
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}
    assert [file.path for file in client.list_artifacts(student.info.run_id)] == ["docs", "note.txt"]
    assert [file.path for file in client.list_artifacts(student.info.run_id, "docs")] == ["docs/index.html"]
    parent = client.get_run(made.parent_run_id)
    assert (parent.info.start_time, parent.info.end_time) == (AT_MS, AT_MS + 5000)


def test_projecting_again_changes_nothing(uri, tmp_path):
    """The second time nothing is created and nothing logged."""
    first = project(uri, tmp_path)
    before = everything(uri)
    second = project(uri, tmp_path)
    assert second.created == ()
    assert (second.parent_run_id, second.children) == (first.parent_run_id, first.children)
    assert everything(uri) == before


def test_an_empty_database_gets_everything_back(uri, tmp_path, empty_database):
    """After the database is gone the same runs appear again, once each."""
    project(uri, tmp_path)
    before = everything(uri)
    # Another name, since SQLAlchemy would go on with the file that it has open.
    other = copy_of(empty_database, tmp_path / "other.db")
    project(other, tmp_path)
    assert everything(other) == before


def test_children_of_an_earlier_run_are_not_repeated(uri, tmp_path):
    """A run whose steps were cached gets a parent of its own, and children only for what is new."""
    project(uri, tmp_path)
    _, children = specs(tmp_path)
    fresh = RunSpec("evaluate", "evaluate-identity")
    made = project_run(
        uri, "potstill", RunSpec("next", "next-identity"), [*children, fresh], lock_dir=tmp_path / "locks"
    )
    assert sorted(made.created) == ["evaluate", "next"]
    assert {name: len(runs) for name, runs in everything(uri).items()} == {
        "brave-run": 1, "teacher": 1, "student": 1, "next": 1, "evaluate": 1,
    }  # fmt: skip


def test_one_more_child_appears_once(uri, tmp_path):
    """A child can be added to a run later, and only once."""
    made = project(uri, tmp_path)
    gate = RunSpec("gate", "gate-identity", draw=lambda folder: (folder / "report.html").write_text("report"))
    ids = {project_child(uri, "potstill", made.parent_run_id, gate, lock_dir=tmp_path / "locks") for _ in range(2)}
    assert len(ids) == 1
    run = MlflowClient(uri).get_run(ids.pop())
    assert run.data.tags["mlflow.parentRunId"] == made.parent_run_id
    assert [file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)] == ["report.html"]


def test_totals_grow_by_each_call_but_not_twice_by_the_same(uri, tmp_path):
    """On a run that is over: each addition is one point of the metric, and repeating the last one is none."""
    run_id, client = project(uri, tmp_path).parent_run_id, MlflowClient(uri)
    for once in ("a", "b", "b"):
        amounts = {"cache/seconds_saved": 1.5, "cache/teacher_rows_saved": 10.0}
        add_to_totals(uri, run_id, amounts, once=once, at_ms=AT_MS, lock_dir=tmp_path / "locks")

    points = client.get_metric_history(run_id, "cache/seconds_saved")
    assert sorted((point.step, point.value) for point in points) == [(1, 1.5), (2, 3.0)]
    assert client.get_run(run_id).data.metrics["cache/teacher_rows_saved"] == 20.0
    assert client.get_run(run_id).info.status == "FINISHED"


def _project_until_killed(uri: str, folder: Path, calls: int) -> None:
    """Die without a word at the *calls*-th call to MLflow that writes."""
    remaining = [calls]

    def wrap(name: str) -> None:
        original = getattr(MlflowClient, name)

        def counted(self: MlflowClient, *args: object, **kwargs: object) -> object:
            remaining[0] -= 1
            if remaining[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *args, **kwargs)

        setattr(MlflowClient, name, counted)

    for name in ("create_run", "log_batch", "log_inputs", "log_artifact", "log_artifacts", "set_terminated", "set_tag"):
        wrap(name)
    project(uri, folder)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 8, 13, 14, 25, 31])
def test_a_kill_anywhere_heals(calls, uri, tmp_path, empty_database):
    """Killed after any number of writes, the same call ends with exactly what an undisturbed one leaves."""
    killed = multiprocessing.get_context("fork").Process(target=_project_until_killed, args=(uri, tmp_path, calls))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert project(uri, tmp_path).created
    calm = copy_of(empty_database, tmp_path / "calm.db")
    project(calm, tmp_path)
    assert everything(uri) == everything(calm)


@pytest.mark.slow
def test_two_processes_at_once_make_one_run_each(uri, tmp_path):
    """Processes that project the same thing at the same moment leave one run an identity."""
    specs(tmp_path)
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\nfrom pathlib import Path\n"
        "from test_tracking import project\nproject(sys.argv[1], Path(sys.argv[2]))"
    )
    root, here = Path(__file__).parents[2], Path(__file__).parent
    arguments = [sys.executable, "-c", script, uri, str(tmp_path), str(root), str(here)]
    running = [subprocess.Popen(arguments) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert {name: len(runs) for name, runs in everything(uri).items()} == {"brave-run": 1, "teacher": 1, "student": 1}


def test_a_missing_file_is_named(uri, tmp_path):
    """A file that should be logged and is not there is an error with its path, and the run stays incomplete."""
    spec = RunSpec("r", "r-identity", artifacts=[(tmp_path / "gone.txt", "")])
    with pytest.raises(StoreError, match=r"gone\.txt"):
        project_run(uri, "potstill", spec, [], lock_dir=tmp_path)
    (tmp_path / "gone.txt").write_text("back")
    assert project_run(uri, "potstill", spec, [], lock_dir=tmp_path).created == ("r",)


def test_an_experiment_in_the_trash_is_bad_input(uri, tmp_path):
    """A deleted experiment says how to restore it."""
    made = project(uri, tmp_path)
    MlflowClient(uri).delete_experiment(made.experiment_id)
    with pytest.raises(BadInputError, match="mlflow experiments restore --experiment-id 1"):
        project(uri, tmp_path)


def test_files_lie_beside_the_database(uri, tmp_path, monkeypatch):
    """With SQLite nothing is written to the current directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    project(uri, tmp_path)
    assert not list(elsewhere.iterdir())
    assert list((tmp_path / "mlartifacts" / "potstill").rglob("note.txt"))


def test_an_experiment_opens_at_its_runs(uri, tmp_path):
    """MLflow's pages are told that it is one of models, by its tag and by every link."""
    made = project(uri, tmp_path)
    experiment = MlflowClient(uri).get_experiment(made.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert tracking.run_url("http://localhost:5000", "1", "abc").endswith("/runs/abc?workflowType=machine_learning")


def test_mlflow_is_silent(uri, tmp_path, capfd):
    """No 'View run at', no progress bars, no log lines about tables."""
    project(uri, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_cached_path_is_light(uri, tmp_path):
    """Finding that all is there already imports no torch and no plotting."""
    project(uri, tmp_path)
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\nfrom pathlib import Path\n"
        "from test_tracking import project, probe\nprobe(sys.argv[1])\n"
        "assert project(sys.argv[1], Path(sys.argv[2])).created == ()\n"
        "assert not {'torch', 'matplotlib', 'prefect', 'great_expectations'} & set(sys.modules)"
    )
    root, here = Path(__file__).parents[2], Path(__file__).parent
    subprocess.run([sys.executable, "-c", script, uri, str(tmp_path), str(root), str(here)], check=True, timeout=120)


@pytest.mark.parametrize("wrong", ["./mlruns", "file:///tmp/mlruns"])
def test_plain_folders_are_refused(wrong):
    """MLflow keeps no runs in folders any more; the message says what to give instead."""
    with pytest.raises(BadInputError, match="sqlite:///file"):
        probe(wrong)


def test_a_database_that_cannot_be_opened_is_a_server_error(tmp_path):
    """A SQLite file in a folder that cannot exist is said before any training."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="MLflow failed"):
        probe(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_nobody_listening_is_said_quickly():
    """A closed port is an error within a second or two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ServerError, match=f"127.0.0.1:{port}: no tracking server answers.*potstill up"):
        probe(f"http://127.0.0.1:{port}", timeout_seconds=2)
    assert time.monotonic() - started < 5


def test_a_server_that_accepts_and_never_answers_is_said_in_time():
    """A hanging server costs the time-out, not minutes."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        started = time.monotonic()
        with pytest.raises(ServerError, match="no tracking server answers"):
            probe(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout_seconds=0.5)
        assert time.monotonic() - started < 5


def test_passwords_are_not_shown():
    """Errors and links never carry the password of a URL."""
    assert tracking.without_password("postgresql://u:s3cret@host/db is down") == "postgresql://u:***@host/db is down"
    assert "s3cret" not in tracking.run_url("https://u:s3cret@host", "1", "abc")


def test_flatten_names_every_leaf():
    """Mappings and lists become dotted names; empty ones stay visible."""
    tree = {"a": {"b": [1, {"c": True}], "d": None}, "e": "text", "f": [], "g": {}}
    assert flatten(tree) == {"a.b.0": "1", "a.b.1.c": "true", "a.d": "null", "e": "text", "f": "[]", "g": "{}"}


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), trees, max_size=4))
def test_flatten_loses_no_leaf(tree):
    """There is one name for each leaf or empty container."""

    def leaves(value: object) -> int:
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
        return 1 if not inner else sum(leaves(item) for item in inner)

    assert len(flatten(tree)) == (leaves(tree) if tree else 0)


def test_histories_and_samples_become_points():
    """Epoch records are points at their epoch; system samples are points under system/."""
    history = [{"epoch": 0, "loss_hard": 2.0, "accuracy": None}, {"epoch": 1, "loss_hard": 1.0, "accuracy": 0.5}]
    assert tracking.epoch_metrics(history, at_ms=AT_MS) == [
        ("loss_hard", 2.0, 0, AT_MS),
        ("loss_hard", 1.0, 1, AT_MS),
        ("accuracy", 0.5, 1, AT_MS),
    ]
    assert tracking.system_metrics([{"seconds": 1.5, "cpu_percent": 90.0}], start_ms=AT_MS) == [
        ("system/cpu_percent", 90.0, 0, AT_MS + 1500)
    ]


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
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ServerError):
            return probe(address, timeout_seconds=1)
        time.sleep(0.3)
    raise AssertionError("the server did not start")


@pytest.mark.service
def test_over_http_it_is_the_same(tmp_path, capfd):
    """A server gives the same runs, once, with links to them, and says nothing on the way."""
    with serving(tmp_path) as address:
        made = project(address, tmp_path)
        before = everything(address)
        again = project(address, tmp_path)
        assert again.created == ()
        assert everything(address) == before
        assert (
            made.url
            == f"{address}/#/experiments/{made.experiment_id}/runs/{made.parent_run_id}?workflowType=machine_learning"
        )
        project(f"sqlite:///{tmp_path}/local.db", tmp_path)
        assert everything(f"sqlite:///{tmp_path}/local.db") == before
    assert capfd.readouterr() == ("", "")
