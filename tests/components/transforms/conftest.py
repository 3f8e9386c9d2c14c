"""Draws whose values a test chooses, and draws of many views."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from components.views import ViewDraws, counters_of


class Chosen:
    """Says the same number for every view: *words* by their number, else the lowest there is."""

    def __init__(self, count: int, words: Mapping[int, int]) -> None:
        self.count, self.words = count, words

    def integers(self, low: int, high: int, *, word: int) -> Tensor:
        value = self.words.get(word, low)
        assert low <= value <= high
        return torch.full((self.count,), value)

    def noise(self, count: int) -> Tensor:
        return torch.arange(self.count * count, dtype=torch.int64).view(self.count, count).to(torch.uint8)


@pytest.fixture(scope="session")
def chosen() -> type[Chosen]:
    """chosen(3, {0: 7}): word 0 of three views is 7."""
    return Chosen


@pytest.fixture
def many() -> ViewDraws:
    """The draws of 20,000 views."""
    ids = np.random.default_rng(5).integers(0, 256, (20_000, 16), dtype=np.uint8)
    return ViewDraws(counters_of(ids), seed=1, view=1, device=torch.device("cpu"))


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """noise(2, 3, 8, 9): pictures of random pixels, [2, 3, 8, 9]."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    return make
