"""Models, data and signals that objectives are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components import plugins
from components.contracts import Batch, DataSpec, ModelTaps, Objective, ObjectiveParams, ObjectiveSpec, Signals

DATA = DataSpec((1, 8, 8), tuple("abcdefg"), (0.5,), (0.25,), num_train=100)
POINTS = ("stage1", "stage2", "embedding")
STUDENT = ModelTaps(POINTS, {"stage1": (4, 8, 8), "stage2": (6, 4, 4), "embedding": (6,)})
TEACHER = ModelTaps(POINTS, {"stage1": (5, 8, 8), "stage2": (7, 4, 4), "embedding": (9,)})
NEEDED: dict[str, dict[str, Any]] = {"combined": {"parts": [{"name": "kd"}, {"name": "kd", "temperature": 1}]}}
"""Parameters without a default."""


def spec(
    data: DataSpec = DATA,
    *,
    student: ModelTaps = STUDENT,
    teacher: ModelTaps | None = TEACHER,
    train_labels: Sequence[int] | None = None,
) -> ObjectiveSpec:
    """For *data* of any labels: class after class, unless *train_labels* says otherwise."""
    labels = np.arange(data.num_train) % data.num_classes if train_labels is None else np.array(train_labels)
    return ObjectiveSpec(data, student, teacher, labels.astype(np.int64))


def built(name: str, /, **params: Any) -> Objective:
    """The objective *name* with *params*, always with the same initial weights."""
    found = plugins.params_class("objectives", name).model_validate({"name": name, **NEEDED.get(name, {}), **params})
    assert isinstance(found, ObjectiveParams)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return found.build(spec())


def signals(seed: int, count: int, *, dtype: torch.dtype = torch.float32) -> tuple[Signals, Signals]:
    """Student's and teacher's logits [N, C] and features at all points, random."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return (torch.randn(count, *shape, generator=generator, dtype=torch.float64) * 3).to(dtype)

    student, teacher = (
        Signals(drawn(DATA.num_classes), {point: drawn(*taps.shapes[point]) for point in POINTS})
        for taps in (STUDENT, TEACHER)
    )
    return student, teacher


def batch(count: int, *, unlabelled: int = 0, progress: float = 0.5) -> Batch:
    """*count* rows whose first *unlabelled* have no label."""
    labels = torch.arange(count) % DATA.num_classes
    labels[:unlabelled] = -1
    return Batch(
        labels, labels >= 0, sample_index=torch.arange(count) + 3, place=torch.arange(count), progress=progress
    )


def at(rows: Tensor, said: Signals) -> Signals:
    """The same of some rows only, in the order asked for."""
    return Signals(said.logits[rows], {point: heard[rows] for point, heard in said.features.items()})


def leaves(said: Signals) -> Signals:
    """The same as leaves that gradients are asked of."""
    return Signals(
        said.logits.clone().requires_grad_(),
        {point: heard.clone().requires_grad_() for point, heard in said.features.items()},
    )


def reference() -> tuple[Signals, Signals, Batch]:
    """Logits [64, 100] and labels on which other implementations were run, drawn in this order from seed 0."""
    generator = torch.Generator().manual_seed(0)
    student = Signals(torch.randn(64, 100, generator=generator) * 3)
    teacher = Signals(torch.randn(64, 100, generator=generator) * 4)
    labels = torch.randint(0, 100, (64,), generator=generator)
    rows = torch.arange(64)
    return student, teacher, Batch(labels, labels >= 0, sample_index=rows, place=rows, progress=0.5)


def softened(said: Signals, temperature: float) -> Signals:
    """Logits divided by *temperature*."""
    return Signals(said.logits / temperature)
