"""Reading soft targets against the limit (numpy.take from memory), and what replayed views cost."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from components.params import ViewParams
from components.soft_targets.codec import CODECS
from components.soft_targets.header import Header, Identity, write_header
from components.soft_targets.reader import SoftTargets
from components.transforms._resampling import Motion, resampled, shifted, turn_table
from components.views import ViewBank

pytestmark = pytest.mark.bench
BATCH = 256
NUM_ROWS = 100_000
NUM_VIEWS = 2
SHIFT_FLIP = {"name": "affine", "shift_pixels": 2, "flip_horizontal": True}
ALL = {**SHIFT_FLIP, "rotate_degrees": 10, "scale": 0.1}


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def interleaved(*ways: Callable[[int], object], rounds: int = 15, calls: int = 40) -> list[list[float]]:
    """Seconds a call of each way, in rounds that take turns, so that a busy machine hits all alike."""
    for way in ways:
        way(0)
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds):
        for way, found in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            for call in range(calls):
                way(turn * calls + call)
            found.append((time.perf_counter() - started) / calls)
    return seconds


def ratio(limit: list[float], ours: list[float]) -> float:
    """Median over rounds of limit / ours: 1 is the limit itself."""
    return statistics.median(theirs / mine for theirs, mine in zip(limit, ours, strict=True))


def micros(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:8.1f} us"


def stored(folder: Path, codec: str, num_classes: int) -> SoftTargets:
    """Random rows in the layout of the store, without a teacher."""
    logits = np.random.default_rng(0).normal(0, 4, (NUM_VIEWS * NUM_ROWS, num_classes)).astype(np.float32)
    encoded = CODECS[codec].encode(logits)
    encoded.tofile(folder / "logits.bin")
    np.save(folder / "rows.npy", np.arange(NUM_ROWS))
    names = tuple(str(label) for label in range(num_classes))
    header = Header(
        identity=Identity(teacher_digest="", data_digest="", view_spec={}, class_names=names),
        codec=codec,
        num_views=NUM_VIEWS,
        num_rows=NUM_ROWS,
        num_classes=num_classes,
        row_stride_bytes=encoded.shape[1],
        rows_per_chunk=4096,
        chunk_sha256=(),
        batch_size=256,
        precision="fp32",
        error={},
        candidates=(),
    )
    write_header(folder, header)
    return SoftTargets.load(folder)


@pytest.mark.parametrize("num_classes", [10, 100, 1000])
@pytest.mark.parametrize("codec", ["fp32", "fp16"])
def test_reading_is_as_fast_as_taking_from_memory(tmp_path: Path, codec: str, num_classes: int) -> None:
    """A shuffled read of raw rows reaches 0.90 of numpy.take on the same bytes in memory; decode is shown beside it."""
    targets = stored(tmp_path, codec, num_classes)
    memory = np.fromfile(tmp_path / "logits.bin", dtype=np.uint8).reshape(targets.stored.shape)
    order = np.random.default_rng(1).permutation(NUM_ROWS)
    batches = [order[start : start + BATCH] for start in range(0, NUM_ROWS - BATCH, BATCH)]
    tensors = [torch.from_numpy(batch) for batch in batches]
    out = np.empty((BATCH, memory.shape[1]), dtype=np.uint8)
    assert targets.stored.sum(dtype=np.uint64) == memory.sum(dtype=np.uint64)

    limit, read, gather = interleaved(
        lambda n: np.take(memory, batches[n % len(batches)], axis=0, out=out, mode="clip"),
        lambda n: targets.read(batches[n % len(batches)], out),
        lambda n: targets.gather(tensors[n % len(batches)], 0),
    )

    found = ratio(limit, read)
    print(
        f"\n{codec} C={num_classes:<5} take {micros(limit)}   read {micros(read)} = {found:.2f} of take   "
        f"gather (look-up, check, decode) {micros(gather)} = {ratio(limit, gather):.2f}"
    )
    assert found >= 0.90


def samples_and_ids(count: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, np.ndarray]:
    samples = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    digests = b"".join(hashlib.sha256(str(index).encode()).digest()[:16] for index in range(count))
    return samples, np.frombuffer(digests, dtype=np.uint8).reshape(count, 16)


def drawn_by_torch(samples: torch.Tensor, rows: torch.Tensor, *, turn: bool) -> torch.Tensor:
    """The same augmentation with torch's own generator, which nobody could replay."""

    def integers(low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (len(rows),))

    motion = Motion(1 - 2 * integers(0, 1), integers(-2, 2), integers(-2, 2))
    picked = samples.index_select(0, rows)
    if not turn:
        return shifted(picked, motion, 0)
    turned = Motion(motion.side, motion.shift_x, motion.shift_y, turn_table(640)[integers(0, 1280)])
    return resampled(picked, turned.to(torch.int32), 0)


@pytest.mark.parametrize(("transform", "allowed"), [(SHIFT_FLIP, 1.25), (ALL, 1.15)], ids=["shift and flip", "all"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_replaying_views_costs_little(transform: dict[str, object], allowed: float, shape: tuple[int, ...]) -> None:
    """An epoch of views made batch by batch, numbers from the counter-based generator against torch's own."""
    samples, ids = samples_and_ids(40 * BATCH, shape)
    params = ViewParams(count=1000, transforms=(transform,))
    replayed, prepared = (ViewBank(samples, ids, params, limit_bytes=limit) for limit in (0, 10**12))
    batches = torch.randperm(len(samples)).split(BATCH)

    # Each round is one epoch over a new view, so that drawing its numbers is paid for in it.
    theirs, ours, ready = interleaved(
        lambda n: drawn_by_torch(samples, batches[n % 40], turn="scale" in transform),
        lambda n: replayed.batch(batches[n % 40], 1 + n // 40),
        lambda n: prepared.batch(batches[n % 40], 1),
        rounds=9,
    )

    found = 1 / ratio(theirs, ours)
    print(
        f"\n{list(shape)} {'all' if 'scale' in transform else 'shift, flip'}: torch's generator {micros(theirs)}   "
        f"replayed {micros(ours)} = {found:.2f} x   prepared {micros(ready)} = {1 / ratio(theirs, ready):.2f} x"
    )
    assert found <= allowed
