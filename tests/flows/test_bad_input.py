"""What a user can get wrong, at the command line: the exit code, one message with the way out, nothing lost."""

import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

NOWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
"""No error of parameters waits for a server, so these stand for all."""


@pytest.mark.parametrize("command", [("run",), ("stage", "data"), ("plan",)])
def test_all_problems_of_the_parameters_are_told_at_once(world, command):
    """A misspelt name, a missing one, a bound and an unknown plugin, with what was probably meant."""
    world.edit("params.yaml", "revision:", "revison:")
    world.edit("params.yaml", "{name: parquet}", "{name: parquett}")
    world.edit("params.yaml", "temperature: 4", "temperature: -4")
    world.edit("params.yaml", "floor: 0.3, ", "")
    message = world.command(*command, **NOWHERE).refused_with(2)
    assert "4 problems" in message
    assert "data.revison (line 4): no such parameter; did you mean 'revision'?" in message
    assert "data.format (line 5): no 'parquett' among the formats" in message
    assert "student.objective.temperature (line 15): Input should be greater than 0 (is -4)" in message
    assert "gate.floor (line 20): is required" in message
    assert not world.var.exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("student.views={count: 4}", "all views would be the same sample"),
        ("data.split={by: hash, validation: 0.5, test: 0.5}", "nothing is left to train on"),
        ("gate.metric=acuracy", "'acuracy' is not a metric of this workload"),
        ("student.objektive.alpha=1", "did you mean 'objective'"),
        ("student.seed", "is not of the form section.field=value"),
    ],
)
def test_contradictions_die_before_anything_starts(world, override, said):
    """An override that cannot be meant is told by its name."""
    assert said in world.command("run", "--set", override, **NOWHERE).refused_with(2)
    assert not world.var.exists()


def test_a_file_that_is_not_there(world):
    """The option that names one is in the message."""
    assert "--params" in world.command("run", "--params", "none.yaml", **NOWHERE).refused_with(2)


def test_a_message_is_wrapped_between_words_for_a_terminal(world):
    """At the terminal's own width; a pipe gets whole lines."""
    ours, theirs = pty.openpty()
    environment = {**world.environment, **NOWHERE, "COLUMNS": "80"}
    command = [Path(world.environment["PATH"].partition(os.pathsep)[0]) / "potstill", "run", "--set", "gate.metric=x"]
    done = subprocess.run(command, cwd=world.root, env=environment, stderr=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    os.close(ours)
    piped = world.command("run", "--set", "gate.metric=x", **NOWHERE).err
    assert done.returncode == 2
    assert max(map(len, shown.splitlines())) <= 80 < max(map(len, piped.splitlines()))
    assert shown.split() == piped.split()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nobody", "silent", "something else"])
def test_a_tracking_server_that_does_not_answer_is_told_before_training(world, servers, silent, kind):
    """Nobody there, somebody who says nothing, and another kind of server; in seconds."""
    address = {"nobody": "http://127.0.0.1:9", "silent": silent, "something else": servers["PREFECT_API_URL"]}[kind]
    began = time.monotonic()
    message = world.command("run", **{**servers, "MLFLOW_TRACKING_URI": address}).refused_with(1)
    assert time.monotonic() - began < 30
    assert address in message
    assert "MLFLOW_TRACKING_URI" in message
    assert not (world.var / "store").exists()


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.revision=damaged", r"1 of 300 samples cannot be decoded: digits\.parquet:7: .*on_damaged=skip"),
        ("data.revision=empty", r"no samples|is empty|holds no"),
        ("data.revision=outside", r"1 label.* outside .*digits\.parquet:5 is '17'"),
        ("data.revision=lonely", r"'9' has"),
        ("data.revision=no-dvc", r"has no DVC|no DVC in|without DVC|not .*DVC"),
        ("data.revision=v9", r"'v9'"),
        ("data.path=digit", r"digits"),
        ("data.repository=/nowhere/at/all", r"/nowhere/at/all"),
    ],
)
def test_data_that_cannot_be_used_stop_the_run(world, bad_data, servers, override, said):
    """By name, before any training; nothing of it is committed."""
    world.edit("params.yaml", f"repository: {world.data}", f"repository: {bad_data}")
    revision = () if "revision" in override else ("--data-rev", "outside")
    message = world.command("run", *revision, "--set", override, **servers).refused_with(2)
    assert re.search(said, message, re.DOTALL), message
    assert list((world.var / "store").glob("*/*/manifest.json")) == []


@pytest.mark.slow
@pytest.mark.service
def test_a_damaged_picture_is_skipped_when_the_parameters_say_so(world, bad_data, servers):
    """Said by name during the run, and kept with the data."""
    world.edit("params.yaml", f"repository: {world.data}", f"repository: {bad_data}")
    skipping = ("--data-rev=damaged", "--set=data.on_damaged=skip")
    ended = world.command(*world.run_as(f"{world.root.name}-skip"), *skipping, **servers)
    assert (ended.code, ended.err) == (0, "")
    assert "skipped" in ended.out
    assert "digits.parquet:7" in ended.out
    info = json.loads(next((world.var / "store" / "data").glob("*/data.json")).read_text())
    assert [line.partition(": ")[0] for line in info["damaged"]] == ["digits.parquet:7"]


@pytest.mark.slow
@pytest.mark.service
def test_a_second_ctrl_c_stops_at_once_and_says_so(world, servers):
    """Wherever the run is: in the middle of an epoch, or of an answer from a server."""
    process = world.start_command(
        *world.run_as(f"{world.root.name}-twice"), "--set=teacher.train.epochs=100000", **servers
    )
    while "teacher …" not in process.stdout.readline():
        assert process.poll() is None
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.startswith("potstill: stopped ")
    assert "Traceback" not in out + err


@pytest.mark.slow
@pytest.mark.service
def test_ctrl_c_at_any_moment_and_the_same_command_goes_on(world, servers):
    """Exit code 130 and one sentence, or too late to matter; the end is that of an undisturbed run."""
    calm, names = replace(world, var_name="calm"), f"{world.root.name}-stop"
    began = time.monotonic()
    assert calm.command(*calm.run_as(f"{names}-calm"), **servers).code == 0
    seconds, moments, codes = time.monotonic() - began, random.Random(1), []
    for _ in range(3):
        process = world.start_command(*world.run_as(names), **servers)
        time.sleep(moments.uniform(0.5, seconds))
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert "Traceback" not in out + err, err
        assert err.count("potstill: ") == (process.returncode == 130), err
        # Python itself dies of a signal that comes while it cleans up, after the last words.
        assert process.returncode in (0, 130) or "MLflow run" in out, out
    assert 130 in codes
    ended = world.command(*world.run_as(names), **servers)
    assert ended.code == 0, ended.err
    assert world.digests() == calm.digests()
