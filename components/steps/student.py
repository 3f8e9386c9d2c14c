"""The student, taught by the soft targets of the very views it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from components import plugins
from components.params import Params
from components.steps import fitting
from components.steps.step import Step, StepContext

if TYPE_CHECKING:
    from components.contracts import DataSpec
    from components.soft_targets.reader import SoftTargets
    from components.views import ViewBank


def _reads(params: Params) -> Mapping[str, Any]:
    student = params.student
    return {
        **fitting.read_by_training(params, student.model, student.train, student.views, student.seed),
        "objective": student.objective.model_dump(mode="json"),
        "allow_mismatched_views": student.allow_mismatched_views,
    }


def _plugins(params: Params) -> Sequence[str]:
    student = params.student
    objective = plugins.module_name("objectives", student.objective.name)
    return (*fitting.training_plugins(params, student.model, student.views), objective)


def _run(ctx: StepContext) -> None:
    from components.data.packed import open_packed

    student, spec = ctx.params.student, open_packed(ctx.inputs["data"]).spec
    fitting.fit(
        ctx,
        title="student",
        model=student.model,
        train=student.train,
        views=student.views,
        seed=student.seed,
        objective=student.objective.build(spec),
        targets=_soft_targets(ctx, spec),
        check_views=None if student.allow_mismatched_views else partial(_refuse_other_pixels, ctx),
    )


def _soft_targets(ctx: StepContext, spec: DataSpec) -> SoftTargets:
    """SoftTargetsRefusedError where they are of another teacher, of other data, or of other views than the student's."""
    from components.soft_targets.header import Identity
    from components.soft_targets.reader import SoftTargets

    student, found = ctx.params.student, SoftTargets.open(ctx.inputs["soft_targets"])
    wanted = Identity(
        teacher_digest=ctx.inputs["teacher"].digest,
        data_digest=ctx.inputs["data"].digest,
        view_spec=student.views.model_dump(mode="json"),
        class_names=spec.class_names,
    )
    found.matches(wanted, allow_mismatched_views=student.allow_mismatched_views)
    return found


def _refuse_other_pixels(ctx: StepContext, bank: ViewBank) -> None:
    """SoftTargetsRefusedError where the student would see other pixels than the teacher was asked about."""
    from components.soft_targets.pixels import VIEW_PIXELS, refuse_other_pixels

    refuse_other_pixels(bank, ctx.inputs["soft_targets"].read_json(VIEW_PIXELS))


STEP = Step(
    name="student",
    title="train the student",
    inputs=("data", "teacher", "soft_targets"),
    reads=_reads,
    run=_run,
    libraries=fitting.LIBRARIES,
    plugins=_plugins,
)
