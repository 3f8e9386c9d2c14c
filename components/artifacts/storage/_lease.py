"""A lock in a bucket: an object that its holder keeps changing, and that others take over once it stays the same.

It saves work and nothing else; correctness comes from the exclusive publish. Clocks are never compared:
each observer counts, by its own, how long the object has not changed.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from components.artifacts.process import is_gone, machine
from components.artifacts.storage._bucket import Bucket, Stored
from components.errors import StoreError

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0
POLL_SECONDS = 0.5
IMPATIENCE_SECONDS = 10.0
"""Of the requests that keep or free the lock: nothing is lost but work when they fail."""


@contextmanager
def held(
    bucket: Bucket,
    name: str,
    *,
    wait_seconds: float,
    waiting: Callable[[str], None],
    beat_seconds: float = BEAT_SECONDS,
    expiry_seconds: float = EXPIRY_SECONDS,
) -> Iterator[bool]:
    """Hold the lock *name*; yields whether it had to wait. *waiting* is called about twice a second meanwhile.

    Raises StoreError after *wait_seconds*.
    """
    lease = _Lease(bucket, name)
    waited = lease.acquire(wait_seconds, expiry_seconds, waiting)
    lease.start(beat_seconds)
    try:
        yield waited
    finally:
        lease.release()


class _Lease:
    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name = bucket, name
        self._nonce = secrets.token_hex(8)
        self._num_beats = 0
        self._etag = ""
        self._done = threading.Event()

    def acquire(self, wait_seconds: float, expiry_seconds: float, waiting: Callable[[str], None]) -> bool:
        end = time.monotonic() + wait_seconds
        observed = _Observed()
        waited = False
        while not self._taken(observed, expiry_seconds):
            if time.monotonic() > end:
                raise StoreError(
                    f"process {observed.holder} has held {self._bucket.where}/{self._name} for more than "
                    f"{wait_seconds:g} s; wait for it, or end it"
                )
            waiting(observed.holder)
            waited = True
            time.sleep(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 no secret
        return waited

    def start(self, beat_seconds: float) -> None:
        self._thread = threading.Thread(target=self._beat, args=(beat_seconds,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._done.set()
        self._thread.join()
        with suppress(StoreError):
            self._bucket.hurried(IMPATIENCE_SECONDS).delete(self._name, self._etag)

    def _taken(self, observed: _Observed, expiry_seconds: float) -> bool:
        there = self._bucket.get(self._name)
        if there is None:
            etag = self._bucket.put_new(self._name, self._body())
        elif observed.unchanged_seconds(there) > expiry_seconds or observed.holder_is_dead:
            etag = self._bucket.replace(self._name, self._body(), there.etag)
        else:
            etag = None
        self._etag = etag or ""
        return etag is not None

    def _beat(self, beat_seconds: float) -> None:
        bucket = self._bucket.hurried(IMPATIENCE_SECONDS)
        while not self._done.wait(beat_seconds):
            self._num_beats += 1
            with suppress(StoreError):
                etag = bucket.replace(self._name, self._body(), self._etag)
                if etag is None:  # someone gave us up, and computes the same as we do
                    return
                self._etag = etag

    def _body(self) -> bytes:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine()}
        # An ETag may be a hash: the bodies of two leases and of two beats must differ.
        return json.dumps({**holder, "lease": self._nonce, "beat": self._num_beats}).encode()


class _Observed:
    """The lock as someone who waits for it sees it."""

    def __init__(self) -> None:
        self._etag, self._since = "", 0.0
        self.holder = "unknown"
        self.holder_is_dead = False

    def unchanged_seconds(self, there: Stored) -> float:
        """How long, by our own clock, the object has been what it is now."""
        if there.etag != self._etag:
            self._etag, self._since = there.etag, time.monotonic()
            self._recognise(there.body)
        return time.monotonic() - self._since

    def _recognise(self, body: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            holder = json.loads(body)
            self.holder = f"{holder['pid']} on {holder['host']}"
            self.holder_is_dead = (
                bool(holder["machine"]) and holder["machine"] == machine() and is_gone(int(holder["pid"]))
            )
