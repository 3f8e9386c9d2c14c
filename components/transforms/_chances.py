"""Chances and shares as whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from components.contracts import Draws

CHANCES = 1 << 16
SHARE_BITS = 8
SHARES = 1 << SHARE_BITS
"""Shares are whole numbers of 1/256."""
LEVELS = 4096
"""How many equally likely shares a table holds."""


@dataclass(frozen=True, slots=True)
class Chance:
    """Whether something happens to a view."""

    wins: int
    """Out of CHANCES."""

    @classmethod
    def of(cls, probability: float) -> Chance:
        """To the nearest step, and one step at least."""
        return cls(max(1, round(probability * CHANCES)))

    @property
    def always(self) -> bool:
        return self.wins == CHANCES

    def draw(self, draws: Draws, *, word: int) -> Tensor:
        """[B] bool."""
        return draws.integers(0, CHANCES - 1, word=word) < self.wins


@lru_cache(maxsize=8)
def share_table(beta: float) -> Tensor:
    """int64 [LEVELS], ascending: the middle quantiles of Beta(beta, beta), each to the nearest 1/256.

    The quantile function is computed in double precision, some 1e-13 off at most: the nearest 1/256 is the same on
    every machine unless a quantile lies as near as that to the middle between two. The upper half mirrors the lower.
    """
    from scipy.special import betaincinv

    lower = betaincinv(beta, beta, (torch.arange(LEVELS // 2).numpy() + 0.5) / LEVELS)
    shares = [round(float(quantile) * SHARES) for quantile in lower]
    return torch.tensor(shares + [SHARES - share for share in reversed(shares)])
