"""Other processes that ask the teacher: each computes chunks that no other does, and none outlives the one that started it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from components import errors
from components.errors import PotstillError, WorkerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.contracts import Progress
    from components.soft_targets.chunks import ChunkFiles

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 5.0
"""For a process to end by itself once its requests have ended."""


class Fleet:
    """*count* processes of one module, which take a job and then requests as lines of JSON, and answer each with one.

    Spawned and never forked, since a forked child would keep the store's lock alive. They end when their standard
    input does, which also happens when this process is killed.
    """

    def __init__(self, module: str, job: Mapping[str, Any], *, count: int, logs: Path, progress: Progress) -> None:
        self._module = module
        self._job = job
        self._count = count
        self._logs = logs
        self._progress = progress
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            with suppress(OSError):
                _stream(process.stdin).close()
        for process in self._processes:
            try:
                process.wait(PATIENCE_SECONDS if kind is None else POLL_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _stream(process.stdout).close()

    def __call__(
        self, pieces: Sequence[NDArray[np.int64]], codec: str, files: ChunkFiles
    ) -> Iterator[tuple[int, float]]:
        """A chunk of *files* for each of *pieces*, in *codec*; yields each finished one and its teacher's seconds.

        Raises what a process raised, and WorkerError when one is gone. What was committed stays.
        """
        self._start()
        waiting = list(enumerate(pieces))[::-1]
        busy: dict[int, int] = {}
        with selectors.DefaultSelector() as selector:
            for number, process in enumerate(self._processes):
                selector.register(_stream(process.stdout), selectors.EVENT_READ, number)
            free = list(range(len(self._processes)))
            while waiting or busy:
                while waiting and free:
                    number, (index, places) = free.pop(), waiting.pop()
                    self._ask(number, places, codec, files)
                    busy[number] = index
                self._progress.check()
                for ready, _ in selector.select(POLL_SECONDS):
                    yield busy.pop(ready.data), self._answer(ready.data)
                    free.append(ready.data)

    def _start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in range(len(self._processes), self._count):
            self._processes.append(self._spawn(number))
            self._send(number, self._job)

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        with self._log(number).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )

    def _ask(self, number: int, places: NDArray[np.int64], codec: str, files: ChunkFiles) -> None:
        self._send(number, {"places": places.tolist(), "codec": codec, "folder": str(files.folder), "key": files.key})

    def _send(self, number: int, message: Mapping[str, Any]) -> None:
        stream = _stream(self._processes[number].stdin)
        try:
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
        except BrokenPipeError:
            raise self._gone(number) from None

    def _answer(self, number: int) -> float:
        line = _stream(self._processes[number].stdout).readline()
        if not line:
            raise self._gone(number)
        answer = json.loads(line)
        if "error" in answer:
            raise _raised(answer)
        return float(answer["seconds"])

    def _gone(self, number: int) -> WorkerError:
        code = self._processes[number].wait()
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return WorkerError(
            f"a process that asks the teacher {how}{': ' + lines[-1] if lines else ''}; "
            "finished chunks are kept: run again, with a smaller POTSTILL_GENERATION_PROCESSES if memory was short"
        )

    def _log(self, number: int) -> Path:
        return self._logs / f"process-{number}.log"


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _raised(answer: Mapping[str, str]) -> PotstillError:
    """The error of a process, as if it had been raised here."""
    kind = getattr(errors, answer["error"], WorkerError)
    error = kind(answer["message"])
    assert isinstance(error, PotstillError)
    return error
