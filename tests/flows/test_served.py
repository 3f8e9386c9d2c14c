"""One process serves the deployments: an event starts a run, a person answers it, people are told; Ctrl-C, and silence."""

import json
import os
import signal
import subprocess
import urllib.error
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from components.registry import current
from components.tracking import client
from flows.deployments import FILE, SILENT
from tests.flows.conftest import Ended, World, make_world
from tests.flows.test_schedule import ask, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.service]
SILENT_SECONDS = 40
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Served:
    """A project whose deployments a process serves, when it is asked to, and what its people were told."""

    world: World
    servers: dict[str, str]
    told: list[str]
    webhook: str
    process: subprocess.Popen | None = None

    @property
    def name(self) -> str:
        return self.world.root.name

    @property
    def api(self) -> str:
        return self.servers["PREFECT_API_URL"]

    def write(self, **more: Any) -> None:
        """What the next process serves: runs by an event, which says the tag of the data and the names of the models."""
        names = World.run_as("{{ event.payload.models }}")[1:]
        keys = [override.removeprefix("--set=") for override in names]
        trigger = {
            "event": "potstill.data-version.new",
            "match": {"prefect.resource.id": f"potstill.data.{self.name}"},
            "parameters": {"overrides": ["refresh.tags={{ event.payload.tags }}", "gate.approval_hours=1", *keys]},
        }
        deployment = {"name": self.name, "triggers": [trigger], "schedules": [{"cron": "0 3 * * *"}]}
        (self.world.root / FILE).write_text(yaml.safe_dump({"deployments": [deployment], **more}), encoding="utf-8")

    def start(self) -> None:
        """Wait until it has looked for runs, by when the automations are there too."""
        if self.process is None:
            began = datetime.now(UTC).isoformat()
            knobs = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
            self.process = self.world.start_command("serve", **self.servers, **knobs, POTSTILL_NOTIFY_URL=self.webhook)
            wait_for("a look for runs", lambda: True if (self.deployment().get("last_polled") or "") > began else None)

    def deployment(self) -> dict:
        """Empty where there is none."""
        try:
            return ask(f"{self.api}/deployments/name/refresh/{self.name}")
        except urllib.error.HTTPError:
            return {}

    def end(self, signal_: int) -> Ended:
        assert self.process is not None
        os.killpg(self.process.pid, signal_)
        out, err = self.process.communicate(timeout=120)
        code, self.process = self.process.returncode, None
        return Ended(code, out, err)

    def emit(self, **payload: str) -> dict:
        """The run that the event of a new data version makes."""
        known = {each["id"] for each in self.runs()}
        event = {
            "event": "potstill.data-version.new",
            "resource": {"prefect.resource.id": f"potstill.data.{self.name}"},
            "payload": {"models": self.name, **payload},
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
        }
        ask(f"{self.api}/events", [event])
        return wait_for("a run", lambda: next((each for each in self.runs() if each["id"] not in known), None))

    def runs(self) -> list[dict]:
        """Those by an event."""
        name = {"deployments": {"name": {"any_": [self.name]}}}
        return [each for each in ask(f"{self.api}/flow_runs/filter", name) if not each["auto_scheduled"]]

    def ended(self, run: dict) -> dict:
        def look() -> dict | None:
            found = ask(f"{self.api}/flow_runs/{run['id']}")
            return found if found["state_type"] in FINAL else None

        return wait_for("the end of a run", look)

    def waiting(self, run: dict) -> dict:
        """The run of distill below *run*, once it waits for a person."""

        def look() -> dict | None:
            paused = {
                "flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}, "parent_flow_run_id": {"any_": [run["id"]]}}
            }
            assert ask(f"{self.api}/flow_runs/{run['id']}")["state_type"] not in FINAL
            return next(iter(ask(f"{self.api}/flow_runs/filter", paused)), None)

        return wait_for("a run that waits", look)

    def answer(self, run: dict, **answer: Any) -> None:
        assert ask(f"{self.api}/flow_runs/{run['id']}/resume", {"run_input": answer})["status"] == "ACCEPT"

    def doctor(self) -> str:
        return " ".join(self.world.command("doctor", COLUMNS="200", **self.servers).out.split())

    def champion(self, names: str = "") -> str | None:
        """Version number."""
        found = current(self.servers["MLFLOW_TRACKING_URI"], f"{names or self.name}-student", "champion")
        return found and found.version

    def message(self, of: str) -> str:
        """The next one, which begins like that."""
        start = f"Potstill, refresh/{self.name}: {of}"
        text = wait_for(
            f"a message {start!r}", lambda: next((each for each in self.told if each.startswith(start)), None)
        )
        self.told.remove(text)
        return text

    def states(self, run: dict) -> list[str]:
        found = ask(f"{self.api}/flow_run_states/?flow_run_id={run['id']}")
        return [each["name"] for each in sorted(found, key=lambda each: each["timestamp"])]


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[str]]]:
    """The address of a chat's incoming webhook, and what it got."""
    texts: list[str] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", texts
        server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_data: Path, servers: dict, told: tuple[str, list[str]]) -> Iterator[Served]:
    """It ends with the last test at the latest, and leaves no automation that would touch the runs of other tests."""
    world = make_world(tmp_path_factory.mktemp("served"), small_data)
    (world.root / "infra").mkdir()
    project = Served(world, servers, told[1], told[0])
    project.write(crash_after_seconds=600)
    try:
        yield project
    finally:
        if project.process is not None:
            project.end(signal.SIGKILL)
        for each in ask(f"{project.api}/automations/filter", {}):
            if each["name"] == SILENT:
                ask(f"{project.api}/automations/{each['id']}", method="DELETE")


def test_an_event_starts_a_run_that_a_person_refuses(served: Served) -> None:
    """Its parameters come with the event, the question and the end are told, and nobody is champion."""
    served.start()
    assert f"ok schedules refresh/{served.name} is waited for" in served.doctor()
    run = served.emit(tags="v1")
    waiting = served.waiting(run)

    assert run["parameters"]["overrides"][0] == "refresh.tags=v1"
    assert run["created_by"]["type"] == "AUTOMATION"
    question = served.message(f"{served.name}-student version 1 waits for approval")
    assert "promoted: all " in question
    assert waiting["id"] in question
    served.answer(waiting, approve=False, who="ann", reason='it\'s "early"')
    assert served.ended(run)["state_name"] == "Refused"
    assert 'refused: ann refused it: it\'s "early"' in served.message("Refused")
    assert served.champion() is None


def test_a_person_approves(served: Served) -> None:
    """The run goes on where it waited, and the champion is the one that was asked about."""
    served.start()
    run = served.emit(tags="v1", models=f"{served.name}-2")
    waiting = served.waiting(run)
    served.message(f"{served.name}-2-student version 1 waits for approval")
    served.answer(waiting, approve=True, who="ann")

    assert served.ended(run)["state_name"] == "Promoted"
    assert served.states(waiting) == ["Pending", "Running", "Paused", "Running", "Promoted"]
    assert served.champion(f"{served.name}-2") == "1"
    tags = client(served.servers["MLFLOW_TRACKING_URI"]).get_model_version(f"{served.name}-2-student", "1").tags
    assert tags["flow_run.trigger"] == f"automation Potstill: refresh/{served.name} runs by potstill.data-version.new"


def test_a_failure_is_told(served: Served) -> None:
    """With its reason; so far each thing was told once, though a run inside another ends as well."""
    served.start()
    run = served.emit(tags="nothing*")

    assert served.ended(run)["state_name"] == "Failed"
    assert "fits refresh.tags 'nothing*'" in served.message("Failed")
    assert served.told == []


def test_nobody_answers(served: Served) -> None:
    """Time is up: a refusal with its exit code, and never a failed run."""
    done = served.world.command(*World.run_as(f"{served.name}-3"), "--set=gate.approval_hours=0.001", **served.servers)
    newest = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"deployment_id": {"is_null_": True}}}
    (run,) = ask(f"{served.api}/flow_runs/filter", newest)

    assert done.code == 3, done.err
    assert "refused: nobody approved it within 0.001 h" in done.out.replace("\n", " ")
    assert served.states(run) == ["Pending", "Running", "Paused", "Running", "Refused"]
    assert served.champion(f"{served.name}-3") is None


def test_ctrl_c_while_a_run_waits_for_a_person(served: Served) -> None:
    """Once is enough; nobody is champion, and the same command asks again."""
    names = f"{served.name}-5"
    process = served.world.start_command(*World.run_as(names), "--set=gate.approval_hours=1", **served.servers)
    assert process.stdout is not None
    while "waiting 1 h for approval" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130, out + err
    assert err == "potstill: stopped as you asked; what was done is kept, the same command goes on from there\n"
    assert served.champion(names) is None
    again = served.world.command(*World.run_as(names), "--set=gate.approval_hours=0.001", **served.servers)
    assert "refused: nobody approved it within 0.001 h" in again.out.replace("\n", " ")


def test_ctrl_c_ends_it_and_pauses_the_schedules(served: Served) -> None:
    """Without a word; the next one takes them up again."""
    served.start()
    done = served.end(signal.SIGINT)

    assert (done.code, done.err) == (0, "")
    assert served.deployment()["paused"]
    assert f"refresh/{served.name} is paused" in served.doctor()
    served.write(crash_after_seconds=SILENT_SECONDS)
    served.start()
    assert not served.deployment()["paused"]


def test_a_run_without_a_process_is_crashed(served: Served) -> None:
    """As are the run inside it, and one whose process was gone before its first heartbeat; people are told."""
    served.write(crash_after_seconds=SILENT_SECONDS)
    served.start()
    flow = ask(f"{served.api}/flows/", {"name": "promote"})["id"]
    unborn = ask(f"{served.api}/flow_runs/", {"flow_id": flow, "state": {"type": "PENDING"}})
    run = served.emit(tags="v1", models=f"{served.name}-4")
    waiting = served.waiting(run)
    served.end(signal.SIGKILL)

    assert served.ended(run)["state_name"] == "Crashed"
    assert served.ended(waiting)["state_name"] == "Crashed"
    assert served.ended(unborn)["state_name"] == "Crashed"
    assert f"not been heard of for {SILENT_SECONDS} s" in served.message("Crashed")
