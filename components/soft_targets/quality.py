"""Figures of a teacher's soft targets: how good and how soft they are, and the store's truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from components.contracts import UNLABELLED, LabelKind, is_labelled
from components.evaluation import metrics
from components.soft_targets.codec import codec_named, decode
from components.soft_targets.error import kl_rows, measure
from components.soft_targets.teacher_pass import ask_about

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.params import SoftTargetParams
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.teacher_pass import Panel, Teacher
    from components.views import ViewBank

LIVE_ROWS = 256
PERCENTILES = (1, 5, 50, 95, 99)


def quality(
    targets: SoftTargets,
    *,
    labels: NDArray[Any],
    teacher: Teacher | Panel,
    bank: ViewBank,
    params: SoftTargetParams,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Figures on the stored rows, and columns with one value for each of LIVE_ROWS random ones; both as plain data.

    *labels* of the data set; rows without one do not count toward accuracy and calibration. *teacher* is asked
    again about the random rows. All entropies and KLs are in nats; numbers have neither.
    """
    if not all(bool(np.isfinite(logits).all()) for logits in _chunks(targets)):
        return {"finite": False}, {}
    first_view = _decoded(targets, slice(0, len(targets.rows)))
    places = _some_places(len(targets.stored), seed)
    stored, live = _decoded_at(targets, places), _asked_again(targets, teacher, bank, params, places)
    told = labels[targets.rows[places % len(targets.rows)]]
    kind = targets.header.identity.labels
    figures = {"finite": True, "live": _against_live(live, stored, params, kind)}
    if kind == "numbers":
        errors = {"labelled_rows": _errors_on_labels(first_view, labels[targets.rows])}
        return figures | errors, _rows_of_numbers(targets, places, told, live, stored)
    softness = {
        "labelled_rows": _on_labels(first_view, labels[targets.rows]),
        "entropy": _entropies(targets, (1.0, *params.temperatures)),
        "log_num_classes": float(np.log(targets.num_classes)),
    }
    return figures | softness, _rows(targets, places, told, live, stored)


def _decoded(targets: SoftTargets, part: slice) -> NDArray[np.float32]:
    return decode(codec_named(targets.header.codec), targets.stored[part].copy(), targets.num_classes)


def _chunks(targets: SoftTargets) -> Iterator[NDArray[np.float32]]:
    step = targets.header.rows_per_chunk
    for start in range(0, len(targets.stored), step):
        yield _decoded(targets, slice(start, start + step))


def _on_labels(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float | int]:
    """The teacher itself, in the first view; optimistic where it was trained on these very labels."""
    known = is_labelled(labels)
    if not known.any():
        return {"count": 0}
    logits, labels = logits[known], labels[known]
    return {
        "count": int(known.sum()),
        "accuracy": metrics.accuracy(logits, labels),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "ece": metrics.expected_calibration_error(logits, labels),
    }


def _errors_on_labels(outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float | int]:
    """The teacher itself, in the first view; optimistic where it was trained on these very labels."""
    known = is_labelled(labels)
    if not known.any():
        return {"count": 0}
    errors = outputs[known].astype(np.float64) - labels[known]
    return {
        "count": int(known.sum()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "mae": float(np.abs(errors).mean()),
    }


def _entropies(targets: SoftTargets, temperatures: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {f"{temperature:g}": _entropy(targets, temperature) for temperature in dict.fromkeys(temperatures)}


def _entropy(targets: SoftTargets, temperature: float) -> dict[str, float]:
    """Over all rows of all views: the mean and percentiles."""
    rows = np.concatenate([_entropy_rows(logits, temperature) for logits in _chunks(targets)])
    percentiles = np.percentile(rows, PERCENTILES)
    named = {f"p{percentile:02d}": float(value) for percentile, value in zip(PERCENTILES, percentiles, strict=True)}
    return {"mean": float(rows.mean()), **named}


def _entropy_rows(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    log_p = metrics.log_softmax(logits, temperature=temperature)
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1), dtype=np.float64)


def _asked_again(
    targets: SoftTargets, teacher: Teacher | Panel, bank: ViewBank, params: SoftTargetParams, places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What the teacher says now about rows at *places*, ascending; [n, C]."""
    views, samples = np.divmod(places, len(targets.rows))
    return np.concatenate(
        [
            ask_about(teacher, bank, targets.rows[samples[views == view]], int(view), params.batch_size)
            for view in np.unique(views)
        ]
    )


def _against_live(
    live: NDArray[np.float32], stored: NDArray[np.float32], params: SoftTargetParams, labels: LabelKind
) -> dict[str, Any]:
    table = measure(live, stored, params.temperatures, labels)
    lost = {f"{temperature:g}": row for temperature, row in table.items()}
    return {
        "rows": len(live),
        **({"kl": lost} if labels == "classes" else lost["1"]),
        "largest_logit_difference": float(np.abs(live - stored).max()),
    }


def _rows(
    targets: SoftTargets,
    places: NDArray[np.int64],
    told: NDArray[np.int64],
    live: NDArray[np.float32],
    stored: NDArray[np.float32],
) -> dict[str, list[Any]]:
    """Columns [n]; *told* are the labels of the rows at *places*."""
    views, samples = np.divmod(places, len(targets.rows))
    correct = [
        None if label == UNLABELLED else bool(right) for label, right in zip(told, live.argmax(1) == told, strict=True)
    ]
    kl = {f"kl_T{name}": kl_rows(live, stored, float(name)).tolist() for name in targets.header.error}
    return {
        "row": targets.rows[samples].tolist(),
        "view": views.tolist(),
        "teacher_correct": correct,
        "entropy_nats": _entropy_rows(stored, 1.0).tolist(),
        "largest_logit": np.abs(stored).max(axis=1).astype(np.float64).tolist(),
        **kl,
    }


def _rows_of_numbers(
    targets: SoftTargets,
    places: NDArray[np.int64],
    told: NDArray[np.float32],
    live: NDArray[np.float32],
    stored: NDArray[np.float32],
) -> dict[str, list[Any]]:
    """As `_rows`; the error of a row is the largest of its outputs."""
    views, samples = np.divmod(places, len(targets.rows))
    errors = np.where(is_labelled(told), np.abs(live - told).max(axis=1), np.nan)
    return {
        "row": targets.rows[samples].tolist(),
        "view": views.tolist(),
        "teacher_error": [None if np.isnan(error) else float(error) for error in errors],
        "largest_logit": np.abs(stored).max(axis=1).astype(np.float64).tolist(),
        "difference": np.abs(live - stored).max(axis=1).astype(np.float64).tolist(),
    }


def _some_places(num_rows: int, seed: int) -> NDArray[np.int64]:
    """Sorted, so that the rows of one view lie together."""
    return np.sort(np.random.default_rng(seed).choice(num_rows, min(LIVE_ROWS, num_rows), replace=False))


def _decoded_at(targets: SoftTargets, flat: NDArray[np.int64]) -> NDArray[np.float32]:
    return decode(codec_named(targets.header.codec), targets.stored[flat], targets.num_classes)
