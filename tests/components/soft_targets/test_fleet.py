"""Processes that share the work end with it, whoever dies first."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from components.contracts import NoProgress
from components.errors import InterruptedRunError, SoftTargetsRefusedError, WorkerError
from components.soft_targets.chunks import ChunkFiles
from components.soft_targets.fleet import Fleet

WORKER = """
import json, os, signal, sys, threading, queue, time
from pathlib import Path
import numpy as np
from components.soft_targets.chunks import Chunk, ChunkFiles
signal.signal(signal.SIGINT, signal.SIG_IGN)
lines = queue.Queue()
def listen():
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)
threading.Thread(target=listen, daemon=True).start()
job = json.loads(lines.get())
while True:
    asked = json.loads(lines.get())
    places = np.array(asked["places"])
    if job.get("dies at") == places[0]:
        print("out of paper", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.get("refuses at") == places[0]:
        answer = {"error": "SoftTargetsRefusedError", "message": f"place {places[0]}"}
    else:
        time.sleep(job.get("seconds", 0.01))
        rows = np.full((len(places), 4), os.getpid() % 256, dtype=np.uint8)
        ChunkFiles(Path(asked["folder"]), asked["key"]).save(Chunk(places, rows))
        answer = {"seconds": 0.5}
    print(json.dumps(answer), flush=True)
"""
PIECES = [np.arange(start, start + 10) for start in range(0, 100, 10)]


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    return ChunkFiles(tmp_path / "chunks", "key")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fleet]:
    """Processes that commit chunks without asking anyone."""
    (tmp_path / "a_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)

    def make(job: dict[str, object], *, progress: NoProgress | None = None) -> Fleet:
        return Fleet("a_worker", job, count=2, logs=tmp_path / "logs", progress=progress or NoProgress())

    return make


@pytest.fixture
def left() -> Callable[[], set[int]]:
    """Processes that this test has started and that are still there; other tests' servers may live on."""
    before = children()
    return lambda: children() - before


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_every_piece_is_committed_once(
    fleet: Callable[..., Fleet], files: ChunkFiles, left: Callable[[], set[int]]
) -> None:
    """Two processes take turns as they get free; what they say comes back with the piece's number."""
    with fleet({}) as processes:
        said = list(processes(PIECES, "fp32", files))
        again = list(processes(PIECES[:1], "fp32", files))

    assert sorted(said) == [(index, 0.5) for index in range(10)]
    assert again == [(0, 0.5)]
    found = list(files.all())
    assert [chunk.places.tolist() for chunk in found] == [piece.tolist() for piece in PIECES]
    assert len({int(chunk.rows[0, 0]) for chunk in found}) == 2
    assert left() == set()


def test_a_process_that_dies_is_named(
    fleet: Callable[..., Fleet], files: ChunkFiles, left: Callable[[], set[int]]
) -> None:
    """WorkerError with the signal and its last words; what was committed stays, and the other one is gone too."""
    with (
        pytest.raises(WorkerError, match=r"ended by signal 9: out of paper; finished chunks are kept"),
        fleet({"dies at": 50}) as processes,
    ):
        list(processes(PIECES, "fp32", files))

    assert len(list(files.all())) >= 4
    assert left() == set()


def test_an_error_of_a_process_is_raised_here(fleet: Callable[..., Fleet], files: ChunkFiles) -> None:
    """With its own type, so that a refusal stays a refusal."""
    with pytest.raises(SoftTargetsRefusedError, match="place 30"), fleet({"refuses at": 30}) as processes:
        list(processes(PIECES, "fp32", files))


def test_ctrl_c_ends_them_all(fleet: Callable[..., Fleet], files: ChunkFiles, left: Callable[[], set[int]]) -> None:
    """At once, also within a piece that takes a minute."""

    class Stops(NoProgress):
        def check(self) -> None:
            if time.monotonic() > until:
                raise InterruptedRunError("stopped")

    until = time.monotonic() + 1
    with pytest.raises(InterruptedRunError), fleet({"seconds": 60}, progress=Stops()) as processes:
        list(processes(PIECES, "fp32", files))

    assert time.monotonic() < until + 10
    assert left() == set()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["a_worker", "components.steps.soft_targets_worker"])
def test_none_outlives_a_killed_parent(fleet: Callable[..., Fleet], tmp_path: Path, module: str) -> None:
    """A SIGKILL of the process that started them ends them within seconds."""
    script = (
        "import sys, time; from pathlib import Path; from components.contracts import NoProgress\n"
        "from components.soft_targets.fleet import Fleet\n"
        f"fleet = Fleet({module!r}, {{}}, count=2, logs=Path({str(tmp_path)!r}), progress=NoProgress())\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "print(*[fleet._spawn(number).pid for number in range(2)], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
