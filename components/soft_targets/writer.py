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
from components.soft_targets.choice import Scale, choose, replace, sample_chunks, smallest
from components.soft_targets.chunks import ChunkFiles, cannot_write
from components.soft_targets.codec import codec_named
from components.soft_targets.header import LOGITS, ROWS, Candidate, Header, Identity, write_header

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from components.contracts import Progress
    from components.params import SoftTargetParams
    from components.views import ViewBank

Teacher = Callable[["Tensor"], "Tensor"]
"""uint8 [B, *S] -> [B, C], on whatever device."""


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

    Chunks stay in *work* as float32 until all are there; the codec is then chosen on a sample and measured on every row.
    SoftTargetsRefusedError: a logit is not finite, or the codec asked for misses params.max_kl.
    BadInputError: no rows, or a teacher with another number of classes. StoreError: the disk says no.
    """
    if not len(rows):
        raise BadInputError("there are no rows to make soft targets for: the training split is empty")
    started = time.monotonic()
    done = _TeacherPass(teacher, bank, rows, num_views, identity, params, work, progress)
    progress.start("soft targets", total=done.num_rows)
    done.complete()
    chosen, weighed, hashes = _store(done, out)
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

    def complete(self) -> None:
        """Make every chunk that is not there yet."""
        for chunk in range(self.num_chunks):
            self._make(chunk)
            self.progress.advance(self.span(chunk).stop)

    def _make(self, chunk: int) -> None:
        span = self.span(chunk)
        if self.files.load(chunk, (len(span), self.num_classes)) is None:
            self.files.save(chunk, np.concatenate(list(self._compute(span))))
            self.rows_computed += len(span)

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


def _store(done: _TeacherPass, out: Path) -> tuple[Candidate, tuple[Candidate, ...], tuple[str, ...]]:
    """Write logits.bin with the smallest codec within the bound on every row; the sha256 of each chunk as it lies there.

    A codec that was within it only on the sample makes way for the next larger one.
    """
    sample = sample_chunks(done.num_chunks, done.params.rows_per_chunk)
    chosen, weighed = choose((done.reread(chunk) for chunk in sample), done.params, done.num_classes)
    while True:
        scale = Scale(codec_named(chosen.codec), done.num_classes, done.params)
        hashes = _assemble(done, scale, out)
        judged = scale.candidate()
        weighed = replace(weighed, judged)
        if judged.refused is None:
            return judged, weighed, hashes
        chosen = smallest(weighed)


def _assemble(done: _TeacherPass, scale: Scale, out: Path) -> tuple[str, ...]:
    """Encode all chunks into one file, up to the first that the codec cannot hold; the sha256 of each."""
    hashes = []
    try:
        with (out / LOGITS).open("wb") as stream:
            for chunk in range(done.num_chunks):
                encoded = scale.add(done.reread(chunk))
                if encoded is None:
                    break
                hashes.append(_append(stream.write, encoded))
    except OSError as error:
        raise cannot_write(str(out / LOGITS), error) from error
    return tuple(hashes)


def _append(write: Callable[[bytes], int], encoded: NDArray[np.uint8]) -> str:
    content = encoded.tobytes()
    write(content)
    return hashlib.sha256(content).hexdigest()


def _header(done: _TeacherPass, chosen: Candidate, weighed: tuple[Candidate, ...], hashes: tuple[str, ...]) -> Header:
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
        candidates=weighed,
    )
