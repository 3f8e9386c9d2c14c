"""A teacher for each fold, trained without it, to speak about the samples that it has not seen; none for one fold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact, write_json
from components.params import Params
from components.steps import fitting
from components.steps.finished import once
from components.steps.speakers import FOLD_MAP, FOLDS, teacher_of
from components.steps.step import Step, StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.data.packed import PackedData


def _reads(params: Params) -> Mapping[str, Any]:
    teacher = params.teacher
    if teacher.folds == 1:
        return {"folds": 1}
    read = fitting.read_by_training(params, teacher.model, teacher.train, teacher.views, teacher.seed)
    return {"folds": teacher.folds, **read}


def _plugins(params: Params) -> Sequence[str]:
    if params.teacher.folds == 1:
        return ()
    return fitting.training_plugins(params, params.teacher.model, params.teacher.views)


def _run(ctx: StepContext) -> None:
    """Fill ctx.out with folds.json, metrics.json, and for more than one fold folds.npy and a folder for each teacher."""
    count = ctx.params.teacher.folds
    write_json(ctx.out / FOLDS, {"count": count})
    if count == 1:
        write_json(ctx.out / fitting.METRICS, {})
        return
    _train(ctx, count)


def _train(ctx: StepContext, count: int) -> None:
    import numpy as np

    from components.data.folds import fold_map
    from components.data.packed import open_packed

    data = open_packed(ctx.inputs["data"])
    folds = fold_map(data, count)
    np.save(ctx.out / FOLD_MAP, folds)
    for fold in range(count):
        _train_one(ctx, data, folds, fold)
    write_json(ctx.out / fitting.METRICS, _out_of_fold(ctx, data, folds, count))


def _train_one(ctx: StepContext, data: PackedData, folds: NDArray[np.int64], fold: int) -> None:
    from components.data.folds import without_fold

    teacher = ctx.params.teacher

    def make(out: Path, work: Path) -> None:
        fitting.fit(
            replace(ctx, out=out, work=work),
            title=f"teacher without fold {fold + 1} of {teacher.folds}",
            model=teacher.model,
            train=teacher.train,
            views=teacher.views,
            seed=teacher.seed,
            taught=without_fold(data, folds, fold),
        )

    shutil.copytree(once(ctx.work / f"fold-{fold}", make), ctx.out / f"teacher-{fold}")


def _out_of_fold(ctx: StepContext, data: PackedData, folds: NDArray[np.int64], count: int) -> dict[str, Any]:
    """Metrics on the training samples, each judged by the teacher that has not seen it."""
    import numpy as np

    from components.evaluation.predict import predict_logits
    from components.saved_models import load_model

    rows = [np.flatnonzero(folds == fold) for fold in range(count)]
    within = Artifact("fold_teachers", "", "", ctx.out)
    said = [predict_logits(load_model(teacher_of(within, fold)), data.samples, rows[fold]) for fold in range(count)]
    labels = np.asarray(data.labels)[np.concatenate(rows)]
    found = ctx.params.workload.build().metrics(np.concatenate(said), labels)
    return {"out_of_fold": {name: float(value) for name, value in found.items()}}


STEP = Step(
    name="fold_teachers",
    title="train a teacher for each fold",
    inputs=("data",),
    reads=_reads,
    run=_run,
    libraries=fitting.LIBRARIES,
    plugins=_plugins,
    idle=lambda params: params.teacher.folds == 1,
)
