"""Asks the teacher once about every view of every row, and lays its raw logits out for reading in any order."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.errors import BadInputError, SoftTargetsRefusedError, StoreError, some_of
from components.soft_targets.chunks import ChunkFiles, cannot_write
from components.soft_targets.codec import CODECS, Codec, ErrorMeter, ErrorTable, no_error, round_trip
from components.soft_targets.header import LOGITS, ROWS, Candidate, Header, Identity, write_header

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from components.contracts import Progress
    from components.params import SoftTargetParams
    from components.views import ViewBank

Teacher = Callable[["Tensor"], "Tensor"]
"""uint8 [B, *S] -> [B, C], on whatever device."""
EXACT = "fp32"


@dataclass(frozen=True, slots=True)
class Written:
    """What making soft targets took this time; none of it is part of the result."""

    rows_computed: int
    """Rows that the teacher spoke about, padding left out."""
    rows_reused: int
    """Rows of chunks that an interrupted attempt had committed."""
    num_bytes: int
    """Of logits.bin."""
    seconds: float

    def ledger(self) -> dict[str, float | int]:
        """For measured/: it depends on kills and clocks."""
        return asdict(self)


def write_soft_targets(
    *,
    teacher: Teacher,
    bank: ViewBank,
    rows: NDArray[np.int64],
    num_views: int,
    identity: Identity,
    params: SoftTargetParams,
    out: Path,
    work: Path,
    progress: Progress,
) -> Written:
    """Store the teacher's logits of views 0..num_views-1 of the bank's *rows* in *out*, chunk by chunk by way of *work*.

    Chunks stay in *work* as float32 until all are there; the codec is then chosen by the error on every row.
    SoftTargetsRefusedError: a logit is not finite, or the codec asked for misses params.max_kl.
    BadInputError: no rows, or a teacher with another number of classes. StoreError: the disk says no.
    """
    if not len(rows):
        raise BadInputError("there are no rows to make soft targets for: the training split is empty")
    started = time.monotonic()
    done = _TeacherPass(teacher, bank, rows, num_views, identity, params, work, progress)
    progress.start("soft targets", total=done.num_rows)
    weighed = done.weigh()
    chosen = _choose(weighed)
    hashes = _assemble(done, CODECS[chosen.codec], out)
    np.save(out / ROWS, rows.astype("<i8", copy=False))
    header = _header(done, chosen, weighed, hashes)
    write_header(out, header)
    return Written(done.rows_computed, done.num_rows - done.rows_computed, header.num_bytes, time.monotonic() - started)


@dataclass(slots=True)
class _TeacherPass:
    """The flattened [V * N] rows, in chunks that are computed once."""

    teacher: Teacher
    bank: ViewBank
    rows: NDArray[np.int64]
    num_views: int
    identity: Identity
    params: SoftTargetParams
    work: Path
    progress: Progress
    rows_computed: int = 0
    files: ChunkFiles = field(init=False)

    def __post_init__(self) -> None:
        self.files = ChunkFiles(self.work / "chunks", self._key())

    @property
    def num_rows(self) -> int:
        return self.num_views * len(self.rows)

    @property
    def num_classes(self) -> int:
        return len(self.identity.class_names)

    @property
    def num_chunks(self) -> int:
        return -(-self.num_rows // self.params.rows_per_chunk)

    def _key(self) -> str:
        fields = {
            "identity": self.identity.model_dump(mode="json"),
            "rows": hashlib.sha256(self.rows.astype("<i8", copy=False).tobytes()).hexdigest(),
            "num_views": self.num_views,
            "batch_size": self.params.batch_size,
            "precision": self.params.precision,
            "rows_per_chunk": self.params.rows_per_chunk,
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def span(self, chunk: int) -> range:
        """The flattened rows of *chunk*."""
        start = chunk * self.params.rows_per_chunk
        return range(start, min(start + self.params.rows_per_chunk, self.num_rows))

    def weigh(self) -> list[Candidate]:
        """Make every chunk that is not there yet, and measure each codec on all of them."""
        scales = [_Scale(codec, self.num_classes, self.params.temperatures) for codec in self._codecs()]
        for chunk in range(self.num_chunks):
            logits = self._chunk(chunk)
            for scale in scales:
                scale.add(logits)
            self.progress.advance(self.span(chunk).stop)
        return [scale.candidate(self.params) for scale in scales]

    def _codecs(self) -> list[Codec]:
        asked = self.params.codec
        codecs = CODECS.values() if asked == "auto" else [CODECS[asked]]
        return sorted(codecs, key=lambda codec: codec.row_stride_bytes(self.num_classes))

    def _chunk(self, chunk: int) -> NDArray[np.float32]:
        span = self.span(chunk)
        logits = self.files.load(chunk, (len(span), self.num_classes))
        if logits is None:
            logits = np.concatenate(list(self._compute(span)))
            self.files.save(chunk, logits)
            self.rows_computed += len(span)
        return logits

    def reread(self, chunk: int) -> NDArray[np.float32]:
        """A chunk that has been made; StoreError if it has vanished or changed since."""
        logits = self.files.load(chunk, (len(self.span(chunk)), self.num_classes))
        if logits is None:
            raise StoreError(
                f"chunk {chunk} of the soft targets in {self.files.folder} was damaged after it was written; "
                "run again, and only that chunk is computed"
            )
        return logits

    def _compute(self, span: range) -> Iterator[NDArray[np.float32]]:
        for start in range(span.start, span.stop, self.params.batch_size):
            self.progress.check()
            part = range(start, min(start + self.params.batch_size, span.stop))
            logits = ask(self.teacher, self._samples(part), self.params.batch_size)
            self._check(logits, part)
            yield logits

    def _samples(self, part: range) -> Tensor:
        """The views of flattened rows *part*, which may reach from one view into the next."""
        import torch

        flat = np.arange(part.start, part.stop)
        views, places = np.divmod(flat, len(self.rows))
        pieces = [
            self.bank.batch(torch.from_numpy(self.rows[places[views == view]]), int(view)) for view in np.unique(views)
        ]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _check(self, logits: NDArray[np.float32], part: range) -> None:
        if logits.shape != (len(part), self.num_classes):
            raise BadInputError(
                f"the teacher gives logits {list(logits.shape[1:])} a sample, and the data has {self.num_classes} classes"
            )
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(bad):
            raise SoftTargetsRefusedError(
                f"the teacher's logits are not finite for {len(bad)} of {len(part)} rows: "
                f"{some_of([self._name(part[int(place)]) for place in bad])}; "
                "train it again with a lower learning rate, or use precision fp32"
            )

    def _name(self, flat: int) -> str:
        view, place = divmod(flat, len(self.rows))
        row = int(self.rows[place])
        return f"sample {row} (id {self.bank.sample_ids[row].tobytes().hex()}) in view {view}"


def ask(teacher: Teacher, samples: Tensor, batch_size: int) -> NDArray[np.float32]:
    """The teacher's raw logits, in a batch of exactly *batch_size*; uint8 [B, *S], B <= batch_size -> [B, C].

    Padded with copies of the last sample: kernels are chosen by shape, and the last bits change with them.
    """
    import torch

    padding = samples[-1:].expand(batch_size - len(samples), *samples.shape[1:])
    with torch.inference_mode():
        logits = teacher(torch.cat((samples, padding)) if len(padding) else samples)
    return logits[: len(samples)].float().cpu().numpy()


@dataclass(slots=True)
class _Scale:
    """Weighs one codec: whether it can hold all rows, and what it does to them."""

    codec: Codec
    num_classes: int
    temperatures: tuple[float, ...]
    cannot: str | None = None
    meter: ErrorMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = ErrorMeter(self.temperatures)

    def add(self, logits: NDArray[np.float32]) -> None:
        self.cannot = self.cannot or self.codec.why_not(logits)
        if not self.cannot and self.codec.name != EXACT:
            self.meter.add(logits, round_trip(self.codec, logits))

    def candidate(self, params: SoftTargetParams) -> Candidate:
        table = None if self.cannot else self._table()
        return Candidate(
            codec=self.codec.name,
            row_stride_bytes=self.codec.row_stride_bytes(self.num_classes),
            error=None if table is None else {f"{temperature:g}": row for temperature, row in table.items()},
            refused=self.cannot or _beyond(table or {}, params.max_kl),
        )

    def _table(self) -> ErrorTable:
        return no_error(self.temperatures) if self.codec.name == EXACT else self.meter.table()


def _beyond(table: ErrorTable, max_kl: float) -> str | None:
    """At which temperature the error is largest, if it is beyond the bound there."""
    worst = max(table, key=lambda temperature: table[temperature]["mean_kl"], default=None)
    if worst is None or table[worst]["mean_kl"] <= max_kl:
        return None
    return f"mean KL is {table[worst]['mean_kl']:.3g} nats at T={worst:g}, and max_kl is {max_kl:g}"


def _choose(weighed: list[Candidate]) -> Candidate:
    """The smallest within the bound; *weighed* goes from small to large."""
    chosen = next((candidate for candidate in weighed if candidate.refused is None), None)
    if chosen is None:
        reasons = "; ".join(f"{candidate.codec}: {candidate.refused}" for candidate in weighed)
        raise SoftTargetsRefusedError(
            f"no codec keeps the soft targets within soft_targets.max_kl ({reasons}). "
            f"Set soft_targets.codec to auto or {EXACT}, or raise max_kl"
        )
    return chosen


def _assemble(done: _TeacherPass, codec: Codec, out: Path) -> tuple[str, ...]:
    """Encode all chunks into one file; the sha256 of each as it lies there."""
    try:
        with (out / LOGITS).open("wb") as stream:
            return tuple(_append(stream.write, codec.encode(done.reread(chunk))) for chunk in range(done.num_chunks))
    except OSError as error:
        raise cannot_write(str(out / LOGITS), error) from error


def _append(write: Callable[[bytes], int], encoded: NDArray[np.uint8]) -> str:
    content = encoded.tobytes()
    write(content)
    return hashlib.sha256(content).hexdigest()


def _header(done: _TeacherPass, chosen: Candidate, weighed: list[Candidate], hashes: tuple[str, ...]) -> Header:
    assert chosen.error is not None
    return Header(
        identity=done.identity,
        codec=chosen.codec,
        num_views=done.num_views,
        num_rows=len(done.rows),
        num_classes=done.num_classes,
        row_stride_bytes=chosen.row_stride_bytes,
        rows_per_chunk=done.params.rows_per_chunk,
        chunk_sha256=hashes,
        batch_size=done.params.batch_size,
        precision=done.params.precision,
        error=chosen.error,
        candidates=tuple(weighed),
    )
