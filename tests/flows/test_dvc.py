"""The other door: `dvc repro` runs the same steps through the same store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
IDENTITY = {f"GIT_{role}_{key}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}


def call(world, *command: str) -> str:
    environment = {**world.environment, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=world.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(world, *arguments: str) -> str:
    return call(world, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture
def project(world):
    """The small world as a git repository with the project's own dvc.yaml."""
    shutil.copy(ROOT / "dvc.yaml", world.root)
    (world.root / ".gitignore").write_text("/var/\n__pycache__/\n")
    call(world, "git", "init", "-q", "-b", "main")
    dvc(world, "init", "-q")
    return world


def test_both_doors_lead_to_the_same_results(project):
    """`dvc repro` finds what the pipeline made, and an experiment with another T changes the student's metrics."""
    made = {name: digest for name, (_, digest) in project.run().items()}
    dvc(project, "repro")
    outputs = project.root / "var" / "dvc"
    referred = {name: json.loads((outputs / f"{name}.json").read_text())["digest"] for name in made}

    assert referred == made
    assert project.computed() == []

    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "first")
    dvc(project, "exp", "run", "-S", "student.objective.temperature=9")
    changed = json.loads(dvc(project, "metrics", "diff", "--json"))["var/dvc/metrics.json"]

    assert "kl_to_teacher" in changed
    assert "teacher_accuracy" not in changed
    assert (outputs / "plots" / "learning_curve.csv").read_text().startswith("arm,epoch,")
