"""`potstill compare`: objectives under one teacher, each at its best on validation, over the same seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from components.contracts import ObjectiveParams, Workload
from components.errors import BadInputError, TrainingDivergedError
from components.evaluation.over_seeds import paired_difference, spread
from components.evaluation.statistics import holm
from components.params import ComparisonParams
from components.steps.fitting import METRICS
from flows.repeat import STEPS, all_steps, launched, machine, plain
from flows.run import Run, code_version, open_run

if TYPE_CHECKING:
    from rich.console import Group

UP_TO_THE_STUDENT = STEPS[: STEPS.index("student") + 1]
HARD_LABELS = "hard labels"
CALIBRATION = ("nll", "ece")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all rows of one table share."""

    params_file: Path
    overrides: Sequence[str]
    name: str
    chosen: ComparisonParams
    workload: Workload

    def run(self, objective: ObjectiveParams, *, seed: int, steps: Sequence[str]) -> Run:
        """The student of *objective* and *seed*; TrainingDivergedError where it has none."""
        written = yaml.safe_dump(objective.model_dump(mode="json"), default_flow_style=True)
        student = (f"student.objective={written}", f"student.seed={seed}")
        said = f"compare {self.name} {objective.name} {seed}"
        return all_steps(self.params_file, (*self.overrides, *student), said, steps=steps)

    @property
    def primary(self) -> str:
        return self.workload.primary_metric


def compare(params_file: Path, overrides: Sequence[str], *, name: str) -> dict[str, Any]:
    """Search on the validation split, then measure on the test split, through the one store."""
    began = time.monotonic()
    opened = open_run(params_file, overrides, name=f"compare {name}")
    if opened.params.comparison is None:
        raise BadInputError(f"{params_file} has no section comparison, which lists the methods: see `potstill params`")
    comparison = Comparison(params_file, overrides, name, opened.params.comparison, opened.params.workload.build())
    methods = {title: _method(comparison, title, opened) for title in comparison.chosen.methods}
    return {
        "name": name,
        "measures": {metric: measure.title for metric, measure in comparison.workload.measures.items()},
        "primary": comparison.primary,
        "reference": comparison.chosen.reference,
        "methods": methods,
        **summary(methods, primary=comparison.primary, reference=comparison.chosen.reference),
        "minutes": (time.monotonic() - began) / 60,
        "machine": machine(opened),
        "params": opened.params.model_dump(mode="json"),
        "code": code_version().commit,
    }


def _method(comparison: Comparison, title: str, opened: Run) -> dict[str, Any]:
    """What was tried, what was chosen, and what each of its seeds reached; without seeds where one diverged."""
    candidates = comparison.chosen.methods[title]
    opened.progress.say(f"{title}: {len(candidates)} configurations, {comparison.chosen.seeds} seeds")
    tried = [_tried(comparison, objective) for objective in candidates] if len(candidates) > 1 else []
    best = chosen_place(tried, better=comparison.workload.measures[comparison.primary].better) if tried else 0
    found: dict[str, Any] = {"tried": tried, "objective": None, "said": "every configuration diverged", "per_seed": []}
    if best is None:
        return found
    objective = candidates[best]
    found |= {"objective": objective.model_dump(mode="json"), "said": objective.in_words()}
    try:
        runs = [comparison.run(objective, seed=seed, steps=STEPS) for seed in range(comparison.chosen.seeds)]
    except TrainingDivergedError as error:
        return {**found, "diverged": str(error)}
    return {**found, "per_seed": [_measured(run) for run in runs]}


def _tried(comparison: Comparison, objective: ObjectiveParams) -> dict[str, Any]:
    """The primary metric of *objective* on the validation split, seed by seed."""
    said = {"said": objective.in_words(), "objective": objective.model_dump(mode="json")}
    seeds = range(comparison.chosen.search_seeds)
    try:
        runs = [comparison.run(objective, seed=seed, steps=UP_TO_THE_STUDENT) for seed in seeds]
    except TrainingDivergedError as error:
        return {**said, "validation": [], "diverged": str(error)}
    return {**said, "validation": [run.artifacts()["student"].read_json(METRICS)[comparison.primary] for run in runs]}


def chosen_place(tried: Sequence[Mapping[str, Any]], *, better: str) -> int | None:
    """Place of the best mean on validation, of equal ones the first; None where all diverged."""
    sign = 1 if better == "higher" else -1
    scores = {place: sign * math.fsum(one["validation"]) for place, one in enumerate(tried) if one["validation"]}
    return max(scores, key=lambda place: scores[place]) if scores else None


def _measured(run: Run) -> dict[str, Any]:
    """Test metrics of both students and the teacher, as they are and after one temperature fitted on validation."""
    from components.data.packed import open_packed

    evaluated, data = run.artifacts()["evaluate"], open_packed(run.artifacts()["data"])
    metrics = evaluated.read_json("metrics.json")
    workload = run.params.workload_for(data.spec)
    arms = ("teacher", "baseline", "student")
    found = {
        arm: {name: metrics[arm][name] for name in (*workload.measures, *workload.fidelity_measures)} for arm in arms
    }
    sizes = {"num_parameters": {arm: metrics[arm]["num_parameters"] for arm in arms}}
    if workload.labels != "classes" or not set(CALIBRATION) <= set(workload.measures):
        return {**found, **sizes}
    return {**found, **sizes, "calibrated": {arm: _calibrated(run, arm, workload) for arm in ("baseline", "student")}}


def _calibrated(run: Run, arm: str, workload: Workload) -> dict[str, float]:
    """The temperature that suits the validation split best, and NLL and ECE on the test split at it."""
    import numpy as np

    from components.data.packed import open_packed
    from components.evaluation.calibration import fitted_temperature
    from components.evaluation.predict import predict_logits
    from components.saved_models import load_model

    data, evaluated = open_packed(run.artifacts()["data"]), run.artifacts()["evaluate"].root
    rows = data.labelled_rows("validation")
    logits = predict_logits(load_model(run.artifacts()[arm]), data.samples, rows)
    temperature = fitted_temperature(logits, np.asarray(data.labels[rows]))
    tested = np.load(evaluated / f"logits_{arm}.npy") / np.float32(temperature)
    values = workload.metrics(tested, np.load(evaluated / "labels.npy"))
    return {"temperature": temperature, **{name: values[name] for name in CALIBRATION}}


def summary(methods: Mapping[str, Mapping[str, Any]], *, primary: str, reference: str) -> dict[str, Any]:
    """Each row's spreads, and its paired differences to hard labels and to the reference with Holm's correction."""
    measured = {title: found["per_seed"] for title, found in methods.items() if found["per_seed"]}
    if not measured:
        raise BadInputError("no method gave a student with every seed: nothing can be compared (see train and alpha)")
    rows = {HARD_LABELS: _row(next(iter(measured.values())), "baseline")}
    rows |= {title: _row(seeds, "student") for title, seeds in measured.items()}

    def scores(title: str, arm: str) -> list[float]:
        return [seed[arm][primary] for seed in measured[title]]

    to_hard = {title: (scores(title, "student"), scores(title, "baseline")) for title in measured}
    others = [title for title in measured if title != reference] if reference in measured else []
    to_reference = {title: (scores(title, "student"), scores(reference, "student")) for title in others}
    return {
        "rows": rows,
        "minus_hard_labels": _differences(to_hard),
        "minus_reference": _differences(to_reference),
    }


def _row(seeds: Sequence[Mapping[str, Any]], arm: str) -> dict[str, Any]:
    """Spread of every number over the seeds."""
    said = {name: plain(spread([seed[arm][name] for seed in seeds])) for name in seeds[0][arm]}
    if "calibrated" not in seeds[0]:
        return said
    calibrated = seeds[0]["calibrated"][arm]
    fitted = {name: plain(spread([seed["calibrated"][arm][name] for seed in seeds])) for name in calibrated}
    return {**said, "calibrated": fitted}


def _differences(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> dict[str, Any]:
    """Paired differences of a family, with the p-values of all of them together."""
    found = {title: plain(paired_difference(*pair)) for title, pair in pairs.items()}
    adjusted = holm([one["p_value"] for one in found.values()])
    return {title: {**one, "p_holm": p} for (title, one), p in zip(found.items(), adjusted, strict=True)}


def table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for hard labels and one a method; the first is the header."""
    measures, calibrated = result["measures"], "calibrated" in result["rows"][HARD_LABELS]
    titles = [measures[name] for name in CALIBRATION] if calibrated else []
    fitted = ["T fitted", *(f"{title} at T" for title in titles)] if calibrated else []
    header = ["method", measures[result["primary"]], "− hard labels", f"− {result['reference']}", *titles, *fitted]
    return [header, *(_table_row(result, title, calibrated=calibrated) for title in (HARD_LABELS, *result["methods"]))]


def _table_row(result: Mapping[str, Any], title: str, *, calibrated: bool) -> list[str]:
    row = result["rows"].get(title)
    if row is None:
        return [f"{title}: diverged", *[""] * (8 if calibrated else 3)]
    cells = [title, _spread(row[result["primary"]])]
    cells += [_difference(result[family].get(title)) for family in ("minus_hard_labels", "minus_reference")]
    if calibrated:
        cells += [_spread(row[name]) for name in CALIBRATION]
        cells += [_spread(row["calibrated"][name]) for name in ("temperature", *CALIBRATION)]
    return cells


def _spread(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.4f} ± {found['sd']:.4f}"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] p={found['p_holm']:.3g}"


def markdown(result: Mapping[str, Any]) -> str:
    """The table, and below it what was chosen among what."""
    header, *rows = table_rows(result)
    lines = "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
    choices = "\n".join(_choice(title, found) for title, found in result["methods"].items())
    return (
        f"# {result['name']}\n\n{lines}\n\nMean ± sd over the seeds; differences are paired by seed, with 95 % t-intervals and "
        f"p-values corrected by Holm within a column.\n\n{choices}\n\n{result['minutes']:.1f} minutes.\n"
    )


def _choice(title: str, found: Mapping[str, Any]) -> str:
    tried = "".join(f"\n  - {one['said']}: {_validation(one)}" for one in found["tried"])
    return f"- {title}: {found['said']}{'; ' + found['diverged'] if 'diverged' in found else ''}{tried}"


def _validation(one: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value:.4f}" for value in one["validation"])
    return f"validation {values}" if values else f"diverged: {one['diverged']}"


def rich_tables(result: Mapping[str, Any]) -> Group:
    """The differences, and below them the calibration: together they are wider than most terminals."""
    from rich.console import Group
    from rich.table import Table

    header, *rows = table_rows(result)
    titles = (
        f"{result['name']}: mean ± sd, paired 95 % t-intervals, p by Holm",
        "calibration, before and after a temperature fitted on validation",
    )
    places = (range(4), (0, *range(4, len(header))))
    tables = []
    for title, columns in zip(titles, places, strict=True):
        if len(columns) > 1:
            tables.append(Table(*(header[place] for place in columns), title=title))
            for row in rows:
                tables[-1].add_row(*(row[place] for place in columns))
    return Group(*tables)


def launch_compare(params_file: Path, overrides: Sequence[str]) -> None:
    """Compare with progress, print the table and write it below <var>/comparisons/."""
    name = params_file.stem
    launched(
        lambda: compare(params_file, overrides, name=name),
        folder=Path("comparisons") / name,
        text=markdown,
        table=rich_tables,
    )
