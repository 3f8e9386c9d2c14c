"""Tests that cannot fail prove nothing: each way to spoil the store, one at a time, must make one of its tests fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path.cwd()
ARTIFACTS = "components/artifacts"
STORE_TESTS = "tests/components/artifacts/test_store.py"
LOCK_TESTS = "tests/components/artifacts/test_lock.py"
FAULT_TESTS = "tests/soak/test_syscall_faults.py"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Mutation:
    """One change of one file, and the tests that have to notice."""

    file: str
    old: str
    new: str
    tests: str
    chosen: str = ""
    """Part of their names, where not all are needed."""


MUTATIONS = {
    "a file is not fsynced": Mutation(
        f"{ARTIFACTS}/artifact.py",
        "        os.fsync(descriptor)\n",
        "        if os.path.isdir(path):\n            os.fsync(descriptor)\n",
        FAULT_TESTS,
        "on_the_disk",
    ),
    "a folder is not fsynced": Mutation(
        f"{ARTIFACTS}/artifact.py",
        "        os.fsync(descriptor)\n",
        "        if not os.path.isdir(path):\n            os.fsync(descriptor)\n",
        FAULT_TESTS,
        "on_the_disk",
    ),
    "publishing replaces what is there": Mutation(
        f"{ARTIFACTS}/storage/file.py",
        "            staged.rename(self.root / kind / key)\n",
        "            shutil.rmtree(self.root / kind / key, ignore_errors=True)\n"
        "            staged.rename(self.root / kind / key)\n",
        STORE_TESTS,
        "two_results_for_one_key",
    ),
    "nothing is verified when it is read": Mutation(
        f"{ARTIFACTS}/store.py",
        "        found = list(problems(manifest, folder, kind, key))\n",
        "        found: list[str] = []\n",
        STORE_TESTS,
        "any_damage_is_seen",
    ),
    "the manifest is published before the files": Mutation(
        f"{ARTIFACTS}/storage/file.py",
        "            staged.rename(self.root / kind / key)\n",
        "            target = self.root / kind / key\n"
        "            target.mkdir()\n"
        "            for path in sorted(staged.iterdir(), key=lambda path: path.name != MANIFEST):\n"
        "                path.rename(target / path.name)\n",
        FAULT_TESTS,
        "half_a_result and few and first",
    ),
    "a forked child keeps the lock": Mutation(
        f"{ARTIFACTS}/lock.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_UN)\n",
        "            pass\n",
        LOCK_TESTS,
    ),
    "the lock is released before the work": Mutation(
        f"{ARTIFACTS}/lock.py",
        "        yield _acquire(descriptor, path, wait_seconds, waiting)\n    finally:\n",
        "        waited = _acquire(descriptor, path, wait_seconds, waiting)\n"
        "        fcntl.flock(descriptor, fcntl.LOCK_UN)\n"
        "        yield waited\n"
        "    finally:\n",
        STORE_TESTS,
        "lock_dies",
    ),
    "an error of the disk is not explained": Mutation(
        f"{ARTIFACTS}/disk.py",
        "        raise StoreError(reason) from error\n",
        "        raise\n",
        FAULT_TESTS,
        "half_a_result and few and first",
    ),
    "what a killed run had staged stays": Mutation(
        f"{ARTIFACTS}/store.py",
        "        self.storage.sweep(key.kind)\n",
        "",
        STORE_TESTS,
        "had_staged",
    ),
    "finished work stays": Mutation(
        f"{ARTIFACTS}/store.py",
        "        self._discard_finished_work(key)\n",
        "",
        STORE_TESTS,
        "tidies_up",
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources and tests, to be spoilt."""
    folder = tmp_path_factory.mktemp("spoilt")
    for name in ("components", "tests"):
        shutil.copytree(SOURCES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCES / "pyproject.toml", folder)
    return folder


def passes(copy: Path, tests: str, chosen: str) -> bool:
    """Whether the tests that were chosen pass on the copy; at least one has to run."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "not soak",
        tests,
        "-k",
        chosen,
    ]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    print(*(line for line in done.stdout.splitlines() if line.startswith("FAILED")), sep="\n")
    if "skipped" in done.stdout.splitlines()[-1]:
        pytest.skip(done.stdout)
    return done.returncode == 0


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_spoilt_store_fails_its_tests(copy: Path, mutation: Mutation) -> None:
    path = copy / mutation.file
    whole = path.read_text()
    assert whole.count(mutation.old) == 1, f"{mutation.file} has changed; change this mutation with it"
    path.write_text(whole.replace(mutation.old, mutation.new))
    try:
        assert not passes(copy, mutation.tests, mutation.chosen)
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("tests", [STORE_TESTS, LOCK_TESTS, FAULT_TESTS])
def test_the_store_as_it_is_passes_them(copy: Path, tests: str) -> None:
    """Otherwise the mutations would prove nothing."""
    assert passes(copy, tests, "")
