"""The teacher live says what is stored of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from components.soft_targets.live import LiveTeacher
from components.soft_targets.reader import SoftTargets
from components.views import ViewBank


class Remembers:
    """A convolution with what follows, whose last bits depend on the batch it is asked in; keeps the batch sizes."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = torch.nn.Sequential(
                torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 4)
            ).eval()
        self.batch_sizes: list[int] = []

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(samples))
        logits: torch.Tensor = self.module(samples.float() / 255)
        return logits


@pytest.mark.parametrize("count", [1, 7, 8, 9, 37])
def test_live_logits_are_the_stored_ones(make: Callable[..., Any], bank: ViewBank, count: int) -> None:
    """Any rows in any order, in every view, within 1e-4; asked in batches of one size, the last one padded."""
    teacher = Remembers()
    stored = SoftTargets.load(make(teacher=teacher, codec="fp32")[0])
    rows = np.random.default_rng(count).permutation(stored.rows)[:count]
    live = LiveTeacher(teacher, bank, batch_size=8)
    teacher.batch_sizes.clear()

    for view in range(2 * stored.num_views):
        found = live.take(live.places(rows), view)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, stored.gather(torch.from_numpy(rows), view), rtol=0, atol=1e-4)
    assert set(teacher.batch_sizes) == {8}


def test_a_teacher_that_sees_other_views_would_be_noticed(make: Callable[..., Any], bank: ViewBank) -> None:
    """Logits of another view are further away than any rounding."""
    teacher = Remembers()
    stored = SoftTargets.load(make(teacher=teacher, codec="fp32")[0])
    live = LiveTeacher(teacher, bank, batch_size=8)

    assert (live.take(stored.rows, 1) - stored.gather(torch.from_numpy(stored.rows), 2)).abs().max() > 1e-2
