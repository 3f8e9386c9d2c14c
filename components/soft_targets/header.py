"""What soft_targets.json says: whose logits, of which views of which data, and how they lie in logits.bin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from components.artifacts.artifact import write_json
from components.contracts import Frozen, LabelKind
from components.errors import ArtifactDamagedError, SoftTargetsRefusedError

SCHEMA_VERSION = 1
HEADER = "soft_targets.json"
ROWS = "rows.npy"
LOGITS = "logits.bin"
SAMPLE_IDS = "sample_ids.npy"
QUALITY = "quality.json"
QUALITY_ROWS = "quality_rows.json"


class Identity(Frozen):
    """What must be the same for a student to learn from these rows."""

    teacher_digest: str
    fold_teachers_digest: str = ""
    """Of the fold map and all of its teachers; empty where one teacher speaks about all samples."""
    data_digest: str
    view_spec: Mapping[str, Any]
    """ViewParams, as plain data."""
    class_names: tuple[str, ...]
    """In column order; of the targets where labels are numbers."""
    labels: LabelKind = "classes"


class Candidate(Frozen):
    """A codec that was weighed."""

    codec: str
    row_stride_bytes: int
    error: Mapping[str, Mapping[str, float]] | None
    """By temperature, over the sample: what ErrorMeter says; none if it cannot hold the logits."""
    largest_logit_error: float | None = None
    """Of any class in any row of the sample."""
    refused: str | None
    """Why it was not eligible."""


class Header(Frozen):
    """The layout [view, sample] of fixed-stride rows, and the identity of what they hold."""

    schema_version: int = SCHEMA_VERSION
    identity: Identity
    codec: str
    num_views: int
    num_rows: int
    """Samples; the file holds num_views * num_rows rows."""
    num_classes: int
    row_stride_bytes: int
    rows_per_chunk: int
    chunk_sha256: tuple[str, ...]
    """Of each rows_per_chunk rows of the file, in order."""
    rows_sha256: str = ""
    """Of rows.npy."""
    sample_ids_sha256: str = ""
    """Of sample_ids.npy, uint8 [num_rows, 16]: which sample each row is of, whatever the data version."""
    says: Literal["logits", "log_probabilities"] = "logits"
    """What the rows are; log-probabilities are a valid row of logits, but not the teacher's own, and T acts on them."""
    teacher_model: str = ""
    """Digest of what decides the teacher's answers; the same for one model brought to several data versions."""
    row_offsets: None = None
    """Reserved: where a sample's rows begin, for workloads with more than one row a sample."""
    draws_per_row: None = None
    """Reserved: of how many classes drawn at random a row consists, where it is a sample of the teacher's distribution."""
    batch_size: int
    """Of the teacher's forward pass."""
    precision: str
    memory_format: str = "contiguous"
    error: Mapping[str, Mapping[str, float]]
    """Between the teacher's rows and the stored ones, as the meter of this kind of labels names it.

    By temperature: mean_kl, p99_kl, gradient_error and gradient_bias; of numbers, at 1: relative_rmse, relative_largest.
    """
    rows_measured: int = 0
    """On how many rows, in whole chunks spread evenly over the file."""
    precision_error: Mapping[str, Mapping[str, float]] | None = None
    """The same between the teacher in fp32 and in the precision asked for, where that is lower."""
    candidates: tuple[Candidate, ...]

    @property
    def num_bytes(self) -> int:
        return self.num_views * self.num_rows * self.row_stride_bytes


def write_header(folder: Path, header: Header) -> None:
    write_json(folder / HEADER, header.model_dump(mode="json"))


def read_header(folder: Path) -> Header:
    """SoftTargetsRefusedError for another schema, ArtifactDamagedError for what is no header."""
    path = folder / HEADER
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read: {error!r}") from error
    if version != SCHEMA_VERSION:
        raise SoftTargetsRefusedError(
            f"soft targets refused: schema_version is {version!r}, and this version of Potstill reads {SCHEMA_VERSION}; "
            "run again to make them anew"
        )
    try:
        return Header.model_validate(raw)
    except ValidationError as error:
        raise ArtifactDamagedError(f"{path} is not a header of soft targets: {error}") from error


def differences(stored: Any, wanted: Any, place: str = "") -> Iterator[str]:
    """Each leaf at which two plain values differ, such as 'view_spec.seed is 0, 1 is asked for'."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        for name in sorted({*stored, *wanted}):
            yield from differences(stored.get(name), wanted.get(name), f"{place}.{name}" if place else name)
    elif _both_lists(stored, wanted) and len(stored) == len(wanted):
        for index, pair in enumerate(zip(stored, wanted, strict=True)):
            yield from differences(*pair, f"{place}[{index}]")
    elif stored != wanted:
        yield f"{place} is {_short(stored)} and {_short(wanted)} is asked for"


def _both_lists(stored: Any, wanted: Any) -> bool:
    return isinstance(stored, list | tuple) and isinstance(wanted, list | tuple)


def _short(value: Any, *, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
