"""Whether a server honours conditional writes: on one that does not, two runs could both publish."""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.artifacts.storage._bucket import Bucket, each
from components.errors import StoreError

NUM_WRITERS = 8
NUM_ROUNDS = 2
VALID = timedelta(days=7)
HOUSEKEEPING_SECONDS = 10.0


def ensure(bucket: Bucket, record: Path) -> str:
    """The day on which the server was found fit: today's, or one of the last week that *record* tells of.

    Raises StoreError when it is not fit.
    """
    today = datetime.now(UTC).date()
    with suppress(OSError, ValueError, KeyError, TypeError):
        passed = json.loads(record.read_text(encoding="utf-8"))["conditional_writes"]
        if timedelta(0) <= today - datetime.fromisoformat(passed).date() < VALID:
            return str(passed)
    each(lambda _: probe(bucket), range(NUM_ROUNDS))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"place": bucket.where, "conditional_writes": today.isoformat()}), encoding="utf-8")
    return today.isoformat()


def probe(bucket: Bucket) -> None:
    """Let several writers create one object at once; StoreError unless one of them wins and a late one is refused."""
    name = f"probes/{secrets.token_hex(8)}"
    winners = _race(bucket, name)
    there = bucket.get(name)
    late = bucket.put_new(name, b"late")
    with suppress(StoreError):  # whoever may not delete can still store
        bucket.hurried(HOUSEKEEPING_SECONDS).delete(name)
    if len(winners) != 1:
        raise _unfit(bucket, f"{len(winners)} of {NUM_WRITERS} writers created the same object")
    if late is not None:
        raise _unfit(bucket, "an object was created again")
    if there is None or there.body != winners[0]:
        raise _unfit(bucket, "a writer was told that it had created an object, and another content lies there")


def _race(bucket: Bucket, name: str) -> list[bytes]:
    """What the writers put that were told that they had created the object."""
    start = threading.Barrier(NUM_WRITERS)
    winners: list[bytes] = []
    errors: list[StoreError] = []

    def write(body: bytes) -> None:
        start.wait()
        try:
            if bucket.put_new(name, body) is not None:
                winners.append(body)
        except StoreError as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(f"writer {index}".encode(),)) for index in range(NUM_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if errors:
        raise errors[0]
    return winners


def _unfit(bucket: Bucket, what: str) -> StoreError:
    return StoreError(
        f"{bucket.where} at {bucket.endpoint}: {what} although each had asked with If-None-Match for it to be new; "
        "two runs could both publish on such a server. Use one that honours conditional writes, "
        "or a local folder as POTSTILL_STORE"
    )
