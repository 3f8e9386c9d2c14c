"""Reading soft targets against the limit (numpy.take from memory)."""

from __future__ import annotations

import os
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
from components.training.reproducible import Windows, epoch_batches

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


def stored(folder: Path, codec: str, num_classes: int, num_rows: int = NUM_ROWS) -> SoftTargets:
    """Random rows in the layout of the store, without a teacher."""
    draw = np.random.default_rng(0)
    with (folder / "logits.bin").open("wb") as stream:
        for _ in range(NUM_VIEWS):
            logits = draw.normal(0, 4, (num_rows, num_classes)).astype(np.float32)
            encoded = CODECS[codec].encode(logits)
            encoded.tofile(stream)
    np.save(folder / "rows.npy", np.arange(num_rows))
    names = tuple(str(label) for label in range(num_classes))
    header = Header(
        identity=Identity(teacher_digest="", data_digest="", view_spec={}, class_names=names),
        codec=codec,
        num_views=NUM_VIEWS,
        num_rows=num_rows,
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


class OneByOne(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What a per-sample loader reads: a row at a time, made float32, out of the memory map or out of memory."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.logits[row].astype(np.float32))


def endless(loader: torch.utils.data.DataLoader) -> Iterator[torch.Tensor]:  # type: ignore[type-arg]
    while True:
        yield from loader


@pytest.mark.parametrize("num_classes", [10, 100])
def test_reading_beats_loading_sample_by_sample(tmp_path: Path, num_classes: int) -> None:
    """100 x a DataLoader that takes row by row from the same map, without workers or with 2; 1,000 x a file a sample.

    With 100 classes memory itself is the limit: there the bar is 0.75 of what numpy.take from memory reaches.
    All deliver shuffled batches of the same fp16 rows as float32, warm. The file of one sample is written by
    torch.save, as feature caches commonly are. A DataLoader over an array in memory is shown beside them.
    """
    targets = stored(tmp_path, "fp16", num_classes)
    logits = np.memmap(tmp_path / "logits.bin", dtype=np.float16, mode="r").reshape(-1, num_classes)[:NUM_ROWS]
    memory, out = np.array(logits), np.empty((BATCH, num_classes), dtype=np.float16)
    batches = [batch.numpy() for batch in shuffled()]
    places = np.split(targets.places(np.concatenate(batches)), len(batches))
    files = [tmp_path / f"{row}.pt" for row in range(20 * BATCH)]
    for row, file in enumerate(files):
        torch.save(torch.from_numpy(np.array(logits[row])), file)
    some = torch.randperm(len(files)).tolist()

    def loader(rows: np.ndarray, workers: int) -> Iterator[torch.Tensor]:
        return endless(
            torch.utils.data.DataLoader(
                OneByOne(rows),
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

    alone, two, in_memory = loader(logits, 0), loader(logits, 2), loader(memory, 0)
    # Readers of less than a millisecond take turns among themselves, since files by the thousand empty every cache.
    take, limit, by_row, by_array = interleaved(
        spread(lambda n: targets.take(places[n], 0), 0),
        spread(lambda n: np.take(memory, batches[n], axis=0, out=out, mode="clip"), 1),
        lambda _: next(alone),
        lambda _: next(in_memory),
    )
    again, by_row_2, by_file = interleaved(
        lambda n: targets.take(places[n % len(places)], 0), lambda _: next(two), from_files, rounds=9, calls=10
    )

    print(
        f"\nC={num_classes}: read {micros(take)}   DataLoader {micros(by_row)} = {ratio(by_row, take):,.0f} x "
        f"(numpy.take {ratio(by_row, limit):,.0f} x; over an array in memory {ratio(by_array, take):,.0f} x), "
        f"with 2 workers {micros(by_row_2)} = {ratio(by_row_2, again):,.0f} x   "
        f"a file a sample {micros(by_file)} = {ratio(by_file, again):,.0f} x"
    )
    assert min(ratio(by_row, take), ratio(by_row_2, again)) >= min(100, 0.75 * ratio(by_row, limit))
    assert ratio(by_file, again) >= 1000


def bytes_from_disk() -> int:
    """Of this process so far, what the system read ahead for it included."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def forget(file: Path) -> None:
    """Drop *file* from the page cache; nothing may have it mapped."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_windows_spare_a_cold_disk(tmp_path: Path) -> None:
    """With nothing in the page cache, windows of chunks that are announced read what they need, and little more.

    A full shuffle touches a page of 4,096 bytes for every row of 200, and what the system reads around it.
    """
    num_rows, windows, num_batches = 1_000_000, Windows(4096, 16), 256
    stored(tmp_path, "fp16", 100, num_rows)
    needed = num_batches * BATCH * 200

    def read(windows: Windows | None, *, announced: bool) -> tuple[float, float]:
        """Seconds and bytes of the first *num_batches* of an epoch."""
        forget(tmp_path / "logits.bin")
        targets = SoftTargets.load(tmp_path)
        batches = epoch_batches(targets.rows, num_drawn=num_rows, batch_size=BATCH, seed=0, epoch=0, windows=windows)[
            :num_batches
        ]
        places = [targets.places(batch) for batch in batches]
        before, started = bytes_from_disk(), time.perf_counter()
        if announced:
            targets.expect(np.concatenate(places), 0)
        for batch in places:
            targets.take(batch, 0)
        return time.perf_counter() - started, bytes_from_disk() - before

    ways = {"full": (None, False), "windows": (windows, False), "windows, announced": (windows, True)}
    found = {name: [read(*way[:1], announced=way[1]) for _ in range(5)] for name, way in ways.items()}
    if not found["full"][0][1]:
        pytest.skip("this file system keeps its files in memory")
    seconds = {name: statistics.median(took for took, _ in runs) for name, runs in found.items()}
    read_bytes = {name: statistics.median(read for _, read in runs) for name, runs in found.items()}
    for name in ways:
        print(
            f"\ncold, {name}: {seconds[name] / num_batches * 1e6:,.0f} us a batch, {read_bytes[name] / needed:.1f} x "
            "the bytes of its rows",
            end="",
        )
    print()
    assert read_bytes["windows, announced"] <= 1.3 * needed
    assert seconds["windows, announced"] <= seconds["full"] / 2
