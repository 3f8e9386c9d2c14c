"""What the steps that train have in common: data in, a model artifact out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import write_json
from components.contracts import ModelParams
from components.params import Params, TrainParams, ViewParams
from components.steps.lesson import Lesson

if TYPE_CHECKING:
    from torch import nn

    from components.data.packed import PackedData
    from components.steps.step import StepContext
    from components.views import ViewBank

METRICS = "metrics.json"
HISTORY = "history.json"
LIBRARIES = ("numpy", "safetensors", "torch")


def fit(
    ctx: StepContext,
    *,
    title: str,
    model: ModelParams,
    train: TrainParams,
    views: ViewParams,
    seed: int,
    teach: Callable[[nn.Module], Lesson] | None = None,
    check_views: Callable[[ViewBank], None] | None = None,
) -> None:
    """Train *model* and fill ctx.out: weights, model.json, history.json, and metrics.json of the validation split.

    *teach* says what the module that was built learns from a teacher; *check_views* may refuse what is about to be seen.
    """
    import numpy as np
    import torch

    from components.artifacts.fingerprint import device_name
    from components.data.packed import open_packed
    from components.saved_models import save_model
    from components.steps.banks import training_bank
    from components.training.loop import train as run_loop
    from components.training.reproducible import initialised

    data = open_packed(ctx.inputs["data"])
    device = torch.device(device_name(ctx.settings))
    module = initialised(model, data.spec, seed=seed)
    bank = training_bank(data, views, device=device, limit_bytes=ctx.settings.view_bank_bytes)
    if check_views:
        check_views(bank)
    lesson = teach(module) if teach else Lesson()
    result = run_loop(
        model=module,
        samples=data.samples,
        labels=np.array(data.labels),
        train_rows=data.rows("train"),
        validation_rows=data.rows("validation"),
        workload=ctx.params.workload.build(),
        params=train,
        seed=seed,
        views=bank,
        num_views=views.count,
        work=ctx.work,
        progress=ctx.progress,
        device=device,
        objective=lesson.objective,
        targets=lesson.targets,
        teacher=lesson.teacher,
        title=title,
    )
    save_model(ctx.out, module, model, data.spec)
    write_json(ctx.out / HISTORY, list(result.history))
    write_metrics(ctx, module, data)


def write_metrics(ctx: StepContext, module: nn.Module, data: PackedData) -> None:
    """metrics.json: the workload's metrics of *module* on the validation split."""
    import numpy as np

    from components.training.judge import Judge

    judge = Judge(data.samples, np.asarray(data.labels), data.rows("validation"), ctx.params.workload.build())
    write_json(ctx.out / METRICS, judge.measure(module))


def read_by_training(
    params: Params, model: ModelParams, train: TrainParams, views: ViewParams, seed: int
) -> Mapping[str, Any]:
    """The parameters that decide what a training leaves; how often it is saved on the way does not."""
    return {
        "workload": params.workload.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "train": train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "views": views.model_dump(mode="json"),
        "seed": seed,
    }


def training_plugins(params: Params, model: ModelParams, views: ViewParams) -> Sequence[str]:
    """Modules of the plugin files that a training uses."""
    return (
        plugins.module_name("workloads", params.workload.name),
        plugins.module_name("models", model.name),
        *(plugins.module_name("transforms", transform.name) for transform in views.transforms),
    )
