"""Everything random or order-dependent in training, as a pure function of a seed and a position."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.contracts import DataSpec, ModelParams, Objective, ObjectiveParams, ObjectiveSpec

# What a stream of random numbers is for; a stream is named by (seed, purpose, epoch).
_INITIAL_WEIGHTS, _ORDER, _DROPOUT, _OBJECTIVE = range(4)


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic kernels and private random state; what was set before is back afterwards."""
    deterministic: Any = torch.utils.deterministic
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill, benchmark = deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    # cuBLAS refuses deterministic mode without it; it is read when the first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Deterministic mode would fill every new tensor with NaN first, which costs time and finds only bugs in kernels.
    deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


def initialised(params: ModelParams, data: DataSpec, *, seed: int) -> nn.Module:
    """Build the model with initial weights that depend on *seed* alone, and on the files that it begins with."""
    with _seeded(seed, _INITIAL_WEIGHTS):
        module = params.build(data)
        params.begin(module)
        return module


def initialised_objective(params: ObjectiveParams, spec: ObjectiveSpec, *, seed: int) -> Objective:
    """Build the objective with initial weights and memories that depend on *seed* alone."""
    with _seeded(seed, _OBJECTIVE):
        return params.build(spec)


@contextmanager
def _seeded(seed: int, purpose: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_words(seed, purpose, 0, 1)[0])
        yield


@dataclass(frozen=True, slots=True)
class Windows:
    """A shuffle that stays local for a while: so much of the stored rows is in use at a time, and no more."""

    chunk_rows: int
    """Neighbouring rows that stay together."""
    window_chunks: int
    """Chunks whose rows are mixed with each other."""

    @property
    def num_rows(self) -> int:
        """In one window."""
        return self.chunk_rows * self.window_chunks


def epoch_batches(
    rows: NDArray[np.int64],
    *,
    num_drawn: int,
    batch_size: int,
    seed: int,
    epoch: int,
    windows: Windows | None = None,
) -> list[NDArray[np.int64]]:
    """The batches of one epoch: *num_drawn* of *rows* [N] in a fresh order, wholly random or within *windows*.

    Batches differ by one row at most, so that none is a sliver with noisy statistics. Where fewer rows
    exist than are drawn, they come round again, each pass in an order of its own.
    """
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, _ORDER, epoch))))
    passes = [_shuffled(rows, draw, windows) for _ in range(-(-num_drawn // len(rows)))]
    order = np.concatenate(passes)[:num_drawn]
    return np.array_split(order, -(-num_drawn // batch_size))


def _shuffled(rows: NDArray[np.int64], draw: np.random.Generator, windows: Windows | None) -> NDArray[np.int64]:
    """Every row once: chunks in random order, and within each window of them rows in random order.

    As in the "quasi-random" order of Leclerc et al., "FFCV: accelerating training by removing data bottlenecks"
    (CVPR 2023): each stored page is then needed during one window of an epoch only.
    """
    if windows is None:
        return draw.permutation(rows)
    starts = draw.permutation(np.arange(0, len(rows), windows.chunk_rows))
    chunks = [rows[start : start + windows.chunk_rows] for start in starts]
    size = windows.window_chunks
    mixed = [draw.permutation(np.concatenate(chunks[at : at + size])) for at in range(0, len(chunks), size)]
    return np.concatenate(mixed)


def step_seeds(num_steps: int, *, seed: int, epoch: int) -> list[int]:
    """A seed for the dropout of every step of one epoch, so that a resumed run drops the same values."""
    return _words(seed, _DROPOUT, epoch, num_steps)


def seed_step(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _words(seed: int, purpose: int, epoch: int, count: int) -> list[int]:
    return [int(word) for word in np.random.SeedSequence((seed, purpose, epoch)).generate_state(count)]
