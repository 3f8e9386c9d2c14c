"""The teacher: trained here, or brought from a registry or a file, and held to its own floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components import plugins
from components.artifacts.artifact import Artifact, write_json
from components.contracts import Direction, Resolved, directions
from components.errors import TeacherRefusedError
from components.params import MlflowTeacher, Params, WeightsTeacher
from components.steps import fitting
from components.steps.step import Step, StepContext, World


def _reads(params: Params) -> Mapping[str, Any]:
    teacher = params.teacher
    if isinstance(teacher.source, MlflowTeacher):
        return {"source": "mlflow", "workload": params.workload.model_dump(mode="json")}
    if isinstance(teacher.source, WeightsTeacher):
        return {
            "source": "weights",
            "workload": params.workload.model_dump(mode="json"),
            **fitting.read_of(teacher.model),
        }
    read = fitting.read_by_training(params, teacher.model, teacher.train, teacher.views, teacher.seed)
    return {"source": "train", **read}


def _plugins(params: Params) -> Sequence[str]:
    if isinstance(params.teacher.source, MlflowTeacher):
        return (plugins.module_name("workloads", params.workload.name),)
    return fitting.training_plugins(params, params.teacher.model, params.teacher.views)


def _resolve(world: World) -> Resolved:
    from components.teachers import resolve_teacher

    return resolve_teacher(world.params.teacher.source, world.settings)


def _run(ctx: StepContext) -> None:
    teacher = ctx.params.teacher
    if isinstance(teacher.source, WeightsTeacher):
        _from_weights(ctx, teacher.source)
    elif isinstance(teacher.source, MlflowTeacher):
        _from_registry(ctx)
    else:
        _trained(ctx)


def _trained(ctx: StepContext) -> None:
    from components.data.packed import open_packed
    from components.data.training_set import teachers_set

    teacher = ctx.params.teacher
    fitting.fit(
        ctx,
        title="teacher",
        model=teacher.model,
        train=teacher.train,
        views=teacher.views,
        seed=teacher.seed,
        taught=teachers_set(open_packed(ctx.inputs["data"])),
    )


def _from_weights(ctx: StepContext, source: WeightsTeacher) -> None:
    from components.data.packed import open_packed
    from components.saved_models import save_model
    from components.teachers import weights_file, weights_module

    data = open_packed(ctx.inputs["data"])
    model = ctx.params.teacher.model
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
