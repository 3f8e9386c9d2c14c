"""What the store saved: a journal with one line for each result that a run did not have to compute, or not wholly."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact

JOURNAL = ".ledger.jsonl"
REUSE = "ledger.json"
"""Measured file of results that were made with the help of others: how many rows the teacher was (not) asked about."""
ROWS_SAVED = ("rows_resumed", "rows_salvaged", "rows_reused")


@dataclass(frozen=True, slots=True)
class Saving:
    """What one run was spared at one step; seconds are an estimate from what making the result had cost."""

    at: str
    """ISO 8601, UTC."""
    run: str
    kind: str
    key: str
    hit: bool
    """The whole result was found; otherwise it was computed with the help of another."""
    seconds: float
    teacher_rows: int
    """About which the teacher was not asked."""
    num_bytes: int
    """Of the result, if it was found."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A sum of savings."""

    hits: int = 0
    seconds: float = 0.0
    teacher_rows: int = 0
    num_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.hits or self.teacher_rows)


def saving_of(artifact: Artifact, *, hit: bool, run: str) -> Saving | None:
    """What *artifact* spared *run*, which found it or has just made it; None for nothing."""
    manifest, reuse = artifact.manifest(), _reuse(artifact)
    spared = sum(int(reuse[name]) for name in ROWS_SAVED) if reuse else 0
    if not hit and not spared:
        return None
    seconds = manifest.cost.get("seconds") if hit else reuse.get("seconds_saved_estimate")
    return Saving(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
        kind=artifact.kind,
        key=artifact.key,
        hit=hit,
        seconds=float(seconds or 0.0),
        teacher_rows=spared + int(reuse.get("rows_computed", 0)) * hit,
        num_bytes=int(manifest.cost.get("bytes", 0)) * hit,
    )


def _reuse(artifact: Artifact) -> dict[str, Any]:
    path = artifact.measured(REUSE)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def record(root: Path, saving: Saving) -> None:
    """Append a line to the journal in *root*, whoever else does so at the same time.

    The line begins with a line break too: a kill or a full disk in the middle of another spoils only that one.
    Where it cannot be written, as on a full or a read-only disk, a run goes on without it.
    """
    line = f"\n{json.dumps(asdict(saving))}\n".encode()
    with suppress(OSError):
        descriptor = os.open(root / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def savings(root: Path) -> Iterator[Saving]:
    """Every whole line of the journal in *root*, oldest first."""
    try:
        lines = (root / JOURNAL).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in filter(None, lines):
        try:
            yield Saving(**json.loads(line))
        except (ValueError, TypeError):
            continue


def total(found: Iterable[Saving]) -> Saved:
    """The sum; nothing for none."""
    each = list(found)
    return Saved(
        hits=sum(saving.hit for saving in each),
        seconds=sum(saving.seconds for saving in each),
        teacher_rows=sum(saving.teacher_rows for saving in each),
        num_bytes=sum(saving.num_bytes for saving in each),
    )
