"""The teacher is asked once about every view of every row, whatever interrupts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.contracts import NoProgress
from components.errors import BadInputError, InterruptedRunError, SoftTargetsRefusedError, StoreError
from components.soft_targets.codec import CODECS, round_trip
from components.soft_targets.error import measure
from components.soft_targets.header import Identity, read_header
from components.soft_targets.reader import SoftTargets

NUM_VIEWS, NUM_ROWS = 3, 37
TOTAL = NUM_VIEWS * NUM_ROWS
Maker = Callable[..., Any]


class StopsAfter(NoProgress):
    """The user presses Ctrl-C at the n-th batch."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise InterruptedRunError("stopped")


class Recorder(NoProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.total = 0
        self.done: list[int] = []

    def start(self, title: str, *, total: int) -> None:
        self.total = total

    def advance(self, done: int, **values: float) -> None:
        self.done.append(done)


def stored(folder: Path) -> np.ndarray:
    """[V, N, C] float32, read back."""
    targets = SoftTargets.load(folder)
    rows = torch.from_numpy(targets.rows)
    return np.stack([targets.gather(rows, view).numpy().copy() for view in range(NUM_VIEWS)])


def chunk_files(make: Maker) -> dict[int, Path]:
    """By first row, in whatever codec."""
    found = make.work.rglob("chunk-*.bin")  # type: ignore[attr-defined]
    return {int(path.stem.partition("-")[2]): path for path in found}


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec is chosen on two of the six chunks, 0 and 3."""
    monkeypatch.setattr("components.soft_targets.choice.SAMPLE_ROWS", 40)


@pytest.mark.parametrize("codec", ["fp32", "fp16"])
def test_what_is_read_is_what_the_teacher_said(make: Maker, expected: np.ndarray, codec: str) -> None:
    """Every row of every view, to the bit in fp32 and to half precision in fp16."""
    out, written = make(codec=codec)

    assert np.array_equal(stored(out), expected if codec == "fp32" else expected.astype(np.float16).astype(np.float32))
    assert (written.rows_computed, written.rows_resumed) == (TOTAL, 0)


@pytest.mark.parametrize(("batch_size", "rows_per_chunk"), [(1, 1), (7, 20), (64, 37), (8, 5), (200, 1000)])
def test_rows_do_not_depend_on_batches_or_chunks(
    make: Maker, expected: np.ndarray, batch_size: int, rows_per_chunk: int
) -> None:
    """Batches that straddle views, chunks smaller than a batch, one chunk for all: the same rows."""
    out, _ = make(codec="fp32", batch_size=batch_size, rows_per_chunk=rows_per_chunk)

    assert np.array_equal(stored(out), expected)


def test_the_teacher_sees_batches_of_one_size(make: Maker) -> None:
    """The last batch of a chunk is padded, since logits change in the last bits with the batch size."""
    teacher = make.new_teacher()

    make(teacher=teacher, batch_size=8, rows_per_chunk=20)

    assert set(teacher.batch_sizes) == {8}


def test_the_same_input_gives_the_same_bytes(make: Maker, digest_of: Callable[[Path], str]) -> None:
    """Two runs, one of them from finished chunks, leave identical files."""
    first, _ = make()
    second, written = make()

    assert digest_of(first) == digest_of(second)
    assert (written.rows_computed, written.rows_resumed) == (0, TOTAL)


@pytest.mark.parametrize("batches", [0, 1, 3, 7, 13])
def test_an_interrupted_run_goes_on_where_it_stopped(
    make: Maker, make_elsewhere: Maker, digest_of: Callable[[Path], str], sampled: None, batches: int
) -> None:
    """Committed chunks are not computed again, and the result is that of an undisturbed run."""
    undisturbed, _ = make_elsewhere()
    with pytest.raises(InterruptedRunError):
        make(progress=StopsAfter(batches))
    committed = len(chunk_files(make))

    out, written = make()

    assert committed == batches // 3
    assert written.rows_resumed == committed * 20
    assert written.rows_computed == TOTAL - committed * 20
    assert digest_of(out) == digest_of(undisturbed)


@pytest.mark.parametrize("chunk", [0, 2, 5])
def test_a_damaged_chunk_alone_is_computed_again(
    make: Maker, digest_of: Callable[[Path], str], sampled: None, chunk: int
) -> None:
    """One flipped bit costs one chunk."""
    first, _ = make()
    path = chunk_files(make)[chunk * 20]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    second, written = make()

    assert written.rows_computed == (TOTAL - 5 * 20 if chunk == 5 else 20)
    assert digest_of(first) == digest_of(second)


@pytest.mark.parametrize("changed", ["teacher", "rows", "batch_size", "precision", "views"])
def test_chunks_of_another_pass_are_not_used(make: Maker, identity: Identity, changed: str) -> None:
    """Whatever decides the numbers is in the chunk's header."""
    make()
    other: dict[str, Any] = {
        "teacher": {"identity": identity.model_copy(update={"teacher_digest": "c" * 64})},
        "views": {"identity": identity.model_copy(update={"view_spec": {}})},
        "rows": {"rows": make.rows[::-1].copy()},
        "batch_size": {"batch_size": 9},
        "precision": {"precision": "bf16"},
    }[changed]

    _, written = make(**other)

    assert written.rows_resumed == 0


def test_a_chunk_that_vanishes_before_assembly_is_named(make: Maker, sampled: None) -> None:
    """StoreError names the chunk and says that running again heals it."""

    class Vandal(NoProgress):
        def advance(self, done: int, **values: float) -> None:
            if done == TOTAL:
                chunk_files(make)[20].unlink()

    with pytest.raises(StoreError, match=r"chunk at row 20 .* run again"):
        make(progress=Vandal())
    assert make()[1].rows_computed == 20


def test_progress_counts_rows(make: Maker) -> None:
    """The total is V * N, reached at the end."""
    progress = Recorder()

    make(progress=progress)

    assert progress.total == TOTAL
    assert progress.done == [20, 40, 60, 80, 100, TOTAL]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_named(make: Maker, value: float) -> None:
    """The sample, its id and the view; flattened row 40 is the fourth stored row of view 1."""

    def teacher(samples: torch.Tensor) -> torch.Tensor:
        logits = make.new_teacher()(samples)
        calls.append(0)
        if len(calls) == 7:
            logits[3, 1] = value
        return logits

    calls: list[int] = []
    row = int(make.rows[43 - NUM_ROWS])
    sample_id = make.bank.sample_ids[row].tobytes().hex()

    with pytest.raises(
        SoftTargetsRefusedError, match=rf"not finite for 1 of 8 rows: sample {row} \(id {sample_id}\) in view 1"
    ):
        make(teacher=teacher)


def test_a_teacher_of_other_classes_is_refused(make: Maker, identity: Identity) -> None:
    """The number of its logits is compared with the data's classes."""
    with pytest.raises(BadInputError, match=r"logits \[4\] a sample, and the data has 2 classes"):
        make(identity=identity.model_copy(update={"class_names": ("a", "b")}))


def test_no_rows_are_refused(make: Maker) -> None:
    """An empty training split is said, not stored."""
    with pytest.raises(BadInputError, match="training split is empty"):
        make(rows=np.array([], dtype=np.int64))


def test_the_smallest_codec_within_the_bound_is_chosen(make: Maker) -> None:
    """fp16 where its error is allowed, fp32 where it is not; all were weighed, those of equal size from the most exact on."""
    loose = read_header(make(max_kl=1e-4)[0])
    tight = read_header(make(max_kl=1e-15)[0])

    assert (loose.codec, loose.row_stride_bytes) == ("fp16", 8)
    assert 0 < loose.error["1"]["mean_kl"] <= 1e-4
    assert (tight.codec, tight.row_stride_bytes) == ("fp32", 16)
    assert {row["mean_kl"] for row in tight.error.values()} == {0.0}
    assert [candidate.codec for candidate in tight.candidates] == ["fp16", "int4", "int8", "fp32"]
    assert "max_kl is 1e-15" in str(tight.candidates[0].refused)


def test_the_error_is_that_of_every_row(make: Maker, expected: np.ndarray) -> None:
    """The table equals a measurement of all rows at once."""
    header = read_header(make(codec="fp16", temperatures=(1.0, 4.5))[0])

    rows = expected.reshape(-1, 4)
    table = measure(rows, round_trip(CODECS["fp16"], rows), (1.0, 4.5))
    assert header.error["4.5"] == pytest.approx(table[4.5])
    assert header.error["1"] == pytest.approx(table[1.0])


def test_a_named_codec_that_misses_the_bound_is_refused(make: Maker) -> None:
    """The message has the figure, the bound and the way out."""
    with pytest.raises(SoftTargetsRefusedError, match=r"fp16: mean KL is .* nats at T=.*max_kl is 1e-15.*auto or fp32"):
        make(codec="fp16", max_kl=1e-15)


def test_the_bound_holds_at_every_temperature(make: Maker) -> None:
    """An error that is allowed at T=20 and not at T=1 is too large, and T=1 is named."""
    error = read_header(make(codec="fp16")[0]).error
    between = (error["1"]["mean_kl"] + error["20"]["mean_kl"]) / 2

    assert error["20"]["mean_kl"] < between < error["1"]["mean_kl"]
    with pytest.raises(SoftTargetsRefusedError, match=r"nats at T=1, and max_kl is"):
        make(codec="fp16", max_kl=between)


def test_logits_beyond_half_precision_are_kept_otherwise(make: Maker) -> None:
    """fp16 is not eligible where it would overflow, whatever the bound."""
    header = read_header(make(teacher=make.new_teacher(scale=1e6), max_kl=1e9)[0])

    assert header.codec == "int8"
    assert "beyond its largest value 65504" in str(header.candidates[0].refused)
    assert header.candidates[0].error is None


def test_the_header_describes_the_files(make: Maker, identity: Identity) -> None:
    """Identity, layout and a hash of each chunk of logits.bin."""
    out, written = make(codec="fp16")
    raw = json.loads((out / "soft_targets.json").read_text())
    content = (out / "logits.bin").read_bytes()

    assert sorted(path.name for path in out.iterdir()) == [
        "logits.bin",
        "rows.npy",
        "sample_ids.npy",
        "soft_targets.json",
    ]
    assert Identity.model_validate(raw["identity"]) == identity
    assert (raw["num_views"], raw["num_rows"], raw["num_classes"], raw["row_offsets"]) == (3, NUM_ROWS, 4, None)
    assert written.num_bytes == len(content) == TOTAL * 8
    chunks = [content[start : start + 160] for start in range(0, len(content), 160)]
    assert raw["chunk_sha256"] == [hashlib.sha256(chunk).hexdigest() for chunk in chunks]
    assert np.array_equal(np.load(out / "rows.npy"), make.rows)
    assert np.array_equal(np.load(out / "sample_ids.npy"), make.bank.sample_ids[make.rows])
    for name in ("rows", "sample_ids"):
        assert raw[f"{name}_sha256"] == hashlib.sha256((out / f"{name}.npy").read_bytes()).hexdigest()


def test_a_disk_that_does_not_take_the_file_is_said(make: Maker) -> None:
    """StoreError with the place, no traceback of the system's; the chunks are kept."""

    class Blocker(NoProgress):
        def advance(self, done: int, **values: float) -> None:
            (make.folder / "out-1" / "logits.bin").mkdir(exist_ok=True)

    with pytest.raises(StoreError, match=r"cannot write .*logits\.bin \(Is a directory\); free"):
        make(progress=Blocker())
    assert make()[1].rows_computed == 0
