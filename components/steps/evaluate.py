"""Measure teacher, hard-label student and distilled student on the test split: the only step that reads it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import MEASURED, write_json
from components.params import Params
from components.steps.step import Step, StepContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.contracts import DataSpec
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
    write_json(ctx.out / "metrics.json", _metrics(ctx.params, data.spec, holdout, logits, costs))
    _write_tables(ctx.out, ctx.params, data.spec, holdout, logits)
    write_json(ctx.out / MEASURED / "latency.json", latency)


def _measure(
    ctx: StepContext, arm: str, samples: NDArray[np.uint8], holdout: Holdout
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


def _metrics(
    params: Params,
    spec: DataSpec,
    holdout: Holdout,
    logits: Mapping[str, NDArray[np.float32]],
    costs: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    from components.evaluation.scores import compare, score

    arms = {arm: {**score(logits[arm], holdout.labels, logits["teacher"], params), **costs[arm]} for arm in ARMS}
    differences = {
        name: compare(logits[first], logits[second], holdout.labels, params)
        for name, (first, second) in DIFFERENCES.items()
    }
    return {
        **arms,
        "differences": differences,
        "holdout": {"digest": holdout.digest, "num_rows": len(holdout.labels)},
        "per_class": _per_class(spec, holdout, logits),
        "confidence": params.evaluate.confidence,
    }


def _per_class(spec: DataSpec, holdout: Holdout, logits: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    """In label order: name, test rows, and each arm's accuracy on them (null for a class without rows)."""
    from components.evaluation.metrics import confusion_matrix, per_class_accuracy

    confusions = {arm: confusion_matrix(logits[arm], holdout.labels) for arm in ARMS}
    rows = confusions["teacher"].sum(axis=1)
    shares = {arm: per_class_accuracy(confusions[arm]) for arm in ARMS}
    return [
        {
            "class_name": name,
            "num_rows": int(rows[label]),
            **{arm: float(shares[arm][label]) if rows[label] else None for arm in ARMS},
        }
        for label, name in enumerate(spec.class_names)
    ]


def _write_predictions(out: Path, logits: Mapping[str, NDArray[np.float32]], holdout: Holdout) -> None:
    import numpy as np

    for arm in ARMS:
        np.save(out / f"logits_{arm}.npy", logits[arm])
    np.save(out / "test_rows.npy", holdout.rows)
    np.save(out / "labels.npy", holdout.labels)


def _write_tables(
    out: Path, params: Params, spec: DataSpec, holdout: Holdout, logits: Mapping[str, NDArray[np.float32]]
) -> None:
    """Long-form CSV, which `dvc plots` reads: one row a test sample, one row an arm and confidence bin."""
    predicted = logits["student"].argmax(axis=1)
    pairs = ((spec.class_names[y], spec.class_names[p]) for y, p in zip(holdout.labels, predicted, strict=True))
    _write_csv(out / "confusion.csv", ("class", "predicted"), pairs)
    _write_csv(
        out / "reliability.csv",
        ("arm", "bin_low", "bin_high", "num_rows", "confidence", "accuracy"),
        (row for arm in ARMS for row in _bin_rows(arm, logits[arm], holdout, params)),
    )


def _bin_rows(
    arm: str, logits: NDArray[np.float32], holdout: Holdout, params: Params
) -> Iterable[Sequence[str | float]]:
    from components.evaluation.metrics import reliability_bins

    found = reliability_bins(logits, holdout.labels, bins=params.evaluate.calibration_bins)
    columns = (found.lower, found.upper, found.count, found.confidence, found.accuracy)
    return ((arm, *row) for row in zip(*(column.tolist() for column in columns), strict=True) if row[2])


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _reads(params: Params) -> Mapping[str, Any]:
    return {
        "evaluate": params.evaluate.model_dump(mode="json"),
        "workload": params.workload.model_dump(mode="json"),
    }


def _plugins(params: Params) -> Sequence[str]:
    """The workload's metrics, and the models' forward passes, which weights alone do not fix."""
    return (
        plugins.module_name("workloads", params.workload.name),
        plugins.module_name("models", params.teacher.model.name),
        plugins.module_name("models", params.student.model.name),
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
