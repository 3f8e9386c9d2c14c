"""Asks the teacher once about every view of every row, and lays its raw logits out for reading in any order."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from components.artifacts.artifact import sha256_of
from components.errors import BadInputError, SoftTargetsRefusedError
from components.soft_targets.choice import beyond, bound_of, choose, sample_chunks
from components.soft_targets.chunks import Chunk, ChunkFiles, cannot_write
from components.soft_targets.codec import EXACT, codec_named
from components.soft_targets.error import meter_of
from components.soft_targets.header import LOGITS, ROWS, SAMPLE_IDS, Candidate, Header, Identity, write_header
from components.soft_targets.sources import Committed, Copied, Source, blocks
from components.soft_targets.teacher_pass import Panel, Teacher, TeacherPass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.contracts import Progress
    from components.params import SoftTargetParams
    from components.soft_targets.codec import Codec
    from components.soft_targets.earlier import Earlier
    from components.soft_targets.error import ErrorTable
    from components.views import ViewBank

Workers = Callable[[Sequence["NDArray[np.int64]"], str, ChunkFiles], Iterator[tuple[int, float]]]
"""Other processes: they ask the teacher about each of the pieces of places and commit a chunk for it in the codec named.

Yields, as they come, the index of each finished piece and the seconds that its teacher took.
"""


@dataclass(slots=True)
class Written:
    """What making soft targets took this time; none of it is part of the result."""

    rows_computed: int = 0
    """Rows that the teacher spoke about because nobody had them, padding left out."""
    rows_checked: int = 0
    """Rows that it spoke about although another had them, as proof that it would say the same again."""
    rows_resumed: int = 0
    """Rows of chunks that an interrupted attempt had committed."""
    rows_salvaged: int = 0
    """Rows of the intact chunks of a damaged copy."""
    rows_reused: int = 0
    """Rows of another data version's soft targets."""
    num_samples: int = 0
    num_bytes: int = 0
    """Of logits.bin."""
    teacher_seconds: float = 0.0
    """Spent on views and teacher, over all processes."""
    seconds: float = 0.0

    @property
    def rows_saved(self) -> int:
        return self.rows_resumed + self.rows_salvaged + self.rows_reused

    def ledger(self) -> dict[str, float | int | None]:
        """For measured/: it depends on kills and clocks. Seconds saved are an estimate from the seconds a row took."""
        asked = self.rows_computed + self.rows_checked
        return {
            **asdict(self),
            "teacher_passes": asked / self.num_samples,
            "teacher_passes_saved": self.rows_saved / self.num_samples,
            "seconds_saved_estimate": self.rows_saved * self.teacher_seconds / asked if asked else None,
        }


def write_soft_targets(
    *,
    teacher: Teacher | Panel,
    bank: ViewBank,
    rows: NDArray[np.int64],
    num_views: int,
    identity: Identity,
    params: SoftTargetParams,
    out: Path,
    work: Path,
    progress: Progress,
    exact: Teacher | Panel | None = None,
    earlier: Sequence[Earlier] = (),
    workers: Workers | None = None,
    teacher_model: str = "",
    says: Literal["logits", "log_probabilities"] = "logits",
    fingerprint: Mapping[str, Any] | None = None,
) -> Written:
    """Store the teacher's logits of views 0..num_views-1 of the bank's *rows* in *out*, chunk by chunk by way of *work*.

    The codec is chosen on a sample of whole chunks, and the rest is encoded as it is computed. Rows of *earlier*
    results are taken over where the teacher, asked again about a part of them, says the same to the bit. *exact* is the
    teacher in fp32, to which bf16 is held. The result does not depend on *earlier*, *workers* or what *work* holds.

    SoftTargetsRefusedError: a logit is not finite, or codec or precision miss params.max_kl.
    BadInputError: no rows, or a teacher with another number of classes. StoreError: the disk says no.
    """
    if not len(rows):
        raise BadInputError("there are no rows to make soft targets for: the training split is empty")
    started = time.monotonic()
    asked = TeacherPass(teacher, bank, rows, num_views, identity, params, progress, fingerprint or {})
    progress.start("soft targets", total=asked.num_places)
    making = _Making(asked, work, earlier, workers)
    choice = making.choose(exact)
    header = _header(
        asked,
        choice,
        chunks=_lay_out(making.complete(codec_named(choice.chosen.codec)), asked, choice.chosen, out / LOGITS),
        rows=_save(out / ROWS, rows.astype("<i8", copy=False)),
        sample_ids=_save(out / SAMPLE_IDS, np.ascontiguousarray(bank.sample_ids[rows])),
        teacher_model=teacher_model,
    ).model_copy(update={"says": says})
    write_header(out, header)
    making.written.num_bytes = header.num_bytes
    making.written.seconds = time.monotonic() - started
    return making.written


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the sample said."""

    chosen: Candidate
    weighed: tuple[Candidate, ...]
    num_rows: int
    precision_error: ErrorTable | None


def _header(
    asked: TeacherPass, choice: _Choice, *, chunks: tuple[str, ...], rows: str, sample_ids: str, teacher_model: str
) -> Header:
    """*chunks*, *rows* and *sample_ids* are the sha256 of what lies in the files."""
    chosen, params = choice.chosen, asked.params
    assert chosen.error is not None
    return Header(
        identity=asked.identity,
        codec=chosen.codec,
        num_views=asked.num_views,
        num_rows=len(asked.rows),
        num_classes=asked.num_classes,
        row_stride_bytes=chosen.row_stride_bytes,
        rows_per_chunk=params.rows_per_chunk,
        chunk_sha256=chunks,
        rows_sha256=rows,
        sample_ids_sha256=sample_ids,
        teacher_model=teacher_model,
        batch_size=params.batch_size,
        precision=params.precision,
        memory_format=params.memory_format,
        error=chosen.error,
        rows_measured=choice.num_rows,
        precision_error=_by_name(choice.precision_error),
        candidates=choice.weighed,
    )


@dataclass(slots=True)
class _Making:
    """The rows of one teacher pass, each computed once if nobody has it."""

    asked: TeacherPass
    work: Path
    earlier: Sequence[Earlier]
    workers: Workers | None
    written: Written = field(init=False)
    _sample: list[Committed] = field(init=False)
    """The chunks on which the codec is chosen, in fp32."""
    _asked_now: NDArray[np.bool_] = field(init=False)
    """[V * N]: places of the sample about which the teacher spoke in this attempt."""
    _done: int = 0

    def __post_init__(self) -> None:
        self.written = Written(num_samples=len(self.asked.rows))
        self._asked_now = np.zeros(self.asked.num_places, dtype=np.bool_)

    def choose(self, exact: Teacher | Panel | None) -> _Choice:
        """Make the sample and choose the codec on it; also what low precision costs, which is refused before the rest."""
        params = self.asked.params
        spans = [self.asked.span(chunk) for chunk in sample_chunks(self.asked.num_chunks, params.rows_per_chunk)]
        places = [np.arange(span.start, span.stop) for span in spans]
        files = self._files(EXACT)
        missing = [piece for piece in places if not _is_there(files, piece)]
        self._count_resumed([piece for piece in places if _is_there(files, piece)])
        for piece in missing:
            self._asked_now[piece] = True
        self._compute(missing, EXACT, files)
        cache: list[Chunk] = []
        self._sample = [Committed(piece, files, cache) for piece in places]
        low = None if exact is None or params.precision == EXACT else self._low_precision(exact)
        chosen, weighed = choose(self._sample_logits(), params, self.asked.num_classes, self.asked.identity.labels)
        return _Choice(chosen, weighed, sum(map(len, places)), low)

    def complete(self, codec: Codec) -> list[Source]:
        """Sources that hold every place once."""
        sample = [_Encoded(source, codec, self.asked.num_classes) for source in self._sample]
        taken = np.zeros(self.asked.num_places, dtype=np.bool_)
        _take(taken, sample)
        proven = [each for each in self.earlier if self._says_the_same(each, codec, sample)]
        resumed = self._resumed(codec, taken)
        copied = list(self._copied(proven, taken))
        files, cache = self._files(codec.name), list[Chunk]()
        pieces = _pieces(np.flatnonzero(~taken), self.asked.params.rows_per_chunk)
        self._compute(pieces, codec.name, files)
        return [*sample, *resumed, *copied, *(Committed(piece, files, cache) for piece in pieces)]

    def _files(self, codec: str) -> ChunkFiles:
        return ChunkFiles(self.work / "chunks" / codec, chunk_key(self.asked, codec))

    def _compute(self, pieces: Sequence[NDArray[np.int64]], codec: str, files: ChunkFiles) -> None:
        made = self.workers(pieces, codec, files) if self.workers and pieces else self._alone(pieces, codec, files)
        for index, seconds in made:
            self.written.rows_computed += len(pieces[index])
            self.written.teacher_seconds += seconds
            self._advance(len(pieces[index]))

    def _alone(self, pieces: Sequence[NDArray[np.int64]], codec: str, files: ChunkFiles) -> Iterator[tuple[int, float]]:
        for index, places in enumerate(pieces):
            yield index, make_chunk(self.asked, places, codec_named(codec), files)

    def _advance(self, num_rows: int) -> None:
        self._done += num_rows
        self.asked.progress.advance(self._done)

    def _count_resumed(self, pieces: Sequence[NDArray[np.int64]]) -> None:
        for piece in pieces:
            self.written.rows_resumed += len(piece)
            self._advance(len(piece))

    def _sample_logits(self) -> Iterator[NDArray[np.float32]]:
        return (_as_logits(source.read(slice(None)), self.asked.num_classes) for source in self._sample)

    def _low_precision(self, exact: Teacher | Panel) -> ErrorTable:
        """Error of the sample against the teacher in fp32; SoftTargetsRefusedError beyond the bound."""
        params = self.asked.params
        labels = self.asked.identity.labels
        truth, meter = (
            replace(self.asked, teacher=exact, rows_asked=0, seconds=0.0),
            meter_of(labels, params.temperatures),
        )
        for source, said in zip(self._sample, self._sample_logits(), strict=True):
            meter.add(truth.logits(source.places), said)
        self._count_checked(truth)
        bound = bound_of(params, labels)
        refused = beyond(meter.table(), bound)
        if refused:
            raise SoftTargetsRefusedError(
                f"soft_targets.precision {params.precision} is too coarse for this teacher: against fp32 the {refused}; "
                f"set soft_targets.precision to {EXACT}, or raise {bound.name}"
            )
        return meter.table()

    def _count_checked(self, asked: TeacherPass) -> None:
        self.written.rows_checked += asked.rows_asked
        self.written.teacher_seconds += asked.seconds

    def _resumed(self, codec: Codec, taken: NDArray[np.bool_]) -> list[Source]:
        """What an interrupted attempt has committed beyond the sample."""
        files, cache = self._files(codec.name), list[Chunk]()
        found = [chunk.places for chunk in files.all() if not taken[chunk.places].any()]
        sources: list[Source] = [Committed(places, files, cache) for places in found]
        self._count_resumed(found)
        _take(taken, sources)
        return sources

    def _copied(self, proven: Sequence[Earlier], taken: NDArray[np.bool_]) -> Iterator[Source]:
        for each in proven:
            self._recount(each)
            copied = each.rows.without(taken)
            if len(copied.places):
                _take(taken, [copied])
                self._count_copied(each, len(copied.places))
                yield copied

    def _recount(self, each: Earlier) -> None:
        """Rows of the sample that another had were asked again as a proof, not because they were missing."""
        again = int(self._asked_now[each.rows.places].sum())
        self._asked_now[each.rows.places] = False
        self.written.rows_computed -= again
        self.written.rows_checked += again

    def _count_copied(self, each: Earlier, num_rows: int) -> None:
        if each.damaged:
            self.written.rows_salvaged += num_rows
        else:
            self.written.rows_reused += num_rows
        self._advance(num_rows)

    def _says_the_same(self, each: Earlier, codec: Codec, sample: Sequence[Source]) -> bool:
        """Whether the teacher, here and now, says to the bit what *each* says of the sample, and of moved rows."""
        why = self._why_not(each, codec, sample)
        if why:
            self.asked.progress.say(f"soft targets: rows of {each.name} are not taken over: {why}")
        return why is None

    def _why_not(self, each: Earlier, codec: Codec, sample: Sequence[Source]) -> str | None:
        if each.codec != codec.name:
            return f"they are stored as {each.codec}, and these need {codec.name}"
        if not all(_agree(each.rows, source) for source in sample):
            return "asked again, the teacher does not say the same bits"
        if not each.damaged and not self._same_elsewhere_in_a_batch(each.rows, codec):
            return "what the teacher says depends on a row's place in its batch"
        return None

    def _same_elsewhere_in_a_batch(self, rows: Copied, codec: Codec) -> bool:
        """Two batches of the same rows in opposite order: the same fp32 bits, and the bytes that are stored."""
        probe = _spread(len(rows.places), self.asked.params.batch_size)
        asker = replace(self.asked, rows_asked=0, seconds=0.0)
        there, back = (asker.logits(rows.places[order]) for order in (probe, probe[::-1]))
        self._count_checked(asker)
        stored = rows.stored[rows.origins[probe]]
        return np.array_equal(there.view(np.uint32), back[::-1].copy().view(np.uint32)) and np.array_equal(
            codec.encode(there), stored
        )


def chunk_key(asked: TeacherPass, codec: str) -> str:
    """Everything that decides the bytes of encoded rows."""
    return f"{codec} {asked.key()}"


def make_chunk(asked: TeacherPass, places: NDArray[np.int64], codec: Codec, files: ChunkFiles) -> float:
    """Ask about *places* and commit what was said; the seconds that the teacher took.

    SoftTargetsRefusedError: the codec, which was chosen on other rows, cannot hold one of these.
    """
    before = asked.seconds
    logits = asked.logits(places)
    cannot = codec.why_not(logits)
    if cannot:
        raise SoftTargetsRefusedError(
            f"codec {codec.name} fitted the sample and cannot hold rows after {asked.name(int(places[0]))}: {cannot}; "
            f"set soft_targets.codec to {EXACT}"
        )
    files.save(Chunk(places, codec.encode(logits)))
    return asked.seconds - before


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A chunk of the sample in the codec that was chosen."""

    sample: Committed
    codec: Codec
    num_classes: int

    @property
    def places(self) -> NDArray[np.int64]:
        return self.sample.places

    def read(self, part: slice) -> NDArray[np.uint8]:
        return self.codec.encode(_as_logits(self.sample.read(part), self.num_classes))


def _as_logits(rows: NDArray[np.uint8], num_classes: int) -> NDArray[np.float32]:
    """A writable copy."""
    return rows.view("<f4").reshape(-1, num_classes).astype(np.float32)


def _is_there(files: ChunkFiles, places: NDArray[np.int64]) -> bool:
    found = files.load(int(places[0]))
    return found is not None and np.array_equal(found.places, places)


def _take(taken: NDArray[np.bool_], sources: Sequence[Source]) -> None:
    for source in sources:
        taken[source.places] = True


def _pieces(places: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _agree(rows: Copied, sample: Source) -> bool:
    """Whether both hold the same bytes wherever both hold any; the places of *sample* are a range."""
    first = int(sample.places[0])
    part = slice(*np.searchsorted(rows.places, [first, first + len(sample.places)]))
    return np.array_equal(sample.read(slice(None))[rows.places[part] - first], rows.read(part))


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """At most *count* of 0..length-1, evenly spaced."""
    count = min(count, length)
    return np.arange(count, dtype=np.int64) * length // count


def _lay_out(sources: Sequence[Source], asked: TeacherPass, chosen: Candidate, path: Path) -> tuple[str, ...]:
    """Write all rows in order; the sha256 of each chunk as it lies there."""
    spans = [asked.span(chunk) for chunk in range(asked.num_chunks)]
    try:
        with path.open("wb") as stream:
            return tuple(_append(stream.write, block) for block in blocks(sources, spans, chosen.row_stride_bytes))
    except OSError as error:
        raise cannot_write(str(path), error) from error


def _append(write: Callable[[Any], int], block: NDArray[np.uint8]) -> str:
    write(block.data)
    return hashlib.sha256(block.data).hexdigest()


def _save(path: Path, array: NDArray[Any]) -> str:
    """Write *array*; the sha256 of its file."""
    try:
        np.save(path, array)
    except OSError as error:
        raise cannot_write(str(path), error) from error
    return sha256_of(path)


def _by_name(table: ErrorTable | None) -> Mapping[str, Mapping[str, float]] | None:
    return None if table is None else {f"{temperature:g}": row for temperature, row in table.items()}
