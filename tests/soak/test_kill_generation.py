"""SIGKILL at random moments while a teacher is trained, asked and learnt from: the end is that of an undisturbed run."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("killable_run.py")
TOTAL = 12 * 40
Run = Callable[..., Any]


@pytest.fixture
def run() -> Iterator[Run]:
    """Teacher, soft targets and student in the store given, in a process of their own."""
    process = subprocess.Popen([sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout

    def ask(store: Path, kill_after: float | None = None) -> Any:
        process.stdin.write(json.dumps({"store": str(store), "kill_after": kill_after}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.communicate()
    assert process.returncode == 0


def committed_rows(store: Path) -> int:
    """Rows of the chunks of soft targets that are on disk as a whole."""
    chunks = store.glob(".work/soft_targets/*/chunks/*/chunk-*.bin")
    return sum(json.loads(path.read_bytes().split(b"\n", 2)[1])["shape"][0] for path in chunks)


def phase(store: Path) -> str:
    """What was under way."""
    done = [name for name in ("teacher", "soft_targets", "student") if any(store.glob(f"{name}/[!.]*/manifest.json"))]
    if len(done) == 3:
        return "done"
    return ("teacher", "soft_targets", "student")[len(done)]


@pytest.mark.parametrize(
    "num_kills",
    [pytest.param(10, marks=pytest.mark.slow), pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_kills_while_generating_and_training_change_nothing(run: Run, tmp_path: Path, num_kills: int) -> None:
    """The same digests each time, and no committed chunk is computed again."""
    undisturbed = run(tmp_path / "undisturbed")
    assert undisturbed["ledger"]["rows_computed"] == TOTAL
    draw, phases, resumed = random.Random(0), Counter[str](), 0
    while phases.total() - phases["done"] < num_kills:
        store = tmp_path / str(phases.total())
        run(store, draw.uniform(0, undisturbed["seconds"]))
        where, kept = phase(store), committed_rows(store)
        phases[where] += 1
        final = run(store)

        assert final["digests"] == undisturbed["digests"]
        if where in ("teacher", "soft_targets"):
            assert (final["ledger"]["rows_computed"], final["ledger"]["rows_resumed"]) == (TOTAL - kept, kept)
            resumed += kept
    print(f"\n{num_kills} kills: {dict(phases)}; {resumed} committed rows were taken over, none was computed again")
