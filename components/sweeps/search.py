"""Trials one after the other: what the study asks for is trained, and the study is told what came of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from components.contracts import Progress
from components.errors import BadInputError, PotstillError, RefusedError, TrainingDivergedError, TrialPrunedError
from components.params import SEED
from components.sweeps.study import LOOKS, Asked, Study, Taught
from components.sweeps.team import Assignment, Trained

EPOCHS = "student.train.epochs"
OF_ITS_VALUES = (TrainingDivergedError, TrialPrunedError, RefusedError, BadInputError)
"""Errors that a trial would end in again; any other one ends the sweep."""


@dataclass(slots=True)
class _Open:
    """A trial that is not over."""

    asked: Asked
    seeds_left: list[int]
    trained: dict[int, Trained] = field(default_factory=dict)


@dataclass(slots=True)
class Search:
    """Fulfils `team.Source`: first *besides*, students for comparison, then the students of every trial."""

    study: Study
    seeds: Sequence[int]
    objectives: Callable[[Asked, Sequence[Trained]], Sequence[float]]
    """Of a trial with its students."""
    pruned_by: str | None
    """The validation metric that the pruner sees; its trials train their seeds one after the other."""
    num_epochs: int
    progress: Progress
    besides: Sequence[Assignment] = ()
    ends_at: float | None = None
    """By the monotonic clock; no trial begins later."""
    num_trained: int = 0
    num_found: int = 0
    _ready: deque[Assignment] = field(default_factory=deque)
    _open: dict[int, _Open] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ready.extend(self.besides)

    def next(self) -> Assignment | None:
        if not self._ready and (self.ends_at is None or time.monotonic() < self.ends_at):
            asked = self.study.ask()
            if asked:
                self._begin(asked)
        return self._ready.popleft() if self._ready else None

    def _begin(self, asked: Asked) -> None:
        opened = self._open[asked.number] = _Open(asked, list(self.seeds))
        for _ in self.seeds[:1] if self.pruned_by else self.seeds:
            self._ready.append(self._student(opened))

    def _student(self, opened: _Open) -> Assignment:
        values = {**opened.asked.values, SEED: opened.seeds_left.pop(0)}
        return Assignment("student", values, trial=opened.asked.number)

    def epoch(self, assignment: Assignment, record: Mapping[str, float]) -> bool:
        """Trials are compared LOOKS times a student: equal steps mean equal seed and equal share of the training."""
        if self.pruned_by is None or assignment.trial not in self._open:
            return False
        epochs, epoch = int(assignment.values.get(EPOCHS, self.num_epochs)), int(record["epoch"])
        look = epoch * LOOKS // epochs
        if look == (epoch - 1) * LOOKS // epochs:
            return False
        step = list(self.seeds).index(assignment.values[SEED]) * LOOKS + look
        return self.study.hopeless(assignment.trial, record[f"validation_{self.pruned_by}"], step=step)

    def ended(self, assignment: Assignment, result: Trained | PotstillError) -> None:
        if isinstance(result, PotstillError):
            self._failed(assignment, result)
            return
        self.num_found += result.cached
        self.num_trained += not result.cached
        self.progress.advance(self.num_found + self.num_trained)
        if opened := self._open.get(assignment.trial):
            opened.trained[assignment.values[SEED]] = result
            self._go_on(opened)

    def _go_on(self, opened: _Open) -> None:
        if len(opened.trained) == len(self.seeds):
            self._complete(opened)
        elif self.pruned_by:
            self._ready.appendleft(self._student(opened))

    def _complete(self, opened: _Open) -> None:
        number, students = opened.asked.number, [opened.trained[seed] for seed in self.seeds]
        told = [Taught(seed, opened.trained[seed].key) for seed in self.seeds]
        self.study.complete(number, self.objectives(opened.asked, students), told)
        del self._open[number]

    def _failed(self, assignment: Assignment, error: PotstillError) -> None:
        """Of a trial, one reason is enough; its other students are not begun."""
        if not isinstance(error, OF_ITS_VALUES) or assignment.trial < 0:
            raise error
        if self._open.pop(assignment.trial, None):
            pruned = isinstance(error, TrialPrunedError)
            self.study.give_up(assignment.trial, str(error), pruned=pruned)
            kept = [each for each in self._ready if each.trial != assignment.trial]
            self._ready.clear()
            self._ready.extend(kept)


@dataclass(slots=True)
class Errands:
    """Fulfils `team.Source` with a list: students that are wanted whatever they come to."""

    wanted: Sequence[Assignment]
    results: dict[int, Trained] = field(default_factory=dict)
    """By place in *wanted*."""
    _next: int = 0

    def next(self) -> Assignment | None:
        if self._next == len(self.wanted):
            return None
        self._next += 1
        return self.wanted[self._next - 1]

    def epoch(self, assignment: Assignment, record: Mapping[str, float]) -> bool:  # noqa: ARG002 (none is given up)
        return False

    def ended(self, assignment: Assignment, result: Trained | PotstillError) -> None:
        if isinstance(result, PotstillError):
            raise result
        self.results[list(self.wanted).index(assignment)] = result


def objective_values(
    names: Sequence[str], students: Sequence[Trained], latency_p50_ms: Callable[[], float]
) -> list[float]:
    """A value for each name: metrics as means over *students*, costs as they are."""

    def value(name: str) -> float:
        if name == "latency_p50_ms":
            return latency_p50_ms()
        if name == "num_parameters":
            return float(students[0].num_parameters)
        return fmean(student.metrics[name] for student in students)

    return [value(name) for name in names]
