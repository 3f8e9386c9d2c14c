"""What a disk refuses becomes one sentence with the place and the way out; every other error passes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from components.artifacts.disk import NO_ROOM_BYTES, explained, free_bytes, refusal
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import BadInputError, StoreError
from components.settings import Settings


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_closed_place_is_named_with_the_way_out(tmp_path: Path, number: int):
    """Not allowed and read-only: another place, or permissions."""
    said = r"/x cannot be written \(.*\); make it writable, or set POTSTILL_VAR_DIR or"
    with pytest.raises(StoreError, match=said), explained(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))


def test_of_a_copy_the_target_is_named(tmp_path: Path):
    """The disk of the source has nothing to do with it."""
    error = OSError(errno.ENOSPC, "full", "/from/here", None, "/to/there")
    assert str(refusal(error, tmp_path)).startswith("no space left for /to/there ")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_failing_disk_is_named(tmp_path: Path, number: int):
    """Neither a bug nor a matter of space or permissions."""
    with (
        pytest.raises(StoreError, match=r"/x cannot be read or written \(.*\); look after its disk"),
        explained(tmp_path),
    ):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))


def test_a_full_disk_without_a_name_is_that_of_the_place(tmp_path: Path):
    """A write to an open file does not say which."""
    said = f"no space left for {tmp_path} .*; free some and run again"
    with pytest.raises(StoreError, match=said), explained(tmp_path):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "missing"), BadInputError("no")])
def test_other_errors_pass_untouched(tmp_path: Path, error: Exception):
    """A bug keeps its traceback, and what is said already is not said again."""
    with pytest.raises(type(error)) as raised, explained(tmp_path):
        raise error
    assert raised.value is error


@pytest.fixture
def small_disk(disk: Callable[[str], Path]) -> Path:
    return disk("1m")


def test_a_library_that_loses_the_reason_is_understood(small_disk: Path):
    """NumPy's error has no number while the disk still shows that it is full; safetensors' has it in words."""
    too_much = np.zeros(2**21, np.uint8)
    for write in (np.save, lambda path, array: safetensors.numpy.save_file({"a": array}, path)):
        with pytest.raises(StoreError, match="no space left for"), explained(small_disk):
            write(small_disk / "a.npy", too_much)
        (small_disk / "a.npy").unlink(missing_ok=True)


def test_a_step_that_fills_the_disk_leaves_it_as_it_was(small_disk: Path):
    """Asked before the staging folder is removed, which makes room again."""
    store = Store(Settings(var_dir=small_disk / "var"))

    def make(out: Path, _work: Path) -> dict[str, float]:
        np.save(out / "a.npy", np.zeros(2**21, np.uint8))
        return {}

    with pytest.raises(StoreError, match=f"no space left for {small_disk}/var/store .*free some and run again"):
        store.obtain(make_key("thing", {}), make, producer="a run", progress=NoProgress())

    assert list((store.storage.root / "thing").iterdir()) == []
    assert free_bytes(small_disk) > 2**20 - NO_ROOM_BYTES


def test_a_record_that_does_not_fit_leaves_nothing(small_disk: Path):
    """Of the journal of accepted data, for one."""
    store = Store(Settings(var_dir=small_disk / "var"))
    with pytest.raises(StoreError, match="no space left"):
        store.commit("thing", "key", {}, lambda out: np.save(out / "a.npy", np.zeros(2**21, np.uint8)))
    assert list((store.storage.root / "thing").iterdir()) == []


def test_room_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path):
    """A place that is still to be made has its parent's disk."""
    assert refusal(RuntimeError("a bug"), tmp_path / "not" / "yet") is None
