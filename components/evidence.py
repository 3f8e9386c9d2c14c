"""What the gate may look at: the candidate's scores, and the champion's on the very same samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.artifacts.artifact import Artifact
from components.gate import Evidence
from components.params import Params
from components.registry import RegisteredVersion, load_registered
from components.settings import Settings


def student_evidence(artifacts: Mapping[str, Artifact]) -> Evidence:
    """The candidate, as `evaluate` measured it."""
    measured = artifacts["evaluate"].read_json("metrics.json")
    return Evidence(
        model_digest=artifacts["student"].digest,
        holdout_digest=measured["holdout"]["digest"],
        metrics=_scores(measured["student"]),
    )


def champion_evidence(
    champion: RegisteredVersion, candidate: Evidence, data: Artifact, params: Params, settings: Settings
) -> Evidence:
    """The champion on the candidate's holdout: measured again, since the holdout may have grown since it won.

    Raises BadInputError when the champion cannot take these samples.
    """
    if champion.digest == candidate.model_digest:
        return candidate
    from components.data.packed import open_packed
    from components.evaluation.holdout import holdout_of
    from components.evaluation.predict import predict_logits
    from components.evaluation.scores import score

    packed = open_packed(data)
    holdout = holdout_of(packed)
    workload = params.workload_for(packed.spec)
    logits = predict_logits(load_registered(champion.uri, settings.tracking_uri), packed.samples, holdout.rows)
    return Evidence(
        model_digest=champion.digest or champion.uri,
        holdout_digest=holdout.digest,
        metrics=_scores(score(workload, logits, holdout.labels, None, params.evaluate)),
    )


def _scores(tree: Mapping[str, Any]) -> Mapping[str, float]:
    return {name: float(value) for name, value in tree.items() if isinstance(value, int | float)}
