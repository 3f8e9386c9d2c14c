"""`potstill run` killed at random moments, and the same command again: the end is that of an undisturbed run."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.service]
NUM_STEPS = 8


@pytest.fixture
def worlds(world) -> Iterator[tuple]:
    """The same code, data and parameters with two places for results: one to disturb, one not."""
    pair = (world, replace(world, var_name="undisturbed"))
    try:
        yield pair
    finally:
        for each in pair:
            each.stop_servers()


def forget(world) -> None:
    """What was computed; the servers go on."""
    for folder in ("store", "cache", "reports"):
        shutil.rmtree(world.var / folder, ignore_errors=True)


def killed_at(process: subprocess.Popen, seconds: float) -> bool:
    """Whether it was still running then, and is dead now, with all that it started but the servers."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def phase(world, names: str) -> str:
    """How far the run had come."""
    if not (world.var / "servers" / "mlflow.json").exists():
        return "start the servers"
    kinds = {folder.name for folder in (world.var / "store").glob("[!.]*") if any(folder.glob("[!.]*/manifest.json"))}
    if len(kinds - {"accepted"}) < NUM_STEPS:
        return "steps"
    found = world.shown(world.server_url("mlflow"), names)
    if not found.versions[f"{names}-student"]:
        return "log" if not found.complete or not found.runs else "register"
    if len(found.versions[f"{names}-teacher"]) == 0:
        return "register"
    if found.champion:
        return "end"
    return "promote" if found.runs["promote"] else "gate and report"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("num_kills", [1, pytest.param(25, marks=pytest.mark.soak)])
def test_kills_change_nothing(worlds, num_kills):
    """Digests of all artifacts, runs, versions and the alias; nothing is there twice, and nothing is missing."""
    disturbed, undisturbed = worlds
    assert undisturbed.command("up").code == 0
    began = time.monotonic()
    assert undisturbed.command(*undisturbed.run_as("calm")).code == 0
    full_seconds = time.monotonic() - began
    expected = undisturbed.shown(undisturbed.server_url("mlflow"), "calm")
    assert expected.complete and expected.runs["promote"] == 1 and expected.num_logged_models == 2
    undisturbed.stop_servers()

    moments, phases, lives = random.Random(0), Counter(), 0
    while phases.total() < num_kills:
        names, lives = f"life{lives}", lives + 1
        forget(disturbed)
        while phases.total() < num_kills and killed_at(
            disturbed.start_command(*disturbed.run_as(names)), moments.uniform(0, full_seconds)
        ):
            phases[phase(disturbed, names)] += 1
        ended = disturbed.command(*disturbed.run_as(names))
        assert ended.code == 0, ended.err
        assert_alike(disturbed.shown(disturbed.server_url("mlflow"), names), expected)
    print(f"\n{num_kills} of {num_kills} kills changed nothing, in {lives} runs; they fell into {dict(phases)}")


def assert_alike(found, expected) -> None:
    """A run that was killed after it promoted decides once more, about its own champion: the only difference."""
    assert found.runs.pop("already_champion", 0) <= 1
    renamed = replace(found, versions=dict(zip(expected.versions, found.versions.values(), strict=True)))
    assert renamed == expected
