"""What the steps that train have in common: data in, a model artifact out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import sha256_of, write_json
from components.contracts import DataSpec, ModelParams, Progress, Remembers
from components.params import Params, TrainParams, ViewParams
from components.steps.lesson import Lesson
from components.steps.teacher_code import modules_of
from components.training.history import learnt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from components.data.packed import PackedData
    from components.data.training_set import TrainingSet
    from components.steps.step import StepContext
    from components.training.judge import Judge
    from components.views import ViewBank

METRICS = "metrics.json"
HISTORY = "history.json"
LIBRARIES = ("numpy", "safetensors", "torch")
REMEMBERED_AT_ONCE = 512
# In fewer a model may have only begun; from here on a loss that never fell is a collapse.
EPOCHS_TO_LEARN = 4


def fit(
    ctx: StepContext,
    *,
    title: str,
    model: ModelParams,
    train: TrainParams,
    views: ViewParams,
    seed: int,
    taught: TrainingSet,
    teach: Callable[[nn.Module], Lesson] | None = None,
    check_views: Callable[[ViewBank], None] | None = None,
) -> None:
    """Train *model* on *taught*; leaves weights, model.json, history.json and metrics.json (validation) in ctx.out.

    *teach* says what the module that was built learns from a teacher; *check_views* may refuse what is about to be seen.
    """
    import torch

    from components.artifacts.fingerprint import device_name
    from components.data.packed import open_packed
    from components.saved_models import save_model
    from components.steps.banks import training_bank
    from components.training.loop import train as run_loop
    from components.training.reproducible import initialised

    data = open_packed(ctx.inputs["data"])
    device = torch.device(device_name(ctx.settings))
    spec = with_learned(model, data)
    module = initialised(model, spec, seed=seed)
    bank = training_bank(
        data, taught.rows, views, device=device, limit_bytes=ctx.settings.view_bank_bytes, folds=taught.folds
    )
    if check_views:
        check_views(bank)
    if isinstance(module, Remembers):
        _remember(module.to(device), bank, taught.rows, views.count, ctx.progress)
    lesson = teach(module) if teach else Lesson()
    result = run_loop(
        model=module,
        samples=data.samples,
        labels=taught.labels,
        train_rows=taught.rows,
        num_drawn=taught.num_drawn,
        validation_rows=data.rows("validation"),
        workload=ctx.params.workload_for(data.spec),
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
    save_model(ctx.out, module, model, spec)
    write_json(ctx.out / HISTORY, list(result.history))
    found = write_metrics(ctx, module, data)
    if len(result.history) >= EPOCHS_TO_LEARN and not learnt(result.history):
        _judge(ctx, data).refuse_a_constant(found, data.spec.num_outputs)


def with_learned(model: ModelParams, data: PackedData) -> DataSpec:
    """What *model* is built for: the data, and what it learns of the training samples before."""
    if type(model).learn is ModelParams.learn:
        # Rows of a memory map are copied when they are taken, and most models would not look at them.
        return data.spec
    return replace(data.spec, learned=model.learn(data.samples[data.rows("train")]))


def _remember(module: Remembers, bank: ViewBank, rows: NDArray[np.int64], num_views: int, progress: Progress) -> None:
    """Let *module* compute ahead, for every view, what training does not change."""
    import torch

    progress.start("what training will not change", total=num_views * len(rows))
    for view in range(num_views):
        for start in range(0, len(rows), REMEMBERED_AT_ONCE):
            module.remember(bank.batch(torch.from_numpy(rows[start : start + REMEMBERED_AT_ONCE]), view))
            progress.advance(view * len(rows) + min(start + REMEMBERED_AT_ONCE, len(rows)))
            progress.check()


def write_metrics(ctx: StepContext, module: nn.Module, data: PackedData) -> Mapping[str, float]:
    """metrics.json: the loss and the workload's metrics of *module* on the validation split."""
    found = _judge(ctx, data).measure(module)
    write_json(ctx.out / METRICS, found)
    return found


def _judge(ctx: StepContext, data: PackedData) -> Judge:
    import numpy as np

    from components.training.judge import Judge

    return Judge(data.samples, np.asarray(data.labels), data.rows("validation"), ctx.params.workload_for(data.spec))


def read_by_training(
    params: Params, model: ModelParams, train: TrainParams, views: ViewParams, seed: int
) -> Mapping[str, Any]:
    """The parameters that decide what a training leaves; how often it is saved on the way does not."""
    return {
        "workload": params.workload.model_dump(mode="json"),
        **read_of(model),
        "train": train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "views": views.model_dump(mode="json"),
        "seed": seed,
    }


def read_of(model: ModelParams) -> Mapping[str, Any]:
    """What decides the model itself: its parameters, and what is in the files that it reads."""
    contents = {name: sha256_of(path) for name, path in model.files().items()}
    read = {"model": model.model_dump(mode="json", exclude=set(model.located))}
    return {**read, "model_files": contents} if contents else read


def training_plugins(params: Params, model: ModelParams, views: ViewParams) -> Sequence[str]:
    """Modules of the plugin files that a training uses."""
    return (
        plugins.module_name("workloads", params.workload.name),
        *modules_of(model),
        *(plugins.module_name("transforms", transform.name) for transform in views.transforms),
    )
