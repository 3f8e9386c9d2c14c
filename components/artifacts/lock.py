"""A lock that dies with its holder: it saves work, correctness comes from the exclusive publish."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.errors import StoreError

POLL_SECONDS = 0.2


class BusyError(StoreError):
    """Another process holds the lock, and its end is not waited for."""


def refuse_to_wait(holder: str) -> None:
    """For *waiting*: raises BusyError."""
    raise BusyError(f"process {holder} is at work on it")


@contextmanager
def held(path: Path, *, wait_seconds: float, waiting: Callable[[str], None]) -> Iterator[bool]:
    """Hold the flock on *path*; yields whether it had to wait. *waiting* is called about twice a second meanwhile.

    Raises StoreError after *wait_seconds*.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield _acquire(descriptor, path, wait_seconds, waiting)
    finally:
        with suppress(OSError):  # else a child that was forked meanwhile, and lives on, would hold it
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait_seconds: float, waiting: Callable[[str], None]) -> bool:
    deadline = time.monotonic() + wait_seconds
    waited = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            if time.monotonic() > deadline:
                raise StoreError(
                    f"process {holder} has held {path} for more than {wait_seconds:g} s; wait for it, or end it"
                ) from None
            waiting(holder)
            waited = True
            time.sleep(POLL_SECONDS)
        else:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return waited
