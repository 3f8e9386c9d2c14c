"""Other processes that ask the teacher: each computes chunks that no other does, and none outlives the one that started it."""

from __future__ import annotations

import selectors
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from components.worker_processes import WorkerProcess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.contracts import Progress
    from components.soft_targets.chunks import ChunkFiles

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 5.0
"""For a process to end by itself once its requests have ended."""


class Fleet:
    """*count* processes of one module, which take a job and then requests as lines of JSON, and answer each with one."""

    def __init__(self, module: str, job: Mapping[str, Any], *, count: int, logs: Path, progress: Progress) -> None:
        self._module = module
        self._job = job
        self._count = count
        self._logs = logs
        self._progress = progress
        self._processes: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.hang_up()
        for process in self._processes:
            process.end(patience_seconds=PATIENCE_SECONDS if kind is None else POLL_SECONDS)

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
                selector.register(process.output, selectors.EVENT_READ, number)
            free = list(range(len(self._processes)))
            while waiting or busy:
                while waiting and free:
                    number, (index, places) = free.pop(), waiting.pop()
                    self._ask(number, places, codec, files)
                    busy[number] = index
                self._progress.check()
                for ready, _ in selector.select(POLL_SECONDS):
                    answer = self._processes[ready.data].receive()
                    yield busy.pop(ready.data), float(answer["seconds"])
                    free.append(ready.data)

    def _start(self) -> None:
        for number in range(len(self._processes), self._count):
            self._processes.append(self._spawn(number))
            self._processes[number].send(self._job)

    def _spawn(self, number: int) -> WorkerProcess:
        return WorkerProcess(
            self._module,
            self._logs / f"process-{number}.log",
            what="a process that asks the teacher",
            way_out="finished chunks are kept: run again, with a smaller POTSTILL_GENERATION_PROCESSES "
            "if memory was short",
        )

    def _ask(self, number: int, places: NDArray[np.int64], codec: str, files: ChunkFiles) -> None:
        request = {"places": places.tolist(), "codec": codec, "folder": str(files.folder), "key": files.key}
        self._processes[number].send(request)
