"""Reading soft targets against the limit (numpy.take from memory)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from components.soft_targets.codec import CODECS
from components.soft_targets.header import Header, Identity, write_header
from components.soft_targets.reader import SoftTargets

pytestmark = pytest.mark.bench
BATCH = 256
NUM_ROWS = 100_000
NUM_VIEWS = 2


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


def shuffled() -> list[torch.Tensor]:
    order = np.random.default_rng(1).permutation(NUM_ROWS)
    return list(torch.from_numpy(order).split(BATCH))[:-1]


def spread(way: Callable[[int], object], place: int) -> Callable[[int], object]:
    """Ways begin at batches far apart, so that none finds in the cache what the one before it has just read."""
    return lambda n: way((n + place * 97) % (NUM_ROWS // BATCH))


@pytest.mark.parametrize("num_classes", [10, 100, 1000])
@pytest.mark.parametrize("codec", ["fp32", "fp16"])
def test_reading_is_as_fast_as_taking_from_memory(tmp_path: Path, codec: str, num_classes: int) -> None:
    """A shuffled read of raw rows reaches 0.90 of numpy.take on the same bytes in memory; decode is shown beside it."""
    targets = stored(tmp_path, codec, num_classes)
    memory = np.fromfile(tmp_path / "logits.bin", dtype=np.uint8).reshape(targets.stored.shape)
    rows = shuffled()
    batches = [batch.numpy() for batch in rows]
    places = np.split(targets.places(np.concatenate(batches)), len(batches))
    out = np.empty((BATCH, memory.shape[1]), dtype=np.uint8)
    assert targets.stored.sum(dtype=np.uint64) == memory.sum(dtype=np.uint64)

    limit, read, take, gather = interleaved(
        spread(lambda n: np.take(memory, batches[n], axis=0, out=out, mode="clip"), 0),
        spread(lambda n: targets._read(places[n], 0), 1),
        spread(lambda n: targets.take(places[n], 0), 2),
        spread(lambda n: targets.gather(rows[n], 0), 3),
        rounds=25,
    )

    print(
        f"\n{codec} C={num_classes:<5} numpy.take {micros(limit)}   read {micros(read)} = {ratio(limit, read):.2f} of it   "
        f"decoded {micros(take)} = {ratio(limit, take):.2f}   looked up too {micros(gather)} = {ratio(limit, gather):.2f}"
    )
    assert ratio(limit, read) >= 0.90


@pytest.mark.parametrize(("codec", "least"), [("int8", 0.5), ("int4", None)])
@pytest.mark.parametrize("num_classes", [10, 100, 1000])
def test_decoding_on_the_way_is_cheap(tmp_path: Path, codec: str, least: float | None, num_classes: int) -> None:
    """Whole rows of int8 are read and decoded at 0.5 of numpy.take on float32 rows in memory; int4 is shown beside it."""
    targets = stored(tmp_path, codec, num_classes)
    memory = np.random.default_rng(0).normal(0, 4, (NUM_VIEWS * NUM_ROWS, num_classes)).astype(np.float32)
    batches = [batch.numpy() for batch in shuffled()]
    places = np.split(targets.places(np.concatenate(batches)), len(batches))
    out = np.empty((BATCH, num_classes), dtype=np.float32)

    limit, take = interleaved(
        spread(lambda n: np.take(memory, batches[n], axis=0, out=out, mode="clip"), 0),
        spread(lambda n: targets.take(places[n], 0), 1),
        rounds=25,
    )

    found = ratio(limit, take)
    print(
        f"\n{codec} C={num_classes:<5} numpy.take of fp32 {micros(limit)}   decoded {micros(take)} = {found:.2f} of it"
    )
    assert least is None or found >= least


class OneByOne(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What a per-sample loader reads: a row at a time out of the same memory map."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = torch.from_numpy(logits)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.logits[row]


def endless(loader: torch.utils.data.DataLoader) -> Iterator[torch.Tensor]:  # type: ignore[type-arg]
    while True:
        yield from loader


def test_reading_beats_loading_sample_by_sample(tmp_path: Path) -> None:
    """100 x a DataLoader that takes row by row, at its best number of workers, and 1,000 x a file a sample.

    All deliver shuffled batches of the same 100-class fp16 rows, warm. The file of one sample is written by
    torch.save, as feature caches commonly are.
    """
    targets = stored(tmp_path, "fp16", 100)
    logits = np.memmap(tmp_path / "logits.bin", dtype=np.float16, mode="c").reshape(-1, 100)[:NUM_ROWS]
    batches = [batch.numpy() for batch in shuffled()]
    places = np.split(targets.places(np.concatenate(batches)), len(batches))
    files = [tmp_path / f"{row}.pt" for row in range(20 * BATCH)]
    for row, file in enumerate(files):
        torch.save(torch.from_numpy(np.array(logits[row])), file)
    some = torch.randperm(len(files)).tolist()

    def loader(workers: int) -> Iterator[torch.Tensor]:
        return endless(
            torch.utils.data.DataLoader(
                OneByOne(logits),
                BATCH,
                shuffle=True,
                num_workers=workers,
                drop_last=True,
                persistent_workers=workers > 0,
            )
        )

    def from_files(n: int) -> torch.Tensor:
        start = n * BATCH % len(some)
        return torch.stack([torch.load(files[row], weights_only=True) for row in some[start : start + BATCH]]).float()

    alone, two = loader(0), loader(2)
    take, by_row, by_row_2, by_file = interleaved(
        lambda n: targets.take(places[n % len(places)], 0),
        lambda n: next(alone).float(),
        lambda n: next(two).float(),
        from_files,
        rounds=9,
        calls=10,
    )

    best = min(ratio(by_row, take), ratio(by_row_2, take))
    print(
        f"\nread {micros(take)}   DataLoader {micros(by_row)} = {ratio(by_row, take):,.0f} x, with 2 workers "
        f"{micros(by_row_2)} = {ratio(by_row_2, take):,.0f} x   a file a sample {micros(by_file)} = {ratio(by_file, take):,.0f} x"
    )
    assert best >= 100
    assert ratio(by_file, take) >= 1000
