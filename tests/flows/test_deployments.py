"""Schedules from a file: on a real server, run by a real worker, and refused where they make no sense."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.errors import BadInputError
from flows.deployments import FILE, ROOT, read_deployments
from tests.flows.conftest import World
from tests.flows.test_schedule import ask

PREFECT = str(Path(sys.executable).with_name("prefect"))


def test_the_file_we_ship_is_read() -> None:
    """With a schedule and the flow that does nothing without new data."""
    found = read_deployments(ROOT / FILE)

    assert [(each.flow, each.name, len(each.schedules)) for each in found.deployments] == [("refresh", "nightly", 1)]


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ({"name": "x", "schedules": [{"cron": "0 3 * * *", "interval_seconds": 60}]}, "exactly one of cron"),
        ({"name": "x", "flow": "destil"}, "'refresh' or 'distill'"),
        ({"name": "x", "schedule": "daily"}, "deployments.0.schedule"),
        ({}, "deployments.0.name"),
    ],
)
def test_problems_are_named(tmp_path: Path, deployment: dict, message: str) -> None:
    """Before any server is asked."""
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump({"deployments": [deployment]}), encoding="utf-8")

    with pytest.raises(BadInputError, match=message):
        read_deployments(file)


def worker(world: World, servers: dict) -> None:
    done = subprocess.run(
        [PREFECT, "worker", "start", "--pool", world.root.name, "--type", "process", "--run-once"],
        cwd=world.root, env={**world.environment, **servers}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def triggered(world: World, servers: dict, deployment: str) -> str:
    """State of a run of *deployment* that a worker picked up."""
    api = servers["PREFECT_API_URL"]
    run = ask(f"{api}/deployments/{deployment}/create_flow_run", {})
    worker(world, servers)
    return str(ask(f"{api}/flow_runs/{run['id']}")["state"]["name"])


@pytest.mark.slow
@pytest.mark.service
def test_a_worker_runs_what_was_deployed(world: World, servers: dict) -> None:
    """It ends with a promotion; a second trigger without new data does nothing, quickly. Deploying again renews."""
    (world.root / "infra").mkdir()
    name = world.root.name
    keys = [override.removeprefix("--set=") for override in world.run_as(name)[1:]]
    wanted = {"name": name, "parameters": {"overrides": [*keys, "refresh.tags=v1"]},
              "schedules": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}]}  # fmt: skip
    (world.root / FILE).write_text(yaml.safe_dump({"work_pool": name, "deployments": [wanted]}), encoding="utf-8")
    for _ in range(2):
        done = world.command("deploy", **servers)
        assert (done.code, done.err) == (0, "")
        assert f"deployed refresh/{name}" in done.out
    api = servers["PREFECT_API_URL"]
    found = ask(f"{api}/deployments/name/refresh/{name}")

    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [each["schedule"]["timezone"] for each in found["schedules"]] == ["Europe/Berlin"]
    assert triggered(world, servers, found["id"]) == "Promoted"
    began = time.monotonic()
    assert triggered(world, servers, found["id"]) == "NothingNew"
    print(f"a trigger without new data took {time.monotonic() - began:.1f} s, worker included")
