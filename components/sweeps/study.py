"""The Optuna door: a study in a database that remembers which trials there were, and asks what to try next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.contracts import Direction
from components.errors import ServerError
from components.params import Params, RangeParams, SpaceChoice, SweepParams
from components.settings import Settings
from components.sweeps.space import Values, grid, is_whole, searched, sweep_of

State = Literal["complete", "pruned", "failed"]
STUDENTS, FAILURE, LATENCIES = "students", "failure", "latencies"
"""User attributes: what a trial's students are, why it failed, what was measured before."""
COMPARED_TRIALS = 4
"""So many are finished before any is pruned."""
LOOKS = 16
"""Times that a student's validation metric is compared with that of other trials; each is a write to the database."""
SPARED_LOOKS = 4
"""Before them no trial is pruned."""


@dataclass(frozen=True, slots=True)
class Taught:
    """One student of a trial, by its place in the store."""

    seed: int
    key: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of values that has been tried."""

    number: int
    state: State
    values: Values
    students: tuple[Taught, ...]
    reason: str = ""
    """Why it failed or was given up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One combination of values to try."""

    number: int
    values: Values


def study_url(settings: Settings) -> str:
    """As set, else a file below var/."""
    return settings.study_url or f"sqlite:///{settings.var_dir.absolute() / 'sweeps' / 'studies.db'}"


class Study:
    """The trials of one sweep. What a killed process has left unfinished is tried first."""

    def __init__(self, url: str, name: str, params: Params, directions: Sequence[Direction]) -> None:
        """ServerError where the database cannot be used."""
        self._sweep = sweep_of(params)
        self._choices = {name: _Choice.of(params, name, found) for name, found in searched(self._sweep).items()}
        self._url, self.name = url, name
        with self._told():
            self._study = _open(url, name, directions, params)
            self._open: dict[int, Any] = {}
            self._pending = [*self._interrupted(), *self._untried(params)]

    def ask(self) -> Asked | None:
        """What to try next; None when all has been tried, or the trials that were asked for are under way."""
        from optuna.trial import TrialState

        with self._told():
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if not waiting and not self._pending and not self._may_draw():
                return None
            if not waiting and self._pending:
                self._study.enqueue_trial(self._labels(self._pending[0]))
            trial = self._study.ask()
            values = {name: choice.suggest(trial) for name, choice in self._choices.items()}
        self._pending = [pending for pending in self._pending if pending != values]
        self._open[trial.number] = trial
        return Asked(trial.number, values)

    def hopeless(self, number: int, value: float, *, step: int) -> bool:
        """Report a validation metric of an open trial; whether the pruner gives it up."""
        trial = self._open.get(number)
        if trial is None:
            return False
        with self._told():
            trial.report(value, step)
            return bool(trial.should_prune())

    def complete(self, number: int, objectives: Sequence[float], students: Sequence[Taught]) -> None:
        told = [{"seed": student.seed, "key": student.key} for student in students]
        with self._told():
            self._open[number].set_user_attr(STUDENTS, told)
            self._study.tell(self._open.pop(number), list(objectives))

    def give_up(self, number: int, reason: str, *, pruned: bool) -> None:
        """A trial that was pruned, or that failed by its own values and would fail again."""
        from optuna.trial import TrialState

        with self._told():
            self._open[number].set_user_attr(FAILURE, reason)
            self._study.tell(self._open.pop(number), state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """All that are over, by number; not those that a killed process left."""
        with self._told():
            return [told for trial in self._study.get_trials(deepcopy=False) if (told := self._trial(trial))]

    def remember_latencies(self, found: Mapping[str, float]) -> None:
        with self._told():
            self._study.set_user_attr(LATENCIES, dict(found))

    def latencies(self) -> dict[str, float]:
        """As remembered: a clock gives other values each time, and trials are compared by one of them."""
        with self._told():
            return dict(self._study.user_attrs.get(LATENCIES, {}))

    def _trial(self, trial: Any) -> Trial | None:
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name)
        if state is None or (state == "failed" and FAILURE not in trial.user_attrs):
            return None
        students = tuple(Taught(**student) for student in trial.user_attrs.get(STUDENTS, ()))
        reason = str(trial.user_attrs.get(FAILURE, ""))
        return Trial(trial.number, state, self._values(trial.params), students, reason)  # type: ignore[arg-type]

    def _interrupted(self) -> Iterator[dict[str, Any]]:
        """What a process that is gone was at; only one process at a time holds a study."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params.keys() == self._choices.keys():
                yield self._values(trial.params)

    def _untried(self, params: Params) -> list[dict[str, Any]]:
        if self._sweep.sampler != "grid":
            return []
        tried = [trial.values for trial in self.trials()]
        return [values for values in grid(params) if values not in tried]

    def _may_draw(self) -> bool:
        return bool(self._sweep.trials) and len(self.trials()) + len(self._open) < (self._sweep.trials or 0)

    def _labels(self, values: Values) -> dict[str, Any]:
        return {name: choice.label(values[name]) for name, choice in self._choices.items()}

    def _values(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._choices[name].value(label) for name, label in labels.items() if name in self._choices}

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the database raises is one ServerError without the password."""
        from components.tracking import without_password

        try:
            yield
        except Exception as error:
            if not _is_databases(error):
                raise
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ServerError(
                f"the study's database {without_password(self._url)} cannot be used: {without_password(reason)}; "
                "correct POTSTILL_STUDY_URL, or unset it to use a file below var/"
            ) from error


def _is_databases(error: Exception) -> bool:
    """Raised by what the study stands on: its storage, the driver of its database, or the lack of one."""
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ImportError) or bool(roots & {"optuna", "sqlalchemy"})


@dataclass(frozen=True, slots=True)
class _Choice:
    """One parameter of the space as Optuna knows it: sections and lists are labels of JSON there."""

    name: str
    range: RangeParams | None
    whole: bool
    listed: tuple[Any, ...]

    @classmethod
    def of(cls, params: Params, name: str, choice: SpaceChoice) -> _Choice:
        if isinstance(choice, RangeParams):
            return cls(name, choice, is_whole(params, name), ())
        return cls(name, None, False, tuple(choice))

    def label(self, value: Any) -> Any:
        return json.dumps(value, sort_keys=True) if isinstance(value, list | tuple | dict) else value

    def value(self, label: Any) -> Any:
        return label if self.range else next(value for value in self.listed if self.label(value) == label)

    def suggest(self, trial: Any) -> Any:
        if self.range is None:
            return self.value(trial.suggest_categorical(self.name, [self.label(value) for value in self.listed]))
        low, high, log = self.range.low, self.range.high, self.range.log
        if self.whole:
            return trial.suggest_int(self.name, round(low), round(high), log=log, step=round(self.range.step or 1))
        return trial.suggest_float(self.name, low, high, log=log, step=self.range.step)


def _open(url: str, name: str, directions: Sequence[Direction], params: Params) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    sweep = sweep_of(params)
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(url),
        study_name=name,
        directions=["maximize" if direction == "higher" else "minimize" for direction in directions],
        pruner=_pruner(sweep),
        load_if_exists=True,
    )
    # With its first seed again, a sampler would draw again what it drew before a kill.
    seed = sweep.seed + len(study.get_trials(deepcopy=False))
    samplers = optuna.samplers
    study.sampler = samplers.TPESampler(seed=seed) if sweep.sampler == "tpe" else samplers.RandomSampler(seed=seed)
    return study


def _pruner(sweep: SweepParams) -> Any:
    import optuna

    if sweep.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=COMPARED_TRIALS, n_warmup_steps=SPARED_LOOKS)
