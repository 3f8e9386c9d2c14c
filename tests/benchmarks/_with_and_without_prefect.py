"""Time the flow, or the same functions called one after another without Prefect.

python _with_and_without_prefect.py REQUEST.json OUT.json, in the folder of params.yaml and with both servers up.
The request holds a folder for what is written, a warm-up's overrides, those of the measured run, and its arm. Both
have an empty var/ and names of their own in MLflow, so that each does all of the work.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefect.logging import disable_run_logger

from components import tracking
from components.contracts import NoProgress
from components.steps.pipeline import ORDER
from flows import run as runs
from flows import tasks
from flows.distill import distill

PARAMS = Path("params.yaml")


@dataclass
class StepSeconds(NoProgress):
    """Adds up what the steps report of themselves."""

    seconds: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
    num_cached: int = 0

    def step_line(self, title: str, *, cached: bool, producer: str, seconds: float, digest: str) -> None:
        self.seconds += seconds
        self.digests[title] = digest
        self.num_cached += cached


@dataclass(frozen=True)
class Timed:
    """One run: its wall time, and the part of it that was spent inside the steps."""

    arm: str
    wall_seconds: float
    step_seconds: float
    num_cached: int
    digests: Mapping[str, str]


def with_prefect(overrides: Sequence[str]) -> None:
    state: Any = distill(params_file=str(PARAMS), overrides=list(overrides), return_state=True)
    assert state.result().decision.outcome == "promote"


def without_prefect(overrides: Sequence[str]) -> None:
    """What the body of the flow and its tasks do, in the same order."""
    with disable_run_logger():
        run = runs.open_run(PARAMS, overrides, name="without prefect")
        tracking.probe(run.settings.tracking_uri)
        for name in ORDER:
            run.step(name)
        logged = tasks._project(run)
        versions = tasks._register(run, logged)
        decision = tasks._judge(run, versions)
        assert decision.outcome == "promote"
        tasks._promote(run, versions)
        tasks._report(run, logged, versions, decision)


ARMS = {"with": with_prefect, "without": without_prefect}


def timed(arm: str, overrides: Sequence[str], folder: Path) -> Timed:
    os.environ["POTSTILL_VAR_DIR"] = str(folder)
    names = (f"registry.{field}={folder.name}-{field}" for field in ("experiment", "student", "teacher"))
    steps = StepSeconds()
    runs.PROGRESS.set(steps)
    started = time.perf_counter()
    ARMS[arm]((*overrides, *names))
    return Timed(arm, time.perf_counter() - started, steps.seconds, steps.num_cached, steps.digests)


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(request["folder"])
    # Every import and first call is paid for here.
    timed(request["arm"], request["warm_up"], folder / f"warm-up-{folder.name}")
    found = timed(request["arm"], request["overrides"], folder / f"measured-{folder.name}")
    Path(sys.argv[2]).write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
