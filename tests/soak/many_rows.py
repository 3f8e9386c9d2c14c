"""Run by test_ten_million_rows.py in a process of its own: writes and reads many rows, and prints what it cost."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from components.contracts import NoProgress
from components.params import SoftTargetParams, ViewParams
from components.soft_targets.header import Identity
from components.soft_targets.reader import SoftTargets
from components.soft_targets.writer import write_soft_targets
from components.training.reproducible import epoch_batches
from components.views import ViewBank

CHECKED = 50
"""Every so manieth batch is compared with the teacher."""


def anonymous_bytes() -> int:
    """Resident memory that is no file's: the page cache, and pages mapped from it, are not in it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


class Peak:
    """The most anonymous memory that was seen, looked at twenty times a second."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, anonymous_bytes())
            time.sleep(0.05)


@contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    found[name] = time.monotonic() - started


def main(folder: Path, num_rows: int, num_classes: int) -> None:
    """Ask a linear teacher about *num_rows* pictures of four pixels, and read all of them back in shuffled order."""
    torch.set_num_threads(1)
    draw = np.random.Generator(np.random.Philox(0))
    samples = torch.from_numpy(draw.integers(0, 256, (num_rows, 1, 2, 2), dtype=np.uint8))
    ids = draw.integers(0, 256, (num_rows, 16), dtype=np.uint8)
    weights = torch.from_numpy(draw.normal(0, 4, (4, num_classes)).astype(np.float32))

    def teacher(batch: torch.Tensor) -> torch.Tensor:
        return (batch.flatten(1).float() / 255) @ weights

    out, found, peak = folder / "out", {"anonymous_bytes_at_start": float(anonymous_bytes())}, Peak()
    out.mkdir()
    with timed(found, "seconds_writing"):
        write_soft_targets(
            teacher=teacher,
            bank=ViewBank(samples, ids, ViewParams(), limit_bytes=0),
            rows=np.arange(num_rows),
            num_views=1,
            identity=Identity(
                teacher_digest="t",
                data_digest="d",
                view_spec={},
                class_names=tuple(str(label) for label in range(num_classes)),
            ),
            params=SoftTargetParams(codec="fp16", batch_size=4096, rows_per_chunk=65_536),
            out=out,
            work=folder / "work",
            progress=NoProgress(),
        )
    found["peak_anonymous_bytes_writing"], peak.bytes = peak.bytes, 0

    targets, rows_read = SoftTargets.load(out), 0
    with timed(found, "seconds_reading"):
        batches = epoch_batches(targets.rows, num_drawn=num_rows, batch_size=1024, seed=0, epoch=0)
        ends = np.cumsum([len(batch) for batch in batches[:-1]])
        for number, places in enumerate(np.split(targets.places(np.concatenate(batches)), ends)):
            logits = targets.take(places, 0)
            rows_read += len(logits)
            if number % CHECKED == 0:
                said = teacher(samples[torch.from_numpy(batches[number])])
                torch.testing.assert_close(logits, said.half().float(), rtol=1e-3, atol=1e-3)
    found |= {"peak_anonymous_bytes_reading": peak.bytes, "rows_read": rows_read}
    found["bytes_stored"] = (out / "logits.bin").stat().st_size
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
