"""What a disk refuses, in words that name the place and the way out."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import PotstillError, StoreError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FAILING = {errno.EIO, errno.ESTALE}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_ROOM_BYTES = 64 * 2**10


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turn the refusals of the disk that holds *where* into a StoreError."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:
        reason = refusal(error, where)
        if reason is None:
            raise
        raise StoreError(reason) from error


def refusal(error: Exception, where: Path) -> str | None:
    """What to tell of *error* if a full or read-only disk is behind it; *where* is named when the error names no file."""
    number = _number(error)
    # Of a copy or a link, the second name is the one that could not be made.
    place = getattr(error, "filename2", None) or getattr(error, "filename", None) or where
    if number in CLOSED:
        return (
            f"{place} cannot be written ({os.strerror(number)}); "
            "make it writable, or set POTSTILL_VAR_DIR or POTSTILL_STORE"
        )
    if number in FULL:
        return f"no space left for {place} ({os.strerror(number)}); free some and run again"
    if number in FAILING:
        return f"{place} cannot be read or written ({os.strerror(number)}); look after its disk and run again"
    # NumPy and torch say that a write failed, but not why.
    if number is None and free_bytes(where) < NO_ROOM_BYTES:
        return f"no space left for {place} ({error}); free some and run again"
    return None


def _number(error: Exception) -> int | None:
    """The system's own number of the error; safetensors gives it in words only, as Rust does."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def free_bytes(where: Path) -> int:
    """Room for this user on the disk of *where*, which need not exist yet."""
    there = next(folder for folder in (where.absolute(), *where.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
