"""How measured claims are measured: ways that take turns, one thread, medians of ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from components.contracts import DataSpec, ModelParams, Objective
from components.params import OptimizerParams, TrainParams, ViewParams
from components.training import loop
from components.training.losses import BatchLoss, Targets
from components.training.reproducible import initialised, reproducible
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload

SHAPE = (1, 28, 28)
SPEC = DataSpec(SHAPE, tuple("0123456789"), (0.13,), (0.31,), num_train=10_000)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, so that both sides have the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unchanged(samples: np.ndarray) -> ViewBank:
    """The samples themselves as their only view."""
    return ViewBank(torch.from_numpy(samples), np.zeros((len(samples), 16), np.uint8), ViewParams(), limit_bytes=0)


class Steps:
    """The real training loop, driven a step at a time; nothing is validated and no checkpoint is due."""

    def __init__(
        self,
        model: ModelParams,
        samples: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        num_views: int = 1,
        objective: Objective | None = None,
        targets: Targets | None = None,
        channels_last: bool = False,
    ) -> None:
        params = TrainParams(
            epochs=100_000,
            batch_size=batch_size,
            optimizer=OptimizerParams(learning_rate=1e-3),
            warmup_share=0,
            channels_last=channels_last,
        )
        loss = BatchLoss(
            model=loop._placed(initialised(model, SPEC, seed=0), torch.device("cpu"), params),
            labels=labels,
            train_rows=np.arange(len(samples)),
            workload=Workload().build(),
            params=params,
            views=unchanged(samples),
            device=torch.device("cpu"),
            objective=objective,
            targets=targets,
        )
        self.loop = loop._Loop(loss, np.arange(len(samples)), num_drawn=len(samples), seed=0, num_views=num_views)
        self.loop.begin_epoch()

    def __call__(self, _: int = 0) -> None:
        if self.loop.step == self.loop.epoch_end:
            self.loop.look()
            self.loop.history.end_epoch({}, learning_rate=0.0)
            self.loop.begin_epoch()
        self.loop.take_step()
        if self.loop.must_tell:
            self.loop.look()
            self.loop.told_step, self.loop.told_at = self.loop.step, time.monotonic()


class Bench:
    """Takes turns and compares."""

    spec = SPEC
    steps = Steps
    views = staticmethod(unchanged)

    @staticmethod
    def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise in the shape of MNIST, uint8 [N, 1, 28, 28], and labels [N]: a step costs what it costs on digits."""
        draw = np.random.Generator(np.random.Philox(0))
        return draw.integers(0, 256, (count, *SHAPE), dtype=np.uint8), draw.integers(0, 10, count)

    @staticmethod
    def interleaved(*ways: Callable[[int], object], rounds: int = 15, calls: int = 40) -> list[list[float]]:
        """Seconds a call of each way, in rounds that take turns, so that a busy machine hits all alike.

        Ways are called with a running number and begin a fixed share of all calls apart, so that none finds in
        the processor's cache what the one before it has just touched.
        """
        apart = rounds * calls // len(ways)
        for way in ways:
            way(0)
        seconds: list[list[float]] = [[] for _ in ways]
        for turn in range(rounds):
            for place, (way, found) in enumerate(zip(ways, seconds, strict=True)):
                first = turn * calls + place * apart
                started = time.perf_counter()
                for call in range(first, first + calls):
                    way(call)
                found.append((time.perf_counter() - started) / calls)
        return seconds

    @staticmethod
    def ratio(ours: list[float], limit: list[float]) -> float:
        """Median over rounds of ours / limit, in seconds: 1 is the limit itself, below 1 is faster."""
        return statistics.median(mine / theirs for mine, theirs in zip(ours, limit, strict=True))

    @staticmethod
    def micros(seconds: list[float]) -> str:
        return f"{statistics.median(seconds) * 1e6:,.1f} us"


@pytest.fixture
def bench(one_thread: None, tmp_path: Path) -> Iterator[Bench]:
    """The same kernels and random state as in a real training."""
    with reproducible():
        yield Bench()
