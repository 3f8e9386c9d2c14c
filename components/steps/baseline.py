"""The student's control: same architecture, seed, views and number of steps, but hard labels only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.params import Params
from components.steps import fitting
from components.steps.step import Step, StepContext
from components.steps.training_rows import as_resolved, hard_label_set, resolve_hard_labels


def _reads(params: Params) -> Mapping[str, Any]:
    student = params.student
    return fitting.read_by_training(params, student.model, student.train, student.views, student.seed)


def _plugins(params: Params) -> Sequence[str]:
    return fitting.training_plugins(params, params.student.model, params.student.views)


def _run(ctx: StepContext) -> None:
    student = ctx.params.student
    fitting.fit(
        ctx,
        title="hard-label student",
        model=student.model,
        train=student.train,
        views=student.views,
        seed=student.seed,
        taught=as_resolved(hard_label_set(ctx.inputs["data"], ctx.params), ctx),
    )


STEP = Step(
    name="baseline",
    title="train the student on hard labels",
    inputs=("data",),
    reads=_reads,
    run=_run,
    libraries=fitting.LIBRARIES,
    plugins=_plugins,
    resolve=resolve_hard_labels,
)
