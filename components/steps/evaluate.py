"""Measure teacher, hard-label student and distilled student on the test split: the only step that reads it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import MEASURED, write_json
from components.params import Params
from components.steps.step import Step, StepContext
from components.steps.teacher_code import forward_modules, modules_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.contracts import DataSpec, Table, Workload
    from components.evaluation.holdout import Holdout

ARMS = ("teacher", "baseline", "student")
DIFFERENCES = {"student_minus_baseline": ("student", "baseline"), "student_minus_teacher": ("student", "teacher")}


def run(ctx: StepContext) -> None:
    """Fill ctx.out with metrics.json, every arm's logits, the tables of the plots, and measured/latency.json."""
    from components.data.packed import open_packed
    from components.evaluation.holdout import holdout_of

    data = open_packed(ctx.inputs["data"])
    holdout = holdout_of(data)
    logits, costs, latency = {}, {}, {}
    ctx.progress.start("evaluate", total=len(ARMS))
    for done, arm in enumerate(ARMS, start=1):
        logits[arm], costs[arm], latency[arm] = _measure(ctx, arm, data.samples, holdout)
        ctx.progress.advance(done)
    _write_predictions(ctx.out, logits, holdout)
    write_results(ctx.out, ctx.params, data.spec, holdout, logits=logits, costs=costs)
    write_json(ctx.out / MEASURED / "latency.json", latency)


def _measure(
    ctx: StepContext, arm: str, samples: NDArray[Any], holdout: Holdout
) -> tuple[NDArray[np.float32], dict[str, int], dict[str, Any]]:
    """Logits, size and latency of one arm; its weights leave memory before the next arm's are read."""
    import torch

    from components.artifacts.fingerprint import device_name
    from components.evaluation.cost import measure_latency, num_parameters, weight_bytes
    from components.evaluation.predict import predict_logits
    from components.saved_models import load_model

    artifact, chosen = ctx.inputs[arm], ctx.params.evaluate
    module = load_model(artifact).to(torch.device(device_name(ctx.settings)))
    logits = predict_logits(module, samples, holdout.rows, progress=ctx.progress)
    latency = measure_latency(module, samples[holdout.rows[:1]], chosen.latency_batches, chosen.latency_repeats)
    return logits, {"num_parameters": num_parameters(module), "weight_bytes": weight_bytes(artifact)}, latency


def write_results(
    out: Path,
    params: Params,
    spec: DataSpec,
    holdout: Holdout,
    *,
    logits: Mapping[str, NDArray[np.float32]],
    costs: Mapping[str, Mapping[str, int]],
) -> None:
    """metrics.json, and the workload's tables as long-form CSV, which `dvc plots` reads."""
    workload = params.workload_for(spec)
    details = workload.details(logits, holdout.labels, spec)
    write_json(out / "metrics.json", {**_metrics(params, workload, holdout, logits, costs), **details.figures})
    for name, table in details.tables.items():
        _write_csv(out / f"{name}.csv", table)


def _metrics(
    params: Params,
    workload: Workload,
    holdout: Holdout,
    logits: Mapping[str, NDArray[np.float32]],
    costs: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    from components.evaluation.scores import compare, score

    labels, chosen = holdout.labels, params.evaluate
    arms = {arm: {**score(workload, logits[arm], labels, logits["teacher"], chosen), **costs[arm]} for arm in ARMS}
    differences = {
        name: compare(workload, logits[first], logits[second], labels, chosen)
        for name, (first, second) in DIFFERENCES.items()
    }
    return {
        **arms,
        "differences": differences,
        "holdout": {"digest": holdout.digest, "num_rows": len(labels)},
        "confidence": chosen.confidence,
        "primary": {
            "metric": workload.primary_metric,
            "better": workload.measures[workload.primary_metric].better,
        },
    }


def _write_predictions(out: Path, logits: Mapping[str, NDArray[np.float32]], holdout: Holdout) -> None:
    import numpy as np

    for arm in ARMS:
        np.save(out / f"logits_{arm}.npy", logits[arm])
    np.save(out / "test_rows.npy", holdout.rows)
    np.save(out / "labels.npy", holdout.labels)


def _write_csv(path: Path, table: Table) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def _reads(params: Params) -> Mapping[str, Any]:
    return {
        "evaluate": params.evaluate.model_dump(mode="json"),
        "workload": params.workload.model_dump(mode="json"),
    }


def _plugins(params: Params) -> Sequence[str]:
    """The workload's metrics, and the models' forward passes, which weights alone do not fix."""
    return (
        plugins.module_name("workloads", params.workload.name),
        *forward_modules(params),
        *modules_of(params.student.model),
    )


STEP = Step(
    name="evaluate",
    title="measure all arms on the test split",
    inputs=("data", *ARMS),
    reads=_reads,
    run=run,
    libraries=("numpy", "torch"),
    plugins=_plugins,
)
