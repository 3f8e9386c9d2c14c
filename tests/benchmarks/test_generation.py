"""Making soft targets against the bare forward pass of the teacher over the same views."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.contracts import NoProgress
from components.params import SoftTargetParams, ViewParams
from components.soft_targets.header import Identity
from components.soft_targets.writer import write_soft_targets
from components.views import ViewBank

pytestmark = pytest.mark.bench
BATCH = 256
NUM_ROWS = 4096
NUM_VIEWS = 4
SHIFT_FLIP = {"name": "affine", "shift_pixels": 2, "flip_horizontal": True}


def samples_and_ids(shape: tuple[int, ...]) -> tuple[torch.Tensor, np.ndarray]:
    samples = torch.randint(0, 256, (NUM_ROWS, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    digests = b"".join(hashlib.sha256(str(index).encode()).digest()[:16] for index in range(NUM_ROWS))
    return samples, np.frombuffer(digests, dtype=np.uint8).reshape(NUM_ROWS, 16)


def network(shape: tuple[int, ...], num_classes: int) -> torch.nn.Module:
    """A teacher smaller than any of the recipes': a larger one would hide more of what the writer costs."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(shape[0], 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(),
        torch.nn.Linear(1024, num_classes),
    ).eval()  # fmt: skip


class Timed:
    """The teacher, and the seconds it took."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.seconds = 0.0

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        logits: torch.Tensor = self.module(samples.float() / 255)
        self.seconds += time.perf_counter() - started
        return logits


@pytest.mark.parametrize(("shape", "num_classes"), [((1, 28, 28), 10), ((3, 32, 32), 100)], ids=["C=10", "C=100"])
def test_generation_is_the_teachers_forward_pass(
    bench: Any, tmp_path: Path, shape: tuple[int, ...], num_classes: int
) -> None:
    """Views, codec, chunks, hashes and fsync leave 0.95 of the time to the teacher.

    The figure asserted is the teacher's share of the writer's own seconds, which a busy machine stretches alike; the
    same forward passes alone, over views that lie ready, in turns with the writer, are shown beside it.
    """
    samples, ids = samples_and_ids(shape)
    views = ViewParams(count=NUM_VIEWS, transforms=(SHIFT_FLIP,))
    teacher = Timed(network(shape, num_classes))
    ready = ViewBank(samples, ids, views, limit_bytes=10**12)
    names = tuple(str(label) for label in range(num_classes))
    shares: list[float] = []

    def bare(_: int) -> None:
        with torch.inference_mode():
            for view in range(NUM_VIEWS):
                for rows in torch.arange(NUM_ROWS).split(BATCH):
                    teacher(ready.batch(rows, view))

    def written(number: int) -> None:
        out, work = (tmp_path / f"{name}-{number}-{time.monotonic_ns()}" for name in ("out", "work"))
        out.mkdir()
        before, started = teacher.seconds, time.perf_counter()
        write_soft_targets(
            teacher=teacher,
            bank=ViewBank(samples, ids, views, limit_bytes=0),
            rows=np.arange(NUM_ROWS),
            num_views=NUM_VIEWS,
            identity=Identity(teacher_digest="t", data_digest="d", view_spec={}, class_names=names),
            params=SoftTargetParams(),
            out=out,
            work=work,
            progress=NoProgress(),
        )
        shares.append((teacher.seconds - before) / (time.perf_counter() - started))

    limit, ours = bench.interleaved(bare, written, rounds=5, calls=1)
    share = statistics.median(shares)
    print(
        f"\nC={num_classes}: the teacher's share of the writer's seconds {share:.3f}; forward alone "
        f"{statistics.median(limit):.2f} s, written {statistics.median(ours):.2f} s = {1 / bench.ratio(ours, limit):.2f} of it"
    )
    assert share >= 0.95
