"""What replayed views cost: numbers from the counter-based generator against torch's own, for every transform."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.params import ViewParams
from components.views import ViewBank, _Steps

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("one_thread")]
BATCH, BATCHES, ROUNDS = 256, 160, 7
NUM_SAMPLES = BATCH * BATCHES
ALLOWED = 1.05
SHIFT_FLIP = {"name": "affine", "shift_pixels": 2, "flip_horizontal": True}
TRANSFORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "shift and flip": (SHIFT_FLIP,),
    "affine": ({**SHIFT_FLIP, "rotate_degrees": 10, "scale": 0.1},),
    "resized crop": ({"name": "resized_crop"},),
    "brightness and contrast": ({"name": "color_jitter", "brightness": 0.3, "contrast": 0.3},),
    "colour": ({"name": "color_jitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue_degrees": 20},),
    "erasing": ({"name": "erasing"},),
    "erasing with noise": ({"name": "erasing", "fill": "noise"},),
    "mixup": ({"name": "mixup"},),
    "cutmix": ({"name": "cutmix"},),
    "shift, flip and mixup": (SHIFT_FLIP, {"name": "mixup"}),
}
SHAPES = [(1, 28, 28), (3, 32, 32)]
CASES = [
    pytest.param(shape, name, id=f"{name}, {'x'.join(map(str, shape))}")
    for name in TRANSFORMS
    for shape in SHAPES
    if shape[0] == 3 or name != "colour"
]


class TorchDraws:
    """The same numbers asked of torch's own generator, which nobody could replay."""

    def __init__(self, count: int) -> None:
        self.count = count

    def integers(self, low: int, high: int, *, word: int) -> Tensor:
        return torch.randint(low, high + 1, (self.count,))

    def noise(self, count: int) -> Tensor:
        return torch.randint(0, 256, (self.count, count), dtype=torch.uint8)

    def within(self, scope: str) -> TorchDraws:
        return self


class TorchViews:
    """Views through the same transforms."""

    def __init__(self, samples: Tensor, params: ViewParams) -> None:
        self.samples, self.steps = samples, _Steps(params, tuple(samples.shape[1:]))

    def batch(self, rows: Tensor) -> Tensor:
        draws = TorchDraws(len(rows))
        own = self.steps.transform(self.samples.index_select(0, rows), draws)
        if not self.steps.mixes:
            return own
        partners = self.samples.index_select(0, draws.integers(0, len(self.samples) - 1, word=0))
        return self.steps.mixing(own, self.steps.transform(partners, draws), draws)


def samples_and_ids(shape: tuple[int, ...]) -> tuple[Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (NUM_SAMPLES, *shape), dtype=torch.uint8, generator=generator)
    digests = b"".join(hashlib.sha256(str(index).encode()).digest()[:16] for index in range(NUM_SAMPLES))
    return samples, np.frombuffer(digests, dtype=np.uint8).reshape(NUM_SAMPLES, 16)


def seconds(make: Callable[[], object]) -> float:
    """Of this thread, so that what else the machine does is left out."""
    started = time.thread_time()
    make()
    return time.thread_time() - started


def epoch(calls: list[list[float]]) -> float:
    """Seconds a batch of a usual epoch, from [rounds][batches]: the first batch, which draws for all, counts in full."""
    first = statistics.median(batches[0] for batches in calls)
    others = statistics.median(call for batches in calls for call in batches[1:])
    return (first + (BATCHES - 1) * others) / BATCHES


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_replaying_views_costs_little(shape: tuple[int, ...], name: str) -> None:
    """An epoch of views made batch by batch, the drawing of its numbers included, costs at most 1.05 of torch's own."""
    samples, ids = samples_and_ids(shape)
    params = ViewParams(count=1000, transforms=TRANSFORMS[name])
    theirs, ours = TorchViews(samples, params), ViewBank(samples, ids, params, limit_bytes=0)
    batches = torch.randperm(NUM_SAMPLES).split(BATCH)
    theirs.batch(batches[0])
    torchs: list[list[float]] = [[] for _ in range(ROUNDS)]
    replayed: list[list[float]] = [[] for _ in range(ROUNDS)]

    # Each round is one epoch over a new view; the two are half an epoch apart, so that neither warms the other's cache.
    for turn in range(ROUNDS):
        for place in range(BATCHES):
            torchs[turn].append(seconds(partial(theirs.batch, batches[place])))
            rows = batches[(place + BATCHES // 2) % BATCHES]
            replayed[turn].append(seconds(partial(ours.batch, rows, 1 + turn)))

    found = epoch(replayed) / epoch(torchs)
    print(
        f"\n{name}, {list(shape)}: torch's generator {epoch(torchs) * 1e6:,.0f} us a batch   "
        f"replayed {epoch(replayed) * 1e6:,.0f} us = {found:.3f} x"
    )
    assert found <= ALLOWED


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prepared_views_cost_a_copy(shape: tuple[int, ...]) -> None:
    """A view kept in memory costs at most 1.15 of gathering the samples themselves."""
    samples, ids = samples_and_ids(shape)
    params = ViewParams(count=2, transforms=(SHIFT_FLIP, {"name": "mixup"}))
    bank = ViewBank(samples, ids, params, limit_bytes=10**12)
    batches = torch.randperm(NUM_SAMPLES).split(BATCH)
    bank.batch(batches[0], 1)
    pairs = [
        (
            seconds(partial(samples.index_select, 0, batches[place])),
            seconds(partial(bank.batch, batches[place - BATCHES // 2], 1)),
        )
        for _ in range(ROUNDS)
        for place in range(BATCHES)
    ]
    gather, ready = (statistics.median(column) for column in zip(*pairs, strict=True))

    print(f"\n{list(shape)}: gather {gather * 1e6:,.0f} us   prepared {ready * 1e6:,.0f} us = {ready / gather:.2f} x")
    assert ready <= 1.15 * gather
