"""What it costs to keep a large result: hashed, flushed and published, beside writing the same bytes plainly."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import fsync, sha256_of
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.settings import Settings

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
MIB = 2**20
TOTAL = 512 * MIB
ROUNDS = 7
DVC = Path(sys.executable).with_name("dvc")


def write(folder: Path, content: memoryview, num_files: int) -> None:
    size = len(content) // num_files
    for index in range(num_files):
        (folder / f"{index}.bin").write_bytes(content[index * size : (index + 1) * size])


@dataclass(frozen=True)
class Plain:
    """Seconds of what cannot be done without, each part alone."""

    write: float
    fsync: float
    sha256: float
    """Of the files as they lie in memory by then, as many at a time as there are cores."""

    @property
    def unhashed(self) -> float:
        return self.write + self.fsync

    @property
    def limit(self) -> float:
        """A step writes, then what it wrote is hashed while it goes to the disk."""
        return self.write + max(self.fsync, self.sha256)


def plainly(folder: Path, content: memoryview, num_files: int) -> Plain:
    """What the files cost to write, to flush and to hash."""
    started = time.perf_counter()
    folder.mkdir()
    write(folder, content, num_files)
    written = time.perf_counter()
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)
    flushed = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(sha256_of, folder.iterdir()))
    return Plain(written - started, flushed - written, time.perf_counter() - flushed)


def committed(store: Store, turn: int, content: memoryview, num_files: int) -> float:
    """Seconds to obtain a result that consists of the files."""

    def make(out: Path, _: Path) -> Mapping[str, Any]:
        write(out, content, num_files)
        return {}

    started = time.perf_counter()
    obtained = store.obtain(make_key("large", {"turn": turn}), make, producer="bench", progress=NoProgress())
    seconds = time.perf_counter() - started
    assert not obtained.cached
    shutil.rmtree(obtained.artifact.root)
    return seconds


def added_to_dvc(folder: Path, content: memoryview) -> float:
    """Seconds of `dvc add` of one file that is there already, a process of 0.5 s or so included."""
    folder.mkdir()
    for command in (["git", "init", "-q"], [str(DVC), "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    write(folder, content, 1)
    started = time.perf_counter()
    subprocess.run([str(DVC), "add", "-q", "0.bin"], cwd=folder, check=True)
    return time.perf_counter() - started


def median(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.2f}"


@pytest.mark.parametrize("num_files", [1, 8])
def test_a_large_result_costs_little_more_than_writing_and_hashing_it(tmp_path: Path, num_files: int) -> None:
    """512 MiB are committed at no less than 0.85 of the rate of a plain write with fsync, in rounds that take turns.

    One file cannot be: a step writes all of it, and then one core hashes it. There, 0.85 of the rate of that is asked for.
    """
    content = memoryview(np.random.default_rng(0).bytes(TOTAL))
    store = Store(Settings(store=str(tmp_path / "store"), var_dir=tmp_path / "var", device="cpu"))
    rounds = []
    for turn in range(-1, ROUNDS):
        os.sync()
        plain = plainly(tmp_path / f"plain{turn}", content, num_files)
        shutil.rmtree(tmp_path / f"plain{turn}")
        os.sync()
        rounds.append((plain, committed(store, turn, content, num_files)))
    measured = rounds[1:]
    parts = f"write {median(plain.write for plain, _ in measured)} s + fsync {median(plain.fsync for plain, _ in measured)} s"
    of_plain = statistics.median(plain.unhashed / ours for plain, ours in measured)
    of_limit = statistics.median(plain.limit / ours for plain, ours in measured)
    print(
        f"\n{num_files} files: {parts}   sha256 alone {median(plain.sha256 for plain, _ in measured)} s   "
        f"committed {median(ours for _, ours in measured)} s = {of_plain:.2f} of the plain rate, {of_limit:.2f} of the limit   "
        f"dvc add {added_to_dvc(tmp_path / 'dvc', content):.2f} s"
    )
    assert (of_limit if num_files == 1 else of_plain) >= 0.85
