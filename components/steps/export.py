"""Write the student in a form that needs none of this code, and hold it against the live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components import plugins
from components.artifacts.artifact import write_json
from components.params import Params
from components.steps.step import Step, StepContext

PARITY_BATCHES = (1, 2, 7, 64)


def run(ctx: StepContext) -> None:
    """Fill ctx.out with student.pt2 and parity.json; raises ExportError when the two disagree."""
    from components.data.packed import open_packed
    from components.export.torch_export import export, load
    from components.programs import demand_parity, largest_difference
    from components.saved_models import load_model

    data = open_packed(ctx.inputs["data"])
    student = load_model(ctx.inputs["student"])
    ctx.progress.start("export", total=2)
    path = export(student, tuple(data.spec.sample_shape), ctx.out, sample_dtype=data.spec.sample_dtype)
    ctx.progress.advance(1)
    samples = data.samples[data.rows("train")[: max(PARITY_BATCHES)]]
    difference = largest_difference(student, load(path), samples, PARITY_BATCHES)
    demand_parity(difference, f"the exported student ({path.name})")
    write_json(ctx.out / "parity.json", {"max_abs_diff": difference, "batch_sizes": PARITY_BATCHES})
    ctx.progress.advance(2)


def _reads(_: Params) -> Mapping[str, Any]:
    return {}


def _plugins(params: Params) -> Sequence[str]:
    """The model's forward pass, which weights alone do not fix."""
    return (plugins.module_name("models", params.student.model.name),)


STEP = Step(
    name="export",
    title="export the student",
    inputs=("student", "data"),
    reads=_reads,
    run=run,
    libraries=("torch",),
    plugins=_plugins,
)
