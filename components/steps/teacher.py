"""The teacher: trained here, or brought from a registry or a file, and held to its own floor."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from components import plugins
from components.artifacts.artifact import Artifact, write_json
from components.contracts import Direction, Resolved, directions
from components.errors import TeacherRefusedError
from components.params import (
    BlackBoxTeacher,
    BuilderTeacher,
    EnsembleTeacher,
    MlflowTeacher,
    Params,
    TeacherParams,
    TrainedTeacher,
    WeightsTeacher,
)
from components.steps import fitting
from components.steps.step import Step, StepContext, World
from components.steps.teacher_code import forward_modules

ENSEMBLE = "components.steps.teacher_ensemble"
BLACK_BOX = "components.steps.teacher_black_box"
"""Named and not imported, so that changing them retrains no teacher of another kind."""


def _reads(params: Params) -> Mapping[str, Any]:
    teacher = params.teacher
    if isinstance(teacher.source, EnsembleTeacher):
        members = [_read_of(params, member) for member in teacher.members]
        return {"source": "ensemble", "combine": teacher.source.combine, "members": members}
    return _read_of(params, teacher)


def _read_of(params: Params, teacher: TeacherParams) -> Mapping[str, Any]:
    """Of one teacher, or one member of an ensemble."""
    source, workload = teacher.source, params.workload.model_dump(mode="json")
    if isinstance(source, MlflowTeacher):
        return {"source": "mlflow", "workload": workload}
    if isinstance(source, WeightsTeacher | BuilderTeacher):
        return {"source": source.kind, "workload": workload, **fitting.read_of(teacher.model)}
    if isinstance(source, BlackBoxTeacher):
        said = source.model_dump(mode="json", exclude={"kind", "file"})
        return {"source": "black_box", "workload": workload, **said}
    read = fitting.read_by_training(params, teacher.model, teacher.train, teacher.views, teacher.seed)
    return {"source": "train", **read}


def _plugins(params: Params) -> Sequence[str]:
    trained = [member for member in params.teacher.members if isinstance(member.source, TrainedTeacher)]
    training = (name for each in trained for name in fitting.training_plugins(params, each.model, each.views))
    workload = plugins.module_name("workloads", params.workload.name)
    makers = (name for kind, name in ((EnsembleTeacher, ENSEMBLE), (BlackBoxTeacher, BLACK_BOX)) if _has(params, kind))
    return tuple(dict.fromkeys((workload, *training, *makers, *forward_modules(params))))


def _has(params: Params, kind: type) -> bool:
    return any(isinstance(each.source, kind) for each in (params.teacher, *params.teacher.members))


def _resolve(world: World) -> Resolved:
    from components.teachers import resolve_teacher

    found = [resolve_teacher(member.source, world.settings) for member in world.params.teacher.members]
    if not isinstance(world.params.teacher.source, EnsembleTeacher):
        return found[0]
    return Resolved({"members": [each.facts for each in found]}, {"members": [each.notes for each in found]})


def _run(ctx: StepContext) -> None:
    teacher = ctx.params.teacher
    if isinstance(teacher.source, EnsembleTeacher):
        importlib.import_module(ENSEMBLE).make(ctx, teacher.source)
    else:
        make(ctx, teacher)


def make(ctx: StepContext, teacher: TeacherParams) -> None:
    """One teacher, or one member of an ensemble, in ctx.out."""
    if isinstance(teacher.source, WeightsTeacher):
        _from_weights(ctx, teacher, teacher.source)
    elif isinstance(teacher.source, MlflowTeacher):
        _from_registry(ctx)
    elif isinstance(teacher.source, BuilderTeacher):
        _from_builder(ctx, teacher)
    elif isinstance(teacher.source, BlackBoxTeacher):
        importlib.import_module(BLACK_BOX).make(ctx, teacher.source)
    else:
        _trained(ctx, teacher)


def _trained(ctx: StepContext, teacher: TeacherParams) -> None:
    from components.data.packed import open_packed
    from components.data.training_set import teachers_set

    fitting.fit(
        ctx,
        title="teacher"
        if teacher is ctx.params.teacher
        else f"{teacher.model.name} of the ensemble, seed {teacher.seed}",
        model=teacher.model,
        train=teacher.train,
        views=teacher.views,
        seed=teacher.seed,
        taught=teachers_set(open_packed(ctx.inputs["data"])),
    )


def _from_weights(ctx: StepContext, teacher: TeacherParams, source: WeightsTeacher) -> None:
    from components.data.packed import open_packed
    from components.saved_models import save_model
    from components.teachers import weights_file, weights_module

    data = open_packed(ctx.inputs["data"])
    model = teacher.model
    spec = fitting.with_learned(model, data)
    module = weights_module(weights_file(source), ctx.resolved.facts["weights_sha256"], model, spec)
    save_model(ctx.out, module, model, spec)
    write_json(ctx.out / fitting.HISTORY, [])
    fitting.write_metrics(ctx, module, data)


def _from_registry(ctx: StepContext) -> None:
    from components.data.packed import open_packed
    from components.saved_models import load_program
    from components.teachers import fetch_program

    data = open_packed(ctx.inputs["data"])
    fetch_program(ctx.out, ctx.resolved.notes["teacher_uri"], ctx.settings, data.spec)
    write_json(ctx.out / fitting.HISTORY, [])
    fitting.write_metrics(ctx, load_program(ctx.out), data)


def _from_builder(ctx: StepContext, teacher: TeacherParams) -> None:
    """The module as the function returns it."""
    from components.data.packed import open_packed
    from components.saved_models import save_model

    data = open_packed(ctx.inputs["data"])
    spec = fitting.with_learned(teacher.model, data)
    module = teacher.model.build(spec).eval()
    save_model(ctx.out, module, teacher.model, spec)
    write_json(ctx.out / fitting.HISTORY, [])
    fitting.write_metrics(ctx, module, data)


def _check(teacher: Artifact, params: Params) -> None:
    """TeacherRefusedError below the floor; a cached teacher is asked again, since the floor may have moved."""
    reached = teacher.read_json(fitting.METRICS)
    better = directions(params.workload.build())
    missed = [
        f"the teacher's validation {name} is {_shown(reached.get(name))} and teacher.floor.{name} asks for {bound:g}"
        for name, bound in params.teacher.floor.items()
        if not _reaches(reached.get(name), bound, better[name])
    ]
    if missed:
        raise TeacherRefusedError(
            f"{'; '.join(missed)}: a poor teacher passes poor knowledge on. Train it longer (teacher.train.epochs), "
            "make it larger (teacher.model), name another (teacher.source), or move the floor"
        )


def _reaches(value: float | None, bound: float, better: Direction) -> bool:
    """Whether *value* is as good as *bound*; what was not measured is not."""
    return value is not None and (value >= bound if better == "higher" else value <= bound)


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


STEP = Step(
    name="teacher",
    title="train the teacher",
    inputs=("data",),
    reads=_reads,
    run=_run,
    libraries=fitting.LIBRARIES,
    plugins=_plugins,
    resolve=_resolve,
    check=_check,
)
