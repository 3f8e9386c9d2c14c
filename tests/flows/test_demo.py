"""The demo: the whole story with real flows on real servers, begun again from nothing, and failed where it ends otherwise."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from components.artifacts.lock import BusyError
from components.errors import BadInputError
from components.params import load_params
from flows.demo import _own_stage
from tests.flows.conftest import ROOT, Ended, World

ENOUGH_ROWS, TOO_MANY_ROWS = "min_rows: 1000", "min_rows: 100000"


def acts(out: str) -> list[tuple[str, str]]:
    """What each act ended as, with its exit code."""
    return re.findall(r"^   (\w+), exit code (\d+), ", out, flags=re.MULTILINE)


def tasks_below(prefect_api: str, flow_run: str) -> set[str]:
    """Names of the tasks of the flow runs that a flow run started."""

    def ask(what: str, **body: object) -> list[dict]:
        return httpx.post(f"{prefect_api}/{what}/filter", json=body).json()

    children = ask("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [flow_run]}})
    return {task["name"] for task in ask("task_runs", flow_runs={"id": {"any_": [child["id"] for child in children]}})}


def play(stage: World, servers: dict) -> Ended:
    """`potstill demo` to its end, for which a busy machine may need long."""
    process = stage.start_command("demo", **servers)
    out, err = process.communicate(timeout=1100)
    return Ended(process.returncode, out, err)


@pytest.fixture
def stage(world: World) -> World:
    """The copy of the code with the recipe."""
    shutil.copytree(ROOT / "recipes", world.root / "recipes")
    (world.var / "store").mkdir(parents=True)
    (world.var / "store" / "of-the-user").write_text("untouched")
    return world


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(1200)
def test_the_story(stage: World, servers: dict) -> None:
    """Seven acts, each ended as told, after a first demo that failed; the user's own results are left alone."""
    stage.edit("recipes/demo.yaml", ENOUGH_ROWS, TOO_MANY_ROWS)
    failed = play(stage, servers)
    assert "act 1 went otherwise than the story: it ended as DataRefused, not Promoted" in failed.refused_with(1)
    assert acts(failed.out) == [("DataRefused", "3")]

    stage.edit("recipes/demo.yaml", TOO_MANY_ROWS, ENOUGH_ROWS)
    done = play(stage, servers)
    assert (done.code, done.err) == (0, ""), done.out
    assert acts(done.out) == [
        ("Promoted", "0"), ("NothingNew", "0"), ("Promoted", "0"), ("DataRefused", "3"),
        ("Refused", "3"), ("RolledBack", "0"), ("Traced", "0"),
    ]  # fmt: skip
    assert {path.name for path in stage.var.iterdir()} == {".demo.lock", "demo", "store"}
    assert [path.name for path in (stage.var / "store").iterdir()] == ["of-the-user"]
    for page in re.findall(r"→ (var/\S+)", done.out):
        assert (stage.root / page).is_file(), page

    damaged = re.search(r"DataRefused.*\n   → \S+/flow-run/(\S+)", done.out)
    assert damaged
    assert tasks_below(servers["PREFECT_API_URL"], damaged[1]) == {"data", "validate"}
    assert "drift label" in done.out
    assert "at least 0.9 (the floor) would have been enough" in done.out

    of_the_demo = {**servers, "POTSTILL_VAR_DIR": str(stage.var / "demo")}
    history = json.loads(stage.command("history", "--json", "--params=var/demo/params.yaml", **of_the_demo).out)
    assert [(line["kind"], line["version"]) for line in history["lines"]] == [
        ("promote", "1"), ("promote", "2"), ("rollback", "1")
    ]  # fmt: skip
    model = MlflowClient(servers["MLFLOW_TRACKING_URI"]).get_registered_model(history["model"])
    assert {name: str(at) for name, at in model.aliases.items()} == {
        "champion": "1", "previous": "2", "challenger": "3"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.service
def test_a_ctrl_c_stops_cleanly(stage: World, servers: dict) -> None:
    """Also one that git and DVC hear, too: one message, exit code 130."""
    process = stage.start_command("demo", **servers)
    assert process.stdout
    assert "v1" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.strip().endswith("stopped as you asked; `potstill demo` begins the story again")
    assert "Traceback" not in err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a demo may be; what it sets in the environment goes with the test."""
    for name in ("POTSTILL_VAR_DIR", "POTSTILL_STORE", "POTSTILL_JOURNAL_URL"):
        monkeypatch.setenv(name, "of the user")
    return tmp_path / "demo"


def test_an_earlier_demo_makes_way(folder: Path) -> None:
    """For a new folder and new names; nothing of the user's settings leads out of it."""
    with _own_stage(folder) as first:
        first.data.mkdir(mode=0o555)
        params = load_params(first.params_file, ())
    with _own_stage(folder) as second:
        assert [path.name for path in folder.iterdir()] == ["params.yaml"]
        assert os.environ["POTSTILL_VAR_DIR"] == str(folder)
        assert not {"POTSTILL_STORE", "POTSTILL_JOURNAL_URL"} & set(os.environ)

    assert params.data.repository == str(second.data)
    assert re.fullmatch(r"demo-\d{4}-\d{6}-student", params.registry.student)


def test_what_no_demo_left_is_not_replaced(folder: Path) -> None:
    """Asked twice, too."""
    folder.mkdir()
    (folder / "precious").touch()

    for _ in range(2):
        with pytest.raises(BadInputError, match="not made by a demo"), _own_stage(folder):
            pass
    assert (folder / "precious").exists()


def test_two_demos_at_once_are_refused(folder: Path) -> None:
    """The first goes on."""
    with _own_stage(folder) as first:
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), _own_stage(folder):
            pass
        assert first.params_file.exists()
