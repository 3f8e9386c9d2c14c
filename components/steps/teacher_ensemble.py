"""Several teachers in one artifact, and how their answers are combined."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import Artifact, write_json
from components.contracts import Resolved
from components.errors import BadInputError
from components.params import EnsembleTeacher, TeacherParams
from components.steps import fitting
from components.steps.finished import once
from components.steps.step import StepContext

if TYPE_CHECKING:
    from components.data.packed import PackedData


def make(ctx: StepContext, source: EnsembleTeacher) -> None:
    """A folder for each member, and how they are combined; a member that is finished survives a kill."""
    from components.data.packed import open_packed
    from components.saved_models import ensemble_description, load_model, within

    names = [_member(ctx, index, member) for index, member in enumerate(ctx.params.teacher.members)]
    made = Artifact("teacher", "", "", ctx.out)
    data = open_packed(ctx.inputs["data"])
    weights = _fitted_weights(data, [within(made, name) for name in names]) if source.combine == "weighted" else None
    ensemble_description(ctx.out, names, combine=source.combine, weights=weights)
    write_json(ctx.out / fitting.HISTORY, [])
    fitting.write_metrics(ctx, load_model(made), data)


def _member(ctx: StepContext, index: int, member: TeacherParams) -> str:
    """The name of the folder that it is in."""
    from components.steps.teacher import make as make_teacher

    name = f"member-{index}"
    resolved = Resolved(ctx.resolved.facts["members"][index], ctx.resolved.notes["members"][index])

    def fill(out: Path, work: Path) -> None:
        make_teacher(replace(ctx, out=out, work=work, resolved=resolved), member)

    shutil.copytree(once(ctx.work / name, fill), ctx.out / name)
    return name


def _fitted_weights(data: PackedData, members: Sequence[Artifact]) -> list[float]:
    """By what each member says of the labelled validation samples; BadInputError where there are none."""
    import numpy as np

    from components.evaluation.metrics import log_softmax
    from components.evaluation.predict import predict_logits
    from components.models._ensemble import fit_weights
    from components.saved_models import load_model

    rows = data.labelled_rows("validation")
    if not len(rows):
        raise BadInputError("teacher.source.combine weighted needs labelled validation samples, and there are none")
    labels = np.asarray(data.labels)[rows]
    said = (log_softmax(predict_logits(load_model(member), data.samples, rows)) for member in members)
    return fit_weights(np.stack([log_p[np.arange(len(rows)), labels] for log_p in said]))
