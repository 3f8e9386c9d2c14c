"""What the gate may look at: the candidate, its teacher, and the champion on the very same samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact
from components.contracts import Evidence, Reason, Workload
from components.errors import BadInputError
from components.params import Params
from components.registry import RegisteredVersion, load_registered
from components.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from components.data.packed import PackedData
    from components.evaluation.holdout import Holdout

CLASS = "class"


def arm_evidence(
    artifacts: Mapping[str, Artifact], arm: str, params: Params, *, siblings: Sequence[float] = ()
) -> Evidence:
    """The student or the teacher, as `evaluate` measured it."""
    import numpy as np

    from components.data.packed import open_packed
    from components.evaluation.holdout import holdout_of

    evaluation, packed = artifacts["evaluate"], open_packed(artifacts["data"])
    measured, holdout = evaluation.read_json("metrics.json"), holdout_of(packed)
    outputs = np.load(evaluation.file(f"logits_{arm}.npy"), allow_pickle=False)
    return Evidence(
        model_digest=artifacts[arm].digest,
        holdout_digest=measured["holdout"]["digest"],
        metrics=_scores(measured[arm]),
        rows=_rows(params, params.workload_for(packed.spec), outputs, holdout),
        groups=_groups(artifacts["data"], packed, holdout, params),
        latency_ms=_latency(evaluation, arm),
        siblings=siblings,
    )


def registered_evidence(
    version: RegisteredVersion,
    data: Artifact,
    params: Params,
    settings: Settings,
    *,
    teacher: RegisteredVersion | None = None,
) -> Evidence:
    """A registered model on the holdout of *data*: measured again, since the holdout may have grown since it was registered.

    With fidelity to *teacher*, if it is given. Raises BadInputError when a model cannot take these samples.
    """
    from components.data.packed import open_packed
    from components.evaluation.holdout import holdout_of
    from components.evaluation.scores import score

    packed = open_packed(data)
    holdout, workload = holdout_of(packed), params.workload_for(packed.spec)
    module = load_registered(version.uri, settings.tracking_uri)
    outputs = _outputs(module, packed, holdout)
    said = _outputs(load_registered(teacher.uri, settings.tracking_uri), packed, holdout) if teacher else None
    size = float(sum(weight.numel() for weight in module.parameters()))
    return Evidence(
        model_digest=version.digest or version.uri,
        holdout_digest=holdout.digest,
        metrics={**_scores(score(workload, outputs, holdout.labels, said, params.evaluate)), "num_parameters": size},
        rows=_rows(params, workload, outputs, holdout),
        groups=_groups(data, packed, holdout, params),
        latency_ms=_latency_now(module, packed, holdout, params),
    )


def _outputs(module: nn.Module, packed: PackedData, holdout: Holdout) -> NDArray[np.float32]:
    from components.evaluation.predict import predict_logits

    return predict_logits(module, packed.samples, holdout.rows)


def _latency_now(
    module: nn.Module, packed: PackedData, holdout: Holdout, params: Params
) -> Mapping[int, Mapping[str, float]]:
    """Where a test of the gate asks for it: it takes seconds."""
    from components.evaluation.cost import measure_latency

    if not any(test.name == "latency" for test in params.gate.tests):
        return {}
    chosen = params.evaluate
    return _by_batch(
        measure_latency(module, packed.samples[holdout.rows[:1]], chosen.latency_batches, chosen.latency_repeats)
    )


def what_passed(artifacts: Mapping[str, Artifact]) -> tuple[Reason, ...]:
    """Lines about the gates before this one: the data and the soft targets."""
    from components.validation.report import load_report

    validation = load_report(artifacts["validate"])
    return (
        Reason("data validation", validation.success, validation.headline),
        Reason("soft targets", True, f"the soft targets {artifacts['soft_targets'].digest[:12]} passed their checks"),
    )


def _rows(params: Params, workload: Workload, outputs: NDArray[np.float32], holdout: Holdout) -> NDArray[np.float64]:
    """Of the gate's metric; none where it has no value for a single row."""
    import numpy as np

    return workload.row_scores(outputs, holdout.labels).get(params.gate.metric, np.empty(0))


def _groups(data: Artifact, packed: PackedData, holdout: Holdout, params: Params) -> Mapping[str, Sequence[str]]:
    """The class of each row of the holdout, where there are classes, and the columns that tests of the gate slice by."""
    names = packed.spec.class_names
    classes = {CLASS: [names[label] for label in holdout.labels]} if names else {}
    wanted = {test.column for test in params.gate.tests if hasattr(test, "column")} - {CLASS}
    return {**classes, **dict(_columns(data, sorted(wanted), holdout))}


def _columns(data: Artifact, wanted: Sequence[str], holdout: Holdout) -> Iterator[tuple[str, Sequence[str]]]:
    if not wanted:
        return
    import pyarrow.parquet as pq

    from components.data.packed import TABLE

    table = pq.read_table(data.file(TABLE))
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise BadInputError(
            f"gate.tests: the data has no column {', '.join(missing)} to slice by (it has: {', '.join(table.column_names)})"
        )
    for name in wanted:
        yield name, [str(value) for value in table[name].take(holdout.rows).to_pylist()]


def _latency(evaluation: Artifact, arm: str) -> Mapping[int, Mapping[str, float]]:
    path = evaluation.measured("latency.json")
    return _by_batch(json.loads(path.read_text(encoding="utf-8"))[arm]) if path.exists() else {}


def _by_batch(found: Mapping[str, Any]) -> Mapping[int, Mapping[str, float]]:
    return {
        int(size): {"p50": times["latency_p50_ms"], "p95": times["latency_p95_ms"]} for size, times in found.items()
    }


def _scores(tree: Mapping[str, Any]) -> Mapping[str, float]:
    return {name: float(value) for name, value in tree.items() if isinstance(value, int | float)}
