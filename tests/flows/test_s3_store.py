"""The whole pipeline with its store in a bucket: computed once, found by everyone, fetched where it is not local."""

import json
import shutil
import subprocess
import sys
import uuid

import pytest

from components.steps.pipeline import ORDER

pytestmark = [pytest.mark.slow, pytest.mark.service]
SCRIPT = """\
import json, sys
from pathlib import Path
from components.steps.pipeline import ORDER
from flows.run import open_run
run = open_run(Path("params.yaml"), [], name="test")
outcomes = {name: run.step(name) for name in ORDER}
told = {name: [outcome.cached, outcome.artifact.digest, str(outcome.artifact.root)] for name, outcome in outcomes.items()}
print(json.dumps(told))
"""
POTSTILL = ("-c", "from flows.cli import main; main()")


@pytest.fixture
def environment(world, s3_environment):
    """Of a command whose store is a bucket, by one setting and the vendor's variables."""
    return {**world.environment, **s3_environment, "POTSTILL_STORE": f"s3://potstill/{uuid.uuid4().hex}"}


def run(world, environment, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=world.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def steps(world, environment):
    """All steps in a fresh process: step -> [cached, digest, local folder]."""
    return json.loads(run(world, environment, "-c", SCRIPT).stdout.splitlines()[-1])


def test_what_one_machine_computed_another_one_finds(world, environment, s3_environment):
    """The digests of a local store; found again, fetched again, and nothing but copies on the disk."""
    local = world.run()
    first = steps(world, environment)
    second = steps(world, environment)
    copies = world.root / "var" / "cache" / "store"
    shutil.rmtree(copies)
    third = steps(world, environment)

    assert not any(cached for cached, _, _ in first.values())
    assert all(cached for cached, _, _ in (*second.values(), *third.values()))
    assert third == second
    assert {name: digest for name, (_, digest, _) in first.items()} == {
        name: digest for name, (_, digest) in local.items()
    }
    assert all(folder.startswith(str(copies)) for _, _, folder in third.values())
    secret = s3_environment["AWS_SECRET_ACCESS_KEY"].encode()
    assert not any(secret in path.read_bytes() for path in (world.root / "var").rglob("*") if path.is_file())


def test_potstill_run_keeps_everything_in_the_bucket(world, environment):
    """A run, the same again, and once more without local copies: all cached, the same champion."""
    try:
        run(world, environment, *POTSTILL, "run")
        again = run(world, environment, *POTSTILL, "run")
        shutil.rmtree(world.root / "var" / "cache" / "store")
        fetched = run(world, environment, *POTSTILL, "run")
        planned = run(world, environment, *POTSTILL, "plan")
    finally:
        run(world, environment, *POTSTILL, "down")

    assert not (world.root / "var" / "store").exists()
    for repeated in (again, fetched):
        # One step has nothing to do: there are no folds.
        assert (repeated.stdout + repeated.stderr).count("Cached (made by ") == len(ORDER) - 1
        assert "the candidate is the champion already" in repeated.stdout
    assert "a run would find every step" in planned.stdout
