"""What a sweep varies: values of student parameters, and nothing that would change what the teacher says."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.errors import BadInputError, ParamsError
from components.params import SEED, Params, RangeParams, SpaceChoice, SweepParams, with_values
from components.settings import Settings
from components.steps.pipeline import ancestors, load_step
from components.steps.step import Step, World

Values = Mapping[str, Any]
"""Dotted name -> value."""
MODEL = "student.model"
LOOKED_UP = ("student.rows", "student.labels")
"""What decides about rows and labels counts by what is found in the data, not by how it was asked for."""


def sweep_of(params: Params) -> SweepParams:
    """BadInputError where the file has none."""
    if params.sweep is None:
        raise BadInputError(
            "the file has no section sweep; add one such as "
            "sweep: {space: {student.objective.temperature: [1, 2, 4, 8], student.objective.alpha: [0.5, 0.9]}, seeds: 3}"
        )
    return params.sweep


def seeds_of(sweep: SweepParams) -> tuple[int, ...]:
    """Of the students of every trial."""
    listed = sweep.space.get(SEED)
    return tuple(listed) if isinstance(listed, tuple) else tuple(range(sweep.seeds))


def searched(sweep: SweepParams) -> dict[str, SpaceChoice]:
    """What makes one trial another: all of the space but seeds."""
    return {name: choice for name, choice in sweep.space.items() if name != SEED}


def grid(params: Params) -> list[dict[str, Any]]:
    """Every combination, the last parameter changing fastest; ranges need a step."""
    listed = {name: listed_values(params, name, choice) for name, choice in searched(sweep_of(params)).items()}
    return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]


def listed_values(params: Params, name: str, choice: SpaceChoice) -> list[Any]:
    """Those of a list, or of a range with a step."""
    if not isinstance(choice, RangeParams):
        return list(choice)
    assert choice.step, "params refuse it"
    count = math.floor((choice.high - choice.low) / choice.step + 1e-9) + 1
    values = [round(choice.low + index * choice.step, 12) for index in range(count)]
    return [round(value) for value in values] if is_whole(params, name) else values


def is_whole(params: Params, name: str) -> bool:
    """Whether the parameter is a whole number in the file."""
    found: Any = params.model_dump(mode="json")
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return isinstance(found, int) and not isinstance(found, bool)


def in_words(value: Any) -> str:
    """A number, or a section such as 'mlp (hidden [24])'."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and "name" in value:
        rest = ", ".join(f"{key} {in_words(each)}" for key, each in value.items() if key != "name")
        return f"{value['name']} ({rest})" if rest else str(value["name"])
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else str(value)


def short_name(name: str) -> str:
    """The last part of a dotted name, or two where one says little."""
    parts = name.removeprefix("student.").split(".")
    return parts[-1] if len(parts[-1]) > 4 or len(parts) == 1 else ".".join(parts[-2:])


def described(values: Values) -> str:
    """'temperature 4, alpha 0.9'."""
    return ", ".join(f"{short_name(name)} {in_words(value)}" for name, value in values.items()) or "as in the file"


def model_values(params: Params) -> list[dict[str, Any]]:
    """Of every student model that the space lists, one without values where it lists none; nothing where it has ranges."""
    space = searched(sweep_of(params))
    named = {name: choice for name, choice in space.items() if name == MODEL or name.startswith(f"{MODEL}.")}
    if any(isinstance(choice, RangeParams) for choice in named.values()):
        return []
    combined = itertools.product(*(choice for choice in named.values() if isinstance(choice, tuple)))
    return [dict(zip(named, values, strict=True)) for values in combined]


def refuse_unfit(params: Params) -> None:
    """ParamsError that lists every value that does not fit, and every parameter that a sweep cannot vary, with why."""
    sweep = sweep_of(params)
    problems = [problem for name in sweep.space for problem in _problems(params, name)]
    if "latency_p50_ms" in sweep.objectives and not model_values(params):
        problems.append(
            "latency_p50_ms is measured before the trials: list the models of student.model, or use num_parameters"
        )
    if problems:
        lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise ParamsError(f"sweep.space cannot be used:\n{lines}")


def _problems(params: Params, name: str) -> Iterator[str]:
    fitting = []
    for values in _tried(sweep_of(params), name):
        try:
            fitting.append(with_values(params, values))
        except ParamsError as error:
            yield str(error)
    if reached := _reached_before(params, fitting):
        yield (
            f"{name}: the step {reached} reads it, and all students of a sweep learn from the same soft targets; "
            f"choose one value with --set {name}=..., and sweep once for each"
        )
    elif (
        len(fitting) > 1 and not name.startswith(LOOKED_UP) and not _reached(load_step("student"), fitting[0], fitting)
    ):
        yield f"{name}: no student learns anything else by it; leave it out"


def _tried(sweep: SweepParams, name: str) -> Iterator[dict[str, Any]]:
    """Each value of *name* (of a range its ends), below each value of the sections around it that are swept too."""
    around = [other for other in sweep.space if name.startswith(f"{other}.")]
    names = (*around, name)
    for values in itertools.product(*(_ends(sweep.space[each]) for each in names)):
        yield dict(zip(names, values, strict=True))


def _ends(choice: SpaceChoice) -> Sequence[Any]:
    return (choice.low, choice.high) if isinstance(choice, RangeParams) else choice


def _reached_before(params: Params, varied: Sequence[Params]) -> str | None:
    """The first step before the student that any of *varied* would change."""
    return next((name for name in ancestors("student") if _reached(load_step(name), params, varied)), None)


def _reached(step: Step, params: Params, varied: Sequence[Params]) -> bool:
    return any(_read(step, each) != _read(step, params) for each in varied)


def _read(step: Step, params: Params) -> tuple[Mapping[str, Any], Sequence[str]]:
    return step.reads(params), step.plugins(params)


def refuse_other_rows(params: Params, data: Artifact, settings: Settings, store: Store) -> None:
    """ParamsError where a value of the space would have the teacher asked about other rows of *data*."""
    sweep = sweep_of(params)
    for name in (each for each in sweep.space if each.startswith(LOOKED_UP)):
        varied = [params, *(with_values(params, values) for values in _tried(sweep, name))]
        asked = [load_step("soft_targets").resolve(World(each, settings, {"data": data}, store)) for each in varied]
        if any(each.facts != asked[0].facts for each in asked):
            raise ParamsError(
                f"sweep.space: {name} decides which rows the teacher is asked about, and all students of a sweep learn "
                f"from the same soft targets; choose one value with --set {name}=..."
            )
