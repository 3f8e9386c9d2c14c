"""A process that trains the students it is given, one at a time, each through the store; see components.sweeps.team.

The first line of its standard input is the job, each further one a student or word that one is given up; a student is
answered by a line when it is there, and, where that was asked for, by one at the end of each epoch.
"""

from __future__ import annotations

import json
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import InterruptedRunError, PotstillError, TrialPrunedError
from components.params import Params, with_values
from components.settings import Settings
from components.worker_processes import answers, say, told_as_error

MODULE = "components.sweeps.worker"
KEPT_BACK = {"tracking_uri", "prefect_api_url", "study_url"}
"""Settings that a process which trains has no use for."""


def job_of(
    params: Params, settings: Settings, inputs: Mapping[str, Artifact], *, producer: str, tell_epochs: bool
) -> dict[str, Any]:
    """What a process must know, as plain data; it trains in one thread."""
    return {
        "params": params.model_dump(mode="json"),
        "settings": {**settings.model_dump(mode="json", exclude=KEPT_BACK), "num_threads": 1},
        "inputs": {name: {**_fields(found), "root": str(found.root)} for name, found in inputs.items()},
        "producer": producer,
        "tell_epochs": tell_epochs,
    }


def _fields(artifact: Artifact) -> dict[str, str]:
    return {"kind": artifact.kind, "key": artifact.key, "digest": artifact.digest}


class _Line(NoProgress):
    """The line to whoever asked: hears that a student is given up, or that nobody listens any more."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.tell_epochs = stream, False
        self.requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.current, self.given_up, self.hung_up = -1, -1, False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "give_up" in message:
                self.given_up = message["give_up"]
            else:
                self.requests.put(message)
        self.hung_up = True
        self.requests.put(None)

    def epoch(self, record: Mapping[str, float]) -> None:
        if self.tell_epochs:
            say(self.stream, {"id": self.current, "epoch": dict(record)})

    def check(self) -> None:
        if self.hung_up:
            raise InterruptedRunError("nobody waits for this student any more")
        if self.given_up == self.current:
            raise TrialPrunedError("worse than half of the other trials at the same epoch")


def serve() -> None:
    """Answer until the requests end, or whoever sends them does: then what is half done is kept for the next time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    line = _Line(answers())
    job = line.requests.get()
    if job is None:
        return
    train = _Trainer(job, line)
    while (request := line.requests.get()) is not None and not line.hung_up:
        line.current = request["id"]
        try:
            answer = train(request)
        except InterruptedRunError:
            return
        except PotstillError as error:
            answer = told_as_error(error)
        say(line.stream, {"id": request["id"], **answer})


class _Trainer:
    """Finds or trains one student after the other."""

    def __init__(self, job: Mapping[str, Any], line: _Line) -> None:
        self.params = Params.model_validate(job["params"])
        self.settings = Settings(**job["settings"])
        self.store = Store(self.settings)
        self.inputs = {
            name: Artifact(**{**fields, "root": Path(fields["root"])}) for name, fields in job["inputs"].items()
        }
        self.producer, self.line = job["producer"], line
        line.tell_epochs = job["tell_epochs"]

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from components.saved_models import describe
        from components.steps.execute import execute
        from components.steps.pipeline import load_step

        outcome = execute(
            load_step(request["step"]),
            params=with_values(self.params, request["values"]),
            settings=self.settings,
            store=self.store,
            inputs=self.inputs,
            producer=self.producer,
            progress=self.line,
        )
        return {
            "key": outcome.artifact.key,
            "cached": outcome.cached,
            "metrics": outcome.artifact.read_json("metrics.json"),
            "num_parameters": describe(outcome.artifact).num_parameters,
        }


if __name__ == "__main__":
    serve()
