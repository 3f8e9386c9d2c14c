"""One sweep from what the teacher said to its result: which students are trained, measured and compared."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact
from components.artifacts.lock import held
from components.artifacts.store import Store
from components.contracts import Direction, Measure, ModelParams, Progress
from components.errors import BadInputError
from components.params import COSTS, SEED, Params, RangeParams, with_values
from components.settings import Settings
from components.steps.execute import key_of
from components.steps.pipeline import load_step
from components.steps.step import World
from components.sweeps import results, worker
from components.sweeps.results import Recommendation, Student, SweepResult, TeacherResult, TrialResult
from components.sweeps.search import Errands, Search, objective_values
from components.sweeps.space import Values, grid, model_values, seeds_of, sweep_of
from components.sweeps.study import Asked, Study, Trial, study_url
from components.sweeps.team import Assignment, Team, Trained

if TYPE_CHECKING:
    from torch import nn

    from components.data.packed import PackedData

OBJECTIVE = "student.objective"
NAME_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep works with."""

    params: Params
    settings: Settings
    store: Store
    artifacts: Mapping[str, Artifact]
    """Of the steps up to soft_targets."""
    title: str
    """Of the file of parameters."""
    producer: str
    progress: Progress

    @property
    def measures(self) -> Mapping[str, Measure]:
        return self.params.workload.build().measures

    @property
    def objectives(self) -> tuple[str, ...]:
        return sweep_of(self.params).objectives or (self.params.workload.build().primary_metric,)

    @property
    def metric(self) -> str:
        return next(name for name in self.objectives if name in self.measures)

    @property
    def directions(self) -> list[Direction]:
        return ["lower" if name in COSTS else self.measures[name].better for name in self.objectives]

    @property
    def num_processes(self) -> int:
        import psutil

        return sweep_of(self.params).processes or psutil.cpu_count(logical=False) or 1

    def name(self) -> str:
        """Of the file and of all that is swept: how many trials, how fast and how long is not part of it."""
        sweep = sweep_of(self.params)
        first = {
            name: choice.low if isinstance(choice, RangeParams) else choice[0] for name, choice in sweep.space.items()
        }
        told = {
            "sweep": sweep.model_dump(mode="json", exclude={"trials", "processes", "timeout_minutes"}),
            "student": _student_key(self, first),
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return f"{self.title}-{digest[:NAME_CHARACTERS]}"


def _student_key(sweep: Sweep, values: Values) -> str:
    """Data, teacher, soft targets, code and whatever else a student of this sweep depends on."""
    params, step = with_values(sweep.params, values), load_step("student")
    resolved = step.resolve(World(params, sweep.settings, sweep.artifacts, sweep.store))
    return key_of(step, params, sweep.artifacts, resolved).digest


def conduct(sweep: Sweep) -> SweepResult:
    """Train every student that the sweep asks for and has not, and say what they came to.

    What is there is found; a sweep that was killed goes on. BadInputError when another process runs the same sweep.
    """
    began, chosen, seeds = time.monotonic(), sweep_of(sweep.params), seeds_of(sweep_of(sweep.params))
    name = sweep.name()
    with _alone(sweep, name):
        study = Study(study_url(sweep.settings), name, sweep.params, sweep.directions)
        latencies = Latencies(sweep, study)
        if "latency_p50_ms" in sweep.objectives:
            for values in model_values(sweep.params):
                latencies.of(with_values(sweep.params, values).student.model)
        besides = _hard_label_students(sweep, seeds)
        search = Search(
            study=study,
            seeds=seeds,
            objectives=lambda asked, students: _objectives(sweep, asked, students, latencies),
            pruned_by=sweep.metric if chosen.pruner != "none" else None,
            num_epochs=sweep.params.student.train.epochs,
            progress=sweep.progress,
            besides=besides,
            ends_at=began + 60 * chosen.timeout_minutes if chosen.timeout_minutes else None,
        )
        with _team(sweep, name) as team:
            sweep.progress.start("train students", total=_expected(sweep, len(besides), len(seeds)))
            team.run(search)
            trials = _restored(sweep, team, study.trials())
            found = [_result(sweep, trial, latencies) for trial in trials]
            picked = results.recommended(
                found,
                metric=sweep.metric,
                measure=sweep.measures[sweep.metric],
                objectives=sweep.objectives,
                num_rows=_num_validation_rows(sweep),
            )
            control = _control(sweep, team, picked[0], latencies) if picked else None
        hard_labels = [_hard_label_result(sweep, values, seeds, latencies) for values in model_values(sweep.params)]
        teacher = _teacher(sweep, latencies)
    return SweepResult(
        name=name,
        metric=sweep.metric,
        measure=sweep.measures[sweep.metric],
        objectives=sweep.objectives,
        measures=sweep.measures,
        trials=tuple(found),
        hard_labels=tuple(hard_labels),
        control=control,
        teacher=teacher,
        num_validation_rows=_num_validation_rows(sweep),
        recommendation=_recommendation(sweep, picked, control),
        num_trained=search.num_trained,
        num_found=search.num_found,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _alone(sweep: Sweep, name: str) -> Iterator[None]:
    """Two processes with one study would each take the other's trials for those of a dead one."""

    def refuse(holder: str) -> None:
        raise BadInputError(f"process {holder} runs this very sweep ({name}); wait for it, or end it")

    with held(sweep.settings.var_dir / "locks" / f"sweep-{name}.lock", wait_seconds=60, waiting=refuse):
        yield


def _team(sweep: Sweep, name: str) -> Team:
    needed = {each for step in ("baseline", "student") for each in load_step(step).inputs}
    inputs = {each: sweep.artifacts[each] for each in sorted(needed)}
    tell_epochs = sweep_of(sweep.params).pruner != "none"
    return Team(
        worker.MODULE,
        worker.job_of(sweep.params, sweep.settings, inputs, producer=sweep.producer, tell_epochs=tell_epochs),
        count=sweep.num_processes,
        logs=folder_of(sweep.settings, name) / "processes",
        progress=sweep.progress,
    )


def folder_of(settings: Settings, name: str) -> Path:
    """Where a sweep leaves its page."""
    return settings.var_dir / "sweeps" / name


def _expected(sweep: Sweep, num_besides: int, num_seeds: int) -> int:
    chosen = sweep_of(sweep.params)
    trials = len(grid(sweep.params)) if chosen.sampler == "grid" else chosen.trials or 0
    return num_besides + trials * num_seeds


def _hard_label_students(sweep: Sweep, seeds: Sequence[int]) -> list[Assignment]:
    return [Assignment("baseline", {**values, SEED: seed}) for values in model_values(sweep.params) for seed in seeds]


def _objectives(sweep: Sweep, asked: Asked, students: Sequence[Trained], latencies: Latencies) -> list[float]:
    return objective_values(
        sweep.objectives, students, lambda: latencies.of(with_values(sweep.params, asked.values).student.model)
    )


def _restored(sweep: Sweep, team: Team, trials: Sequence[Trial]) -> Sequence[Trial]:
    """Students of earlier trials that the store has lost are trained again; they have the same keys."""
    lost = [
        Assignment("student", {**trial.values, SEED: student.seed}, trial=trial.number)
        for trial in trials
        for student in trial.students
        if sweep.store.find("student", student.key, progress=sweep.progress) is None
    ]
    if lost:
        sweep.progress.say(f"{len(lost)} students of this sweep are not in the store any more: trained again")
        team.run(Errands(lost))
    return trials


def _found(sweep: Sweep, kind: str, key: str) -> Artifact:
    found = sweep.store.find(kind, key, progress=sweep.progress)
    if found is None:
        raise BadInputError(f"{kind} {key} vanished from the store while the sweep ran; run the same command again")
    sweep.store.storage.touch(kind, key)
    return found


def _result(sweep: Sweep, trial: Trial, latencies: Latencies) -> TrialResult:
    if trial.state != "complete":
        return TrialResult(trial.number, trial.state, trial.values, reason=trial.reason)
    keys = [(student.seed, student.key) for student in trial.students]
    return _measured(sweep, "student", trial.values, keys, latencies, number=trial.number)


def _measured(
    sweep: Sweep, kind: str, values: Values, keys: Sequence[tuple[int, str]], latencies: Latencies, *, number: int = -1
) -> TrialResult:
    from components.saved_models import describe

    found = {seed: _found(sweep, kind, key) for seed, key in keys}
    students = [
        Student(seed, artifact.key, artifact.digest, artifact.read_json("metrics.json"))
        for seed, artifact in found.items()
    ]
    return TrialResult(
        number,
        "complete",
        values,
        tuple(students),
        describe(next(iter(found.values()))).num_parameters or 0,
        latencies.of(with_values(sweep.params, values).student.model),
    )


def _hard_label_result(sweep: Sweep, values: Values, seeds: Sequence[int], latencies: Latencies) -> TrialResult:
    keys = [(seed, _baseline_key(sweep, {**values, SEED: seed})) for seed in seeds]
    return _measured(sweep, "baseline", values, keys, latencies)


def _baseline_key(sweep: Sweep, values: Values) -> str:
    params, step = with_values(sweep.params, values), load_step("baseline")
    resolved = step.resolve(World(params, sweep.settings, sweep.artifacts, sweep.store))
    return key_of(step, params, sweep.artifacts, resolved).digest


def _control(sweep: Sweep, team: Team, trial: TrialResult, latencies: Latencies) -> TrialResult:
    """Hard-label students that differ from the recommended ones in nothing but the objective."""
    seeds = [student.seed for student in trial.students]
    errands = Errands([Assignment("baseline", {**trial.values, SEED: seed}) for seed in seeds])
    team.run(errands)
    keys = [(seed, errands.results[place].key) for place, seed in enumerate(seeds)]
    values = {name: value for name, value in trial.values.items() if not name.startswith(OBJECTIVE)}
    return _measured(sweep, "baseline", values, keys, latencies)


def _teacher(sweep: Sweep, latencies: Latencies) -> TeacherResult:
    from components.saved_models import describe

    teacher = sweep.artifacts["teacher"]
    return TeacherResult(teacher.read_json("metrics.json"), describe(teacher).num_parameters, latencies.of_teacher())


def _recommendation(
    sweep: Sweep, picked: tuple[TrialResult, tuple[int, ...], str] | None, control: TrialResult | None
) -> Recommendation | None:
    if picked is None:
        return None
    trial, as_good, why = picked
    metric = sweep.metric
    sure = results.certainty(trial, control, metric, sweep.measures[metric], _num_validation_rows(sweep))
    return Recommendation(trial, why, sure, as_good)


def _num_validation_rows(sweep: Sweep) -> int:
    return len(_packed(sweep).labelled_rows("validation"))


def _packed(sweep: Sweep) -> PackedData:
    from components.data.packed import open_packed

    return open_packed(sweep.artifacts["data"])


class Latencies:
    """Milliseconds of one call, median, by model: measured here, one at a time, and remembered by the study."""

    def __init__(self, sweep: Sweep, study: Study) -> None:
        self._sweep, self._study = sweep, study
        self._known = study.latencies()

    def of(self, model: ModelParams) -> float:
        """Weights do not matter to it, so those of a new model serve."""
        from components.steps.fitting import with_learned
        from components.training.reproducible import initialised

        data = _packed(self._sweep)
        return self._measured(
            json.dumps(model.model_dump(mode="json"), sort_keys=True),
            lambda: initialised(model, with_learned(model, data), seed=0),
        )

    def of_teacher(self) -> float:
        from components.saved_models import load_model

        teacher = self._sweep.artifacts["teacher"]
        return self._measured(f"teacher {teacher.digest}", lambda: load_model(teacher))

    def _measured(self, name: str, build: Any) -> float:
        if name not in self._known:
            self._known[name] = self._measure(build())
            self._study.remember_latencies(self._known)
        return self._known[name]

    def _measure(self, module: nn.Module) -> float:
        """As evaluate does, at its smallest batch, on a validation sample."""
        import torch

        from components.artifacts.fingerprint import device_name, num_threads
        from components.evaluation.cost import measure_latency

        data, chosen = _packed(self._sweep), self._sweep.params.evaluate
        torch.set_num_threads(num_threads(self._sweep.settings))
        size = min(chosen.latency_batches)
        sample = data.samples[data.rows("validation")[:1]]
        module = module.eval().to(torch.device(device_name(self._sweep.settings)))
        return measure_latency(module, sample, (size,), chosen.latency_repeats)[str(size)]["latency_p50_ms"]
