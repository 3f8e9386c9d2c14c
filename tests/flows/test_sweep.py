"""`potstill sweep`: end to end, killed in the middle, pruned, refused, and without MLflow."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import psutil
import pytest

SPACE = "{student.objective.temperature: [1, 4], student.objective.alpha: [0.5, 0.9]}"
SWEEP = f"--set=sweep={{space: {SPACE}, seeds: 2, processes: 2}}"
SCRIPT = """\
import json, sys
from pathlib import Path
from components.sweeps.conduct import Sweep, conduct
from components.sweeps.diagnostics import diagnose
from components.sweeps.results import to_json
from components.steps.pipeline import ancestors
from flows.run import open_run
run = open_run(Path("params.yaml"), sys.argv[1:], name="test")
for name in ancestors("student"):
    run.step(name)
sweep = Sweep(run.params, run.settings, run.store, run.artifacts(), "small", "test", run.progress)
result = conduct(sweep)
print(json.dumps({**to_json(result), "answers": [each.question for each in diagnose(sweep, result)]}))
"""
INTERRUPTIBLE = f"""\
from rich.console import Console
from flows.console import ConsoleProgress, interruptible
from flows.run import PROGRESS
progress = ConsoleProgress(Console())
PROGRESS.set(progress)
with interruptible(progress):
{textwrap.indent(SCRIPT, "    ")}"""


def start(world, sweep: str, *overrides: str, script: str = SCRIPT) -> subprocess.Popen:
    """A sweep without servers, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, f"sweep={sweep}", *overrides],
        cwd=world.root,
        env=world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def swept(world, sweep: str, *overrides: str) -> dict:
    process = start(world, sweep, *overrides)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def students(world) -> dict[str, str]:
    """Key -> the moment each student in the store was made."""
    folders = (world.var / "store" / "student").glob("[!.]*/manifest.json")
    return {path.parent.name: json.loads(path.read_text())["created"] for path in folders}


def in_group(process: subprocess.Popen) -> list[int]:
    """Processes that it started and that are still there."""
    alive = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(each.pid) == process.pid and each.status() != psutil.STATUS_ZOMBIE:
                alive.append(each.pid)
    return alive


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_sweep_repeats_no_finished_student(world):
    """Two objectives, 4 trials of 2 seeds; SIGKILL to all processes after 3 students; the rest alone is trained then."""
    models = "[{name: mlp, hidden: [4]}, {name: mlp, hidden: [8]}]"
    sweep = (
        f"{{space: {{student.objective.temperature: [1, 4], student.model: {models}}}, seeds: 2, processes: 2, "
        "objectives: [accuracy, num_parameters]}"
    )
    process = start(world, sweep)
    while len(students(world)) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = students(world)
    assert 3 <= len(before) < 8

    result = swept(world, sweep)
    after = students(world)

    assert len(after) == 8
    assert {key: after[key] for key in before} == before
    trained = {key for trial in result["trials"] for key in (each["key"] for each in trial["students"])}
    assert trained == set(after)
    assert result["num_trained"] <= 8 - len(before) + 4, "and at most the four hard-label students"
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 4
    assert len(result["front_num_parameters"]) >= 1
    assert len(result["hard_labels"]) == 2
    assert result["answers"] == ["Is T too low or too high for this teacher?", "Is the teacher good enough?",
                                 "Is the student too small?"]  # fmt: skip

    again = swept(world, sweep)
    assert again["num_trained"] == 0
    assert students(world) == after
    assert again["recommendation"]["trial"] == result["recommendation"]["trial"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hopeless_trials_are_pruned_and_leave_no_student(world):
    """Learning rates that learn nothing, after four that do."""
    rates = "[0.05, 0.04, 0.03, 0.06, 1.0e-9]"
    sweep = (
        f"{{space: {{student.train.optimizer.learning_rate: {rates}, student.train.epochs: [200]}}, processes: 1, "
        "pruner: median}"
    )
    result = swept(world, sweep, "student.train.checkpoint_seconds=20")

    states = {trial["values"]["student.train.optimizer.learning_rate"]: trial["state"] for trial in result["trials"]}
    assert states == {0.05: "complete", 0.04: "complete", 0.03: "complete", 0.06: "complete", 1e-9: "pruned"}
    assert len(students(world)) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_stops_at_a_safe_point_and_leaves_no_process(world):
    """What was half done is kept as a checkpoint; the processes are gone with the one that started them."""
    sweep = "{space: {student.objective.temperature: [1, 4], student.train.epochs: [100000]}, processes: 2}"
    process = start(world, sweep, script=INTERRUPTIBLE)
    while not [*(world.var / "store" / ".work" / "student").glob("*/checkpoint-*.json")]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    assert "InterruptedRunError: stopped as you asked" in err
    assert in_group(process) == []
    assert students(world) == {}


@pytest.mark.slow
def test_a_space_that_cannot_be_swept_is_refused_before_anything_starts(world):
    """Teacher-side parameters, with their name and why; and a file without a sweep."""
    refused = world.command("sweep", "--set=sweep={space: {teacher.seed: [0, 1]}}")
    assert "teacher.seed: the step teacher reads it" in refused.refused_with(2)
    assert "no section sweep" in world.command("sweep").refused_with(2)
    assert not (world.var / "store").exists()


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(900)
def test_a_sweep_end_to_end(world, servers):
    """A page, a run with a nested one for each student, once; without MLflow trials are kept, and logged the next time."""
    from components.tracking import PARENT_TAG, client

    down = {**servers, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    name = ("--set=registry.experiment=sweeps",)
    ended = world.command("sweep", SWEEP, *name, **down)
    assert ended.code == 0, ended.err
    assert "not logged to MLflow, the same command does it another time" in ended.out
    assert "temperature" in ended.out and "Is the student too small?" in ended.out
    kept = students(world)
    assert len(kept) == 8

    for _ in range(2):
        ended = world.command("sweep", SWEEP, *name, **servers)
        assert ended.code == 0, ended.err
        assert "0 students were trained" in ended.out
    assert students(world) == kept
    mlflow = client(servers["MLFLOW_TRACKING_URI"])
    runs = mlflow.search_runs([mlflow.get_experiment_by_name("sweeps").experiment_id])
    parents = [run for run in runs if PARENT_TAG not in run.data.tags]
    nested = [run for run in runs if run.data.tags.get(PARENT_TAG) == parents[0].info.run_id]
    assert len(parents) == 1
    assert len(nested) == 8 + 2, "students of 4 trials, and of hard labels"
    temperatures = {run.data.params.get("student.objective.temperature") for run in nested}
    assert {"1", "4"} <= temperatures
    (folder,) = (world.var / "sweeps").glob("params-*")
    assert {"report.html", "sweep.json", "heat_map_1.png"} <= {path.name for path in folder.iterdir()}
