"""A schedule that the local Prefect server keeps really starts runs, and they find the local MLflow by themselves."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.errors import ServerError
from components.settings import Settings
from flows.servers import mlflow_recipe, running_tracking_uri
from tests.conftest import free_ports
from tests.flows.conftest import World

INTERVAL_SECONDS = 10
WAIT_SECONDS = 240.0
POTSTILL = (sys.executable, "-c", "from flows.cli import main; main()")
SERVE = (
    *(sys.executable, "-m", "prefect", "flow", "serve", "flows/distill.py:distill", "--name", "often"),
    *("--interval", str(INTERVAL_SECONDS), "--limit", "1"),
)
UPSTREAM = {
    "data": set(),
    "validate": {"data"},
    "teacher": {"data"},
    "fold_teachers": {"data"},
    "soft_targets": {"data", "teacher", "fold_teachers"},
    "baseline": {"data"},
    "student": {"data", "teacher", "fold_teachers", "soft_targets"},
    "evaluate": {"data", "teacher", "baseline", "student"},
    "export": {"student"},
    "log": {
        *("data", "validate", "teacher", "fold_teachers", "soft_targets"),
        *("baseline", "student", "evaluate", "export"),
    },
    "register": {"log"},
    "gate": {"register"},
    "promote": {"gate"},
    "report": {"gate"},
}
CALL = """
from flows.tasks import open_run
from pathlib import Path
open_run(Path("params.yaml"), [], "as-configured")
"""


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    """What the server answers as JSON, None for nothing; asked again where SQLite was busy, as Prefect's client does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {WAIT_SECONDS:.0f} s")


def port_of(world: World, server: str) -> int:
    return int(json.loads((world.root / "var" / "servers" / f"{server}.json").read_text())["port"])


@pytest.fixture
def api(world: World) -> Iterator[str]:
    """The API of a local Prefect server, beside which a local MLflow runs that no variable names."""
    variables = {
        **world.environment,
        "POTSTILL_PREFECT_PORT": str(free_ports(1)[0]),
        "POTSTILL_MLFLOW_PORT": str(free_ports(1)[0]),
    }
    subprocess.run([*POTSTILL, "up"], cwd=world.root, env=variables, check=True, timeout=180, capture_output=True)
    try:
        yield f"http://127.0.0.1:{port_of(world, 'prefect')}/api"
    finally:
        subprocess.run([*POTSTILL, "down"], cwd=world.root, env=variables, check=True, timeout=60, capture_output=True)


@pytest.fixture
def served(world: World, api: str) -> Iterator[str]:
    """The same API, while a runner of its own process waits on a schedule of the flow."""
    environment = {**world.environment, "PREFECT_API_URL": api, "PREFECT_HOME": str(world.root / "home")}
    with (world.root / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            SERVE, cwd=world.root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield api
        finally:
            # The schedule has started the next run by now, for which a runner that is asked politely would wait.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def upstream(api: str, flow_run_id: str) -> dict[str, set[str]]:
    """Task -> the tasks that Prefect draws arrows from."""
    tasks = ask(f"{api}/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
    names = {task["id"]: task["name"] for task in tasks}
    return {
        task["name"]: {names[source["id"]] for sources in task["task_inputs"].values() for source in sources}
        for task in tasks
    }


@pytest.mark.slow
@pytest.mark.service
def test_a_scheduled_run_starts_and_ends_with_a_champion(world: World, served: str):
    """The server makes the run, the runner picks it up, and the flow finds MLflow without being told."""

    def scheduled() -> Any:
        runs = ask(f"{served}/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return next((run for run in runs if run["auto_scheduled"] and run["state_type"] == "SCHEDULED"), None)

    def ended() -> Any:
        run = ask(f"{served}/flow_runs/{first['id']}")
        return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    first = wait_for("a scheduled run", scheduled)
    run = wait_for("the end of that run", ended)

    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Promoted"), (world.root / "serve.log").read_text()
    states = ask(f"{served}/flow_run_states/?flow_run_id={run['id']}")
    types = [state["type"] for state in sorted(states, key=lambda state: state["timestamp"])]
    assert types[0] == "SCHEDULED"
    assert types[-2:] == ["RUNNING", "COMPLETED"]
    assert upstream(served, run["id"]) == UPSTREAM
    mlflow = f"http://127.0.0.1:{port_of(world, 'mlflow')}/api/2.0/mlflow"
    champion = ask(f"{mlflow}/registered-models/alias?name=small-student&alias=champion")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in champion["tags"]}
    assert (tags["flow_run.id"], tags["flow_run.deployment"]) == (run["id"], "often")
    assert tags["flow_run.trigger"].startswith("schedule ")


def test_without_any_mlflow_the_way_out_is_named(tmp_path: Path):
    """Nothing is started behind a scheduler's back."""
    settings = Settings(var_dir=tmp_path / "var")

    with pytest.raises(ServerError, match="`potstill up` starts it"):
        running_tracking_uri(settings)

    assert not mlflow_recipe(settings).folder.exists()


def test_a_configured_mlflow_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The local servers are not even looked for."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")

    assert running_tracking_uri(Settings(var_dir=tmp_path)) == "http://example.org:5000"


@pytest.mark.slow
def test_a_flow_without_servers_says_so_before_its_first_step(world: World):
    """Whoever calls the flow without the command line is told the same."""
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        cwd=world.root,
        env=world.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert "`potstill up` starts it" in done.stderr
    assert not (world.root / "var").exists()
