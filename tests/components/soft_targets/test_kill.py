"""A SIGKILL costs at most the chunk it fell into, and leaves no mark on the result."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("dying_writer.py")
TOTAL, CHUNK = 300, 32


def attempt(folder: Path, number: int, when: str) -> dict[str, Any] | None:
    """What the process said, or None if it was killed."""
    command = [sys.executable, str(SCRIPT), str(folder), str(folder / f"out-{number}"), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def committed_rows(folder: Path) -> int:
    """Rows of whole chunks on disk."""
    firsts = {int(path.stem.partition("-")[2]) for path in (folder / "work" / "chunks").rglob("chunk-*.bin")}
    return sum(min(CHUNK, TOTAL - first) for first in firsts)


@pytest.mark.slow
def test_killed_again_and_again_the_result_is_the_same(tmp_path: Path) -> None:
    """Before a batch, within a chunk and between writing and publishing it: no committed row is computed twice."""
    undisturbed = attempt(tmp_path / "undisturbed", 0, "never")
    kept = []
    for number, when in enumerate(["batch:1", "batch:4", "rename:1", "rename:3", "batch:7"]):
        assert attempt(tmp_path / "killed", number, when) is None
        kept.append(committed_rows(tmp_path / "killed"))
    final = attempt(tmp_path / "killed", 9, "never")

    assert kept == [0, 32, 32, 96, 192]
    assert undisturbed is not None and final is not None
    assert undisturbed["rows_computed"] == TOTAL
    assert final == {"digest": undisturbed["digest"], "rows_computed": TOTAL - 192, "rows_resumed": 192}


@pytest.mark.soak
def test_fifty_random_kills(tmp_path: Path) -> None:
    """Fifty runs, each killed at a random place and then finished, end in one digest."""
    draw = random.Random(0)
    undisturbed = attempt(tmp_path / "undisturbed", 0, "never")
    assert undisturbed is not None
    for run in range(50):
        folder = tmp_path / str(run)
        when = draw.choice([f"batch:{draw.randint(1, 19)}", f"rename:{draw.randint(1, 10)}"])
        assert attempt(folder, 0, when) is None
        kept = committed_rows(folder)
        final = attempt(folder, 1, "never")
        expected = {"digest": undisturbed["digest"], "rows_computed": TOTAL - kept, "rows_resumed": kept}
        assert final == expected, when
