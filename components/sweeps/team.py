"""Processes that train students side by side, each in one thread, and whoever decides what is trained next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from components.contracts import Progress
from components.errors import PotstillError, WorkerError
from components.sweeps.space import Values
from components.worker_processes import WorkerProcess

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 20.0
"""For a process to reach a safe point and keep what is half done."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One student to train."""

    step: Literal["student", "baseline"]
    values: Values
    """Its seed among them."""
    trial: int = -1
    """None, for a student that is trained for comparison."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of an assignment."""

    key: str
    cached: bool
    metrics: Mapping[str, float]
    """On the validation split."""
    num_parameters: int


class Source(Protocol):
    """Who says what is trained next, and hears what came of it."""

    def next(self) -> Assignment | None:
        """None: nothing now; it is asked again after the next news."""
        ...

    def epoch(self, assignment: Assignment, record: Mapping[str, float]) -> bool:
        """An epoch ended; whether the student is given up."""
        ...

    def ended(self, assignment: Assignment, result: Trained | PotstillError) -> None: ...


class Team:
    """At most *count* processes; see components.sweeps.worker for what they are told."""

    def __init__(self, module: str, job: Mapping[str, Any], *, count: int, logs: Path, progress: Progress) -> None:
        self._module, self._job, self._count = module, job, count
        self._logs, self._progress = logs, progress
        self._processes: list[WorkerProcess] = []
        self._news: queue.Queue[tuple[int, dict[str, Any] | PotstillError]] = queue.Queue()
        self._requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.hang_up()
        for process in self._processes:
            process.end(patience_seconds=PATIENCE_SECONDS)

    def run(self, source: Source) -> None:
        """Until *source* has nothing more and all is done; WorkerError when a process is gone."""
        busy: dict[int, tuple[int, Assignment]] = {}
        while True:
            while (free := self._free(busy)) is not None and (assignment := source.next()) is not None:
                busy[free] = (self._ask(free, assignment), assignment)
            if not busy:
                return
            self._hear(source, busy)

    def _free(self, busy: Mapping[int, Any]) -> int | None:
        return next((number for number in range(self._count) if number not in busy), None)

    def _ask(self, number: int, assignment: Assignment) -> int:
        while len(self._processes) <= number:
            self._start()
        self._requests += 1
        request = {"id": self._requests, "step": assignment.step, "values": dict(assignment.values)}
        self._processes[number].send(request)
        return self._requests

    def _start(self) -> None:
        number = len(self._processes)
        process = WorkerProcess(
            self._module,
            self._logs / f"process-{number}.log",
            what="a process that trains students",
            way_out="finished students are kept: run again, with a smaller sweep.processes if memory was short",
        )
        self._processes.append(process)
        process.send(self._job)
        threading.Thread(target=self._listen, args=(number, process), daemon=True).start()

    def _listen(self, number: int, process: WorkerProcess) -> None:
        while True:
            try:
                self._news.put((number, process.receive()))
            except WorkerError as error:
                self._news.put((number, error))
                return
            except PotstillError as error:
                self._news.put((number, error))
            except ValueError:  # its output was closed: the team is at its end
                return

    def _hear(self, source: Source, busy: dict[int, tuple[int, Assignment]]) -> None:
        self._progress.check()
        try:
            number, news = self._news.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        if isinstance(news, WorkerError):
            raise news
        request, assignment = busy[number]
        if isinstance(news, dict) and "epoch" in news:
            if source.epoch(assignment, news["epoch"]):
                self._processes[number].send({"give_up": request})
            return
        del busy[number]
        source.ended(assignment, news if isinstance(news, PotstillError) else _trained(news))


def _trained(news: Mapping[str, Any]) -> Trained:
    return Trained(news["key"], bool(news["cached"]), news["metrics"], int(news["num_parameters"]))
