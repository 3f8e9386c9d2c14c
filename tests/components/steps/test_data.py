"""The data step: from a revision to the packed artifact."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.contracts import NoProgress
from components.data.formats._hf_parquet import write_parquet_images
from components.data.packed import open_packed
from components.errors import DataDamagedError, DataNotFoundError, SplitError
from components.params import DataParams
from components.settings import Settings
from components.steps.data import STEP
from components.steps.step import StepContext, World

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "DVC_NO_ANALYTICS": "1",
    **{f"GIT_{role}_{key}": "x@example.invalid" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
}


class Listening(NoProgress):
    """Remembers what a step says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True)


def commit(folder: Path, tag: str, *paths: str) -> None:
    run(folder, sys.executable, "-m", "dvc", "add", "--quiet", *paths)
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", tag)
    run(folder, "git", "tag", tag)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, size=(count, 1, 4, 4), dtype=np.uint8), np.arange(count) % 2


def damage(path: Path, row: int) -> None:
    """Break the PNG of one row; the Parquet file itself stays whole."""
    content = path.read_bytes()
    start = [at for at in range(len(content)) if content.startswith(b"\x89PNG", at)][row]
    path.write_bytes(content[:start] + b"XXXX" + content[start + 4 :])


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """set/ and lone.parquet; tags: v1 (40 samples), v2 (60), same (v1 again), broken (one picture damaged), copies."""
    folder = tmp_path_factory.mktemp("data-step") / "repository"
    folder.mkdir()
    run(folder, "git", "init", "--quiet", "--initial-branch=main", "--template=", ".")
    run(folder, sys.executable, "-m", "dvc", "init", "--quiet")
    images, labels = pictures(60)
    for name in ("set/a.parquet", "lone.parquet"):
        write_parquet_images(folder / name, images[:40], labels[:40], ["even", "odd"])
    commit(folder, "v1", "set", "lone.parquet")
    write_parquet_images(folder / "set" / "b.parquet", images[40:], labels[40:], ["even", "odd"])
    commit(folder, "v2", "set")
    (folder / "set" / "b.parquet").unlink()
    commit(folder, "same", "set")
    damage(folder / "set" / "a.parquet", 3)
    commit(folder, "broken", "set")
    (folder / "set" / "a.parquet").unlink()
    write_parquet_images(folder / "set" / "a.parquet", images[:40], labels[:40], ["even", "odd"])
    write_parquet_images(folder / "set" / "b.parquet", images[:2], 1 - labels[:2], ["even", "odd"])
    commit(folder, "copies", "set")
    return folder


@pytest.fixture(autouse=True)
def _dvc_keeps_nothing_between_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc-site"))


def parameters(repository: Path, **changes: Any) -> Any:
    section = {
        "repository": str(repository), "path": "set", "revision": "v1", "format": {"name": "parquet"},
        "split": {"by": "hash", "validation": 0.25, "test": 0.25}, **changes,
    }  # fmt: skip
    return SimpleNamespace(data=DataParams.model_validate(section))


def resolve(params: Any, settings: Settings) -> Any:
    return STEP.resolve(World(params=params, settings=settings, inputs={}, store=None))  # type: ignore[arg-type]


def execute(params: Any, settings: Settings, out: Path) -> tuple[Artifact, list[str]]:
    out.mkdir()
    progress = Listening()
    resolved = resolve(params, settings)
    STEP.run(StepContext(params, settings, {}, resolved, out, out.parent / "work", progress))
    return Artifact("data", "key", "digest", out), progress.said


def test_a_data_version_becomes_a_packed_artifact(repository, settings, tmp_path):
    """Decoded, split and packed; the run says which version it is."""
    artifact, said = execute(parameters(repository), settings, tmp_path / "out")
    packed = open_packed(artifact)
    images, labels = pictures(60)

    assert np.array_equal(packed.samples, images[:40])
    assert packed.labels.tolist() == labels[:40].tolist()
    assert packed.spec.class_names == ("even", "odd")
    assert sum(len(packed.rows(split)) for split in ("train", "validation", "test")) == 40
    assert "'v1'" in said[0]


def test_the_key_holds_content_and_not_place(repository, settings):
    """Another tag of the same content has the same facts; repository, path and revision are only notes."""
    first, again, other = (resolve(parameters(repository, revision=tag), settings) for tag in ("v1", "same", "v2"))

    assert first.facts == again.facts
    assert first.facts != other.facts
    assert set(first.facts) == {"md5"}
    assert set(first.notes) == {"repository", "path", "revision", "commit"}
    assert not {"repository", "path", "revision"} & set(STEP.reads(parameters(repository)))


def test_every_parameter_that_changes_the_result_is_read(repository):
    """Format, split and the rules for damaged samples and copies."""
    base = STEP.reads(parameters(repository))
    changes: list[dict[str, Any]] = [
        {"format": {"name": "parquet", "channels": "RGB"}},
        {"split": {"by": "hash", "salt": "other"}},
        {"on_damaged": "skip"},
        {"on_duplicate": "refuse"},
        {"min_per_class": 2},
    ]

    assert all(STEP.reads(parameters(repository, **change)) != base for change in changes)


def test_the_name_of_a_lone_file_is_part_of_the_key(repository, settings, tmp_path):
    """The formats read its ending; the folder it comes in holds nothing else."""
    params = parameters(repository, path="lone.parquet")
    artifact, _ = execute(params, settings, tmp_path / "out")

    assert resolve(params, settings).facts["file"] == "lone.parquet"
    assert len(open_packed(artifact)) == 40


def test_an_index_file_counts_by_its_content(repository, settings, tmp_path):
    """Its path is not in the key, its bytes are; a missing one is said before anything runs."""
    for name, shift in (("a.npz", 0), ("b.npz", 0), ("c.npz", 1)):
        np.savez(tmp_path / name, train=np.arange(20) + shift, val=np.arange(30, 34), test=np.arange(34, 40))
    params = [
        parameters(repository, split={"by": "index", "file": str(tmp_path / name)})
        for name in ("a.npz", "b.npz", "c.npz")
    ]
    facts = [resolve(each, settings).facts["index_sha256"] for each in params]
    packed = open_packed(execute(params[2], settings, tmp_path / "out")[0])

    assert facts[0] == facts[1] != facts[2]
    assert STEP.reads(params[0]) == STEP.reads(params[2])
    assert packed.rows("train").tolist() == list(range(1, 21))
    assert (packed.splits[21:30] == 255).all()
    with pytest.raises(SplitError, match=r"none\.npz does not exist"):
        resolve(parameters(repository, split={"by": "index", "file": "none.npz"}), settings)


def test_a_damaged_picture_is_refused_by_name(repository, settings, tmp_path):
    """The default; the way out is in the message."""
    with pytest.raises(DataDamagedError, match=r"1 of 40 samples cannot be decoded: a\.parquet:3: .*on_damaged=skip"):
        execute(parameters(repository, revision="broken"), settings, tmp_path / "out")


def test_a_damaged_picture_is_skipped_and_recorded(repository, settings, tmp_path):
    """Said during the run and listed in data.json."""
    artifact, said = execute(parameters(repository, revision="broken", on_damaged="skip"), settings, tmp_path / "out")
    packed = open_packed(artifact)

    assert len(packed) == 39
    assert [line.split(": ")[0] for line in packed.info["damaged"]] == ["a.parquet:3"]
    assert any("skipped" in line and "a.parquet:3" in line for line in said)


def test_copies_are_left_out_and_said(repository, settings, tmp_path):
    """With those whose labels contradict each other."""
    artifact, said = execute(parameters(repository, revision="copies"), settings, tmp_path / "out")
    info = open_packed(artifact).info

    assert len(info["dropped_copies"]) == 2
    assert info["left_out"] == 2
    assert info["conflicting_labels"] == [
        "a.parquet:0 (even) and b.parquet:0 (odd)",
        "a.parquet:1 (odd) and b.parquet:1 (even)",
    ]
    assert any("2 copies of other samples" in line for line in said)
    assert any("another label" in line for line in said)
    with pytest.raises(SplitError, match=r"Labels differ: a\.parquet:0"):
        execute(parameters(repository, revision="copies", on_duplicate="refuse"), settings, tmp_path / "refused")


def test_a_class_that_is_missing_from_a_split_stops_the_step(repository, settings, tmp_path):
    """No artifact of a data set that cannot be evaluated."""
    with pytest.raises(SplitError, match="'even' has"):
        execute(parameters(repository, min_per_class=15), settings, tmp_path / "out")


def test_samples_keep_their_split_in_a_later_version(repository, settings, tmp_path):
    """v2 adds 20 samples and moves none."""
    first, second = (
        open_packed(execute(parameters(repository, revision=tag), settings, tmp_path / tag)[0]) for tag in ("v1", "v2")
    )

    assert np.array_equal(second.splits[:40], first.splits)


def test_a_misspelt_path_stops_before_the_run(repository, settings):
    """At resolve, with what DVC tracks."""
    with pytest.raises(DataNotFoundError, match=r"lone\.parquet, set"):
        resolve(parameters(repository, path="sets"), settings)


def test_a_cached_look_is_light(repository, settings):
    """Resolving again in a fresh process imports no dvc, numpy, torch, pandas or pyarrow."""
    params = parameters(repository)
    resolve(params, settings)
    program = (
        "import sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from components.params import DataParams; from components.settings import Settings\n"
        "from components.steps.data import STEP; from components.steps.step import World\n"
        f"params = SimpleNamespace(data=DataParams.model_validate_json({params.data.model_dump_json()!r}))\n"
        f"STEP.resolve(World(params, Settings(var_dir=Path({str(settings.var_dir)!r})), {{}}, None)); STEP.reads(params)\n"
        "print(sorted({'dvc', 'numpy', 'torch', 'pandas', 'pyarrow', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
