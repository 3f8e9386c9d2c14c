"""The student, taught by the soft targets of the very views it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from components import plugins
from components.params import Params
from components.steps import fitting
from components.steps.lesson import FEATURES, Lesson, make_lesson
from components.steps.speakers import fold_digest
from components.steps.step import Step, StepContext
from components.steps.teacher_code import forward_modules
from components.steps.training_rows import as_resolved, resolve_student, students_set

if TYPE_CHECKING:
    from torch import nn

    from components.contracts import DataSpec
    from components.data.training_set import TrainingSet
    from components.soft_targets.reader import SoftTargets
    from components.views import ViewBank


def _reads(params: Params) -> Mapping[str, Any]:
    student = params.student
    live = {"live_precision": student.live_precision} if FEATURES in student.objective.needs else {}
    return {
        **fitting.read_by_training(params, student.model, student.train, student.views, student.seed),
        "objective": student.objective.model_dump(mode="json"),
        "allow_mismatched_views": student.allow_mismatched_views,
        **live,
    }


def _plugins(params: Params) -> Sequence[str]:
    """Of the student's training, its objective, and the teacher's forward pass where it runs live."""
    student = params.student
    objectives = (plugins.module_name("objectives", name) for name in student.objective.plugin_names())
    live = FEATURES in student.objective.needs
    teacher = forward_modules(params) if live else ()
    return (*fitting.training_plugins(params, student.model, student.views), *objectives, *teacher)


def _run(ctx: StepContext) -> None:
    student = ctx.params.student
    taught = as_resolved(students_set(ctx.inputs["data"], ctx.params), ctx)
    fitting.fit(
        ctx,
        title="student",
        model=student.model,
        train=student.train,
        views=student.views,
        seed=student.seed,
        taught=taught,
        teach=partial(_lesson, ctx, taught),
        check_views=None if student.allow_mismatched_views else partial(_refuse_other_pixels, ctx),
    )


def _lesson(ctx: StepContext, taught: TrainingSet, module: nn.Module) -> Lesson:
    from components.data.packed import open_packed

    data = open_packed(ctx.inputs["data"])
    return make_lesson(
        module,
        _live_teacher(ctx),
        _soft_targets(ctx, data.spec),
        data=data,
        taught=taught,
        params=ctx.params.student,
    )


def _live_teacher(ctx: StepContext) -> nn.Module | None:
    """Loaded only for what soft targets do not hold, and said, since it costs a forward pass a step."""
    if FEATURES not in ctx.params.student.objective.needs:
        return None
    import torch

    from components.artifacts.fingerprint import device_name
    from components.saved_models import load_model

    ctx.progress.say(_notice(ctx.params))
    return load_model(ctx.inputs["teacher"]).to(torch.device(device_name(ctx.settings)))


def _notice(params: Params) -> str:
    student = params.student
    if FEATURES not in student.objective.needs:
        return ""
    return (
        f"objective {student.objective.name} needs the teacher's features: "
        f"it runs live beside the student, in {student.live_precision}"
    )


def _soft_targets(ctx: StepContext, spec: DataSpec) -> SoftTargets:
    """SoftTargetsRefusedError where they are of another teacher, of other data, or of other views than the student's."""
    from components.soft_targets.header import Identity
    from components.soft_targets.reader import SoftTargets

    student, found = ctx.params.student, SoftTargets.open(ctx.inputs["soft_targets"])
    wanted = Identity(
        teacher_digest=ctx.inputs["teacher"].digest,
        fold_teachers_digest=fold_digest(ctx.inputs),
        data_digest=ctx.inputs["data"].digest,
        view_spec=student.views.model_dump(mode="json"),
        class_names=spec.output_names,
        labels=spec.label_kind,
    )
    found.matches(wanted, allow_mismatched_views=student.allow_mismatched_views)
    return found


def _refuse_other_pixels(ctx: StepContext, bank: ViewBank) -> None:
    """SoftTargetsRefusedError where the student would see other pixels than the teacher was asked about."""
    from components.data.packed import open_packed
    from components.soft_targets.pixels import VIEW_PIXELS, refuse_other_pixels

    # Another teacher or other folds would show in the pixels too, and nobody would know why.
    _soft_targets(ctx, open_packed(ctx.inputs["data"]).spec)
    refuse_other_pixels(bank, ctx.inputs["soft_targets"].read_json(VIEW_PIXELS))


STEP = Step(
    name="student",
    title="train the student",
    inputs=("data", "teacher", "fold_teachers", "soft_targets"),
    reads=_reads,
    run=_run,
    libraries=fitting.LIBRARIES,
    plugins=_plugins,
    resolve=resolve_student,
    notice=_notice,
)
