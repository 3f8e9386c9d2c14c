"""Whether soft targets may be learnt from, judged by Great Expectations once for each result and each set of bounds.

It computes no part of the result and is in no key of it, so that its code and bounds may change without asking the
teacher again. The verdict is a record of its own in the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.errors import SoftTargetsRefusedError
from components.soft_targets.header import QUALITY, QUALITY_ROWS
from components.steps.step import World
from components.validation.report import RESULT, ValidationReport, load_report

if TYPE_CHECKING:
    from components.params import SoftTargetParams
    from components.validation.gx import Inspection

KIND = "soft_targets_checks"
DOCS = "data_docs"
BOUNDS = frozenset({"max_kl", "max_relative_error", "min_entropy_nats", "max_entropy_share"})
VERSION = 2
"""Of the expectations; another one judges anew."""


def judge(artifact: Artifact, world: World) -> None:
    """SoftTargetsRefusedError where the stored rows are not fit to learn from; the verdict is kept either way."""
    params = world.params.soft_targets
    fields = {
        "digest": artifact.digest,
        "bounds": params.model_dump(mode="json", include=set(BOUNDS)),
        "version": VERSION,
    }
    key = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    verdict = world.store.find(KIND, key)
    if verdict is None:
        verdict = world.store.commit(KIND, key, fields, lambda out: _inspect(artifact, params, out))
    report = load_report(verdict)
    if not report.success:
        raise SoftTargetsRefusedError(_refusal(report, artifact, params, verdict.measured(DOCS) / "index.html"))


def _inspect(artifact: Artifact, params: SoftTargetParams, out: Path) -> None:
    """The report, and Data Docs if a check failed: they take a second, and nobody opens them otherwise."""
    from components.validation.gx import validate_tables

    inspections = list(_inspections(artifact, params))
    report = validate_tables(inspections, docs_dir=None)
    if not report.success:
        report = validate_tables(inspections, docs_dir=out / MEASURED / DOCS)
    write_json(out / RESULT, report.as_json())


def _inspections(artifact: Artifact, params: SoftTargetParams) -> Iterator[Inspection]:
    import pandas as pd

    from components.soft_targets.verdict import row_expectations, summary, summary_expectations
    from components.validation.gx import Inspection

    figures, rows = artifact.read_json(QUALITY), artifact.read_json(QUALITY_ROWS)
    judged = summary_expectations(figures, rows, params)
    yield Inspection("soft_targets", pd.DataFrame(summary(figures)), judged, row_name="")
    if rows:
        yield Inspection("rows", pd.DataFrame(rows), row_expectations(figures, list(rows)), row_name="row")


def _refusal(report: ValidationReport, artifact: Artifact, params: SoftTargetParams, docs: Path) -> str:
    from components.soft_targets.verdict import explanations

    meant = list(explanations(artifact.read_json(QUALITY), artifact.read_json(QUALITY_ROWS), params)) or [
        failure.line for failure in report.critical
    ]
    lines = "\n".join(f"  {line}" for line in meant)
    return f"soft targets refused:\n{lines}\nData Docs: {docs}"
