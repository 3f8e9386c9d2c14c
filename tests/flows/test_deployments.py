"""Schedules from a file: on a real server, run by a real worker, and refused where they make no sense."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.errors import BadInputError
from flows.automations import MAY_BE_SILENT
from flows.deployments import FILE, ROOT, SILENT, read_deployments
from flows.refresh_tasks import NOTHING_NEW
from flows.sweep_tasks import STATE_NAME
from flows.tasks import STATE_NAMES
from tests.flows.conftest import World
from tests.flows.test_schedule import ask

PREFECT = str(Path(sys.executable).with_name("prefect"))


def test_the_file_we_ship_is_read() -> None:
    """With a schedule, an event and the flow that does nothing without new data."""
    found = read_deployments(ROOT / FILE)

    assert [(each.full_name, len(each.schedules)) for each in found.deployments] == [("refresh/nightly", 1)]
    assert [each.event for each in found.deployments[0].triggers] == ["potstill.data-version.new"]


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ({"name": "x", "schedules": [{"cron": "0 3 * * *", "interval_seconds": 60}]}, "exactly one of cron"),
        ({"name": "x", "flow": "destil"}, "'refresh' or 'distill'"),
        ({"name": "x", "schedule": "daily"}, "deployments.0.schedule"),
        ({}, "deployments.0.name"),
        ({"name": "x", "triggers": [{"match": {}}]}, "deployments.0.triggers.0.event"),
    ],
)
def test_problems_are_named(tmp_path: Path, deployment: dict, message: str) -> None:
    """Before any server is asked."""
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump({"deployments": [deployment]}), encoding="utf-8")

    with pytest.raises(BadInputError, match=message):
        read_deployments(file)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"notify": {"block": "slack-webhook"}}, "notify.block"),
        ({"notify": {"about": ["late"]}}, "'failed', 'crashed', 'refused' or 'waiting'"),
        ({"crash_after_seconds": 5}, "greater than or equal to 10"),
    ],
)
def test_problems_of_automations_are_named(tmp_path: Path, more: dict, message: str) -> None:
    """With those that Prefect would only find later."""
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump({"deployments": [{"name": "x"}], **more}), encoding="utf-8")

    with pytest.raises(BadInputError, match=message):
        read_deployments(file)


def test_every_state_of_our_flows_may_be_silent() -> None:
    """A name that is missing there would have a run that is over marked as Crashed."""
    named = {
        name
        for file in (ROOT / "flows").glob("*.py")
        for name in re.findall(r"Completed\(name=(\w+)", file.read_text())
    }

    assert named == {"NOTHING_NEW", "STATE_NAME", "STATE_NAMES", "state"}
    assert {*STATE_NAMES.values(), NOTHING_NEW, STATE_NAME} <= {*MAY_BE_SILENT}


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


def automations_of(api: str, deployment: str) -> list[str]:
    """What the server does by itself for a deployment."""
    found = ask(f"{api}/automations/related-to/prefect.deployment.{deployment}")
    return sorted(each["name"].removeprefix("Potstill: ") for each in found)


@pytest.mark.slow
@pytest.mark.service
def test_a_worker_runs_what_was_deployed(world: World, servers: dict) -> None:
    """It ends with a promotion; a second trigger without new data does nothing, quickly. Deploying again renews."""
    (world.root / "infra").mkdir()
    name = world.root.name
    keys = [override.removeprefix("--set=") for override in world.run_as(name)[1:]]
    wanted = {"name": name, "parameters": {"overrides": [*keys, "refresh.tags=v1"]}, "triggers": [{"event": "arrived"}],
              "schedules": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}]}  # fmt: skip
    for about in (["failed", "waiting"], ["failed"]):
        file = {"work_pool": name, "notify": {"about": about}, "deployments": [wanted]}
        (world.root / FILE).write_text(yaml.safe_dump(file), encoding="utf-8")
        done = world.command("deploy", POTSTILL_NOTIFY_URL="http://127.0.0.1:9/nobody", **servers)
        assert (done.code, done.err) == (0, "")
        assert f"deployed refresh/{name}" in done.out
        assert f"POTSTILL_NOTIFY_URL is told of runs that are: {', '.join(about)}" in done.out
    api = servers["PREFECT_API_URL"]
    found = ask(f"{api}/deployments/name/refresh/{name}")

    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [each["schedule"]["timezone"] for each in found["schedules"]] == ["Europe/Berlin"]
    assert automations_of(api, found["id"]) == [
        f"refresh/{name} runs by arrived",
        f"tell of failed runs of refresh/{name}",
    ]
    named = [each for each in ask(f"{api}/automations/filter", {}) if each["name"] == SILENT]
    assert [each["trigger"]["within"] for each in named] == [600]
    assert f"nobody picks up the runs of refresh/{name}" in world.command("doctor", COLUMNS="200", **servers).out
    assert triggered(world, servers, found["id"]) == "Promoted"
    began = time.monotonic()
    assert triggered(world, servers, found["id"]) == "NothingNew"
    print(f"a trigger without new data took {time.monotonic() - began:.1f} s, worker included")
    ask(f"{api}/automations/{named[0]['id']}", method="DELETE")
    told = world.command("doctor", COLUMNS="200", **servers).out
    assert f"refresh/{name} is waited for" in told
    assert "would stay Running" in told


@pytest.mark.slow
@pytest.mark.service
def test_messages_need_a_block_that_is_there(world: World, servers: dict) -> None:
    """Nothing is deployed where the one that is named is not."""
    (world.root / "infra").mkdir()
    file = {"notify": {"block": "slack-webhook/team"}, "deployments": [{"name": world.root.name}]}
    (world.root / FILE).write_text(yaml.safe_dump(file), encoding="utf-8")

    told = world.command("deploy", **servers).refused_with(2)

    assert "no block 'slack-webhook/team'" in told
    assert "POTSTILL_NOTIFY_URL" in told
    every = ask(f"{servers['PREFECT_API_URL']}/deployments/filter", {})
    assert world.root.name not in [each["name"] for each in every]
