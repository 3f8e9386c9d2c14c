"""From rows to the gradient of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import UNLABELLED, DataSpec, Objective
from components.objectives import kd
from components.params import TrainParams
from components.training.losses import BatchLoss, Losses
from components.workloads.image_classification import Params as Workload
from tests.components.objectives.given import spec

SPEC = DataSpec((1, 1, 1), ("a", "b", "c"), (0.5,), (0.2,), num_train=8)
TEMPERATURE = 3.0


class Table(nn.Module):
    """Its weights are the logits of the rows that it is asked about."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, rows: Tensor) -> Tensor:
        return self.logits.index_select(0, rows)


class RowNumbers:
    """A view of a row is its number."""

    def batch(self, rows: Tensor, view: int) -> Tensor:
        return rows

    def mixture(self, rows: Tensor, view: int) -> None:
        return None


class Said:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def places(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def take(self, rows: np.ndarray, view: int) -> Tensor:
        return self.logits[torch.from_numpy(rows)]


class ByAutograd:
    """An objective without its closed form."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.alpha, self.weight, self.reduction = objective.alpha, objective.weight, objective.reduction
        self.needs, self.student_taps, self.teacher_taps = objective.needs, (), ()

    def __call__(self, *signals: Any) -> Tensor:
        return self.objective(*signals)

    def parameters(self) -> Any:
        return self.objective.parameters()


def of_batch(
    student: Tensor, teacher: Tensor, labels: np.ndarray, objective: Objective | None, *, label_smoothing: float = 0.0
) -> tuple[Losses, Tensor, BatchLoss]:
    """The losses of all rows as one batch, and the gradient on the student's logits."""
    table = Table(student.clone())
    loss = BatchLoss(
        model=table,
        labels=labels,
        train_rows=np.arange(len(labels)),
        workload=Workload().build(),
        params=TrainParams(label_smoothing=label_smoothing),
        views=RowNumbers(),
        device=torch.device("cpu"),
        objective=objective,
        targets=Said(teacher),
    )
    (rows,) = loss.rows([np.arange(len(labels))])
    losses = loss(rows, view=0, done=0.0)
    losses.backward()
    assert table.logits.grad is not None
    return losses, table.logits.grad, loss


def drawn(seed: int, count: int, num_classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, count, num_classes, generator=generator).mul(3).unbind()
    return student, teacher


@given(
    seed=st.integers(0, 2**32),
    num_classes=st.integers(2, 20),
    labels=st.lists(st.integers(-1, 1), min_size=1, max_size=12).filter(lambda labels: max(labels) >= 0),
    smoothing=st.sampled_from([0.0, 0.1]),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_gradient_by_hand(seed: int, num_classes: int, labels: list[int], smoothing: float, alpha: float) -> None:
    """alpha T (softmax(z/T) - p_T) / N on all rows, and (1 - alpha) (softmax(z) - smoothed label) / M on the labelled."""
    student, teacher = drawn(seed, len(labels), num_classes)
    objective = kd.Params(alpha=alpha, temperature=TEMPERATURE).build(spec(SPEC))
    losses, found, _ = of_batch(student, teacher, np.array(labels), objective, label_smoothing=smoothing)

    z, t = student.double(), teacher.double()
    soft = TEMPERATURE * ((z / TEMPERATURE).softmax(1) - (t / TEMPERATURE).softmax(1)) / len(labels)
    known = torch.tensor(labels) != UNLABELLED
    smoothed = (
        functional.one_hot(torch.tensor(labels).clamp(min=0), num_classes) * (1 - smoothing) + smoothing / num_classes
    )
    hard = (z.softmax(1) - smoothed) * known[:, None] / known.sum()
    torch.testing.assert_close(found.double(), alpha * soft + (1 - alpha) * hard, rtol=0, atol=1e-6)
    assert (losses.num_rows, losses.num_labelled) == (len(labels), int(known.sum()))


@pytest.mark.parametrize("num_classes", [3, 40])
def test_closed_form_and_autograd_teach_the_same(num_classes: int) -> None:
    """The gradient on the logits is the same to float32 rounding, and so are both parts of the loss."""
    student, teacher = drawn(0, 16, num_classes)
    labels = np.arange(16) % 3 - 1
    objective = kd.Params(alpha=0.7).build(spec(SPEC))
    losses, gradient, _ = of_batch(student, teacher, labels, objective)
    other, expected, _ = of_batch(student, teacher, labels, ByAutograd(objective))

    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close((losses.distillation, losses.hard), (other.distillation, other.hard))


def test_parts_and_their_total() -> None:
    """Means over all rows and over the labelled ones; the total weighs them by alpha."""
    student, teacher = drawn(1, 6, 3)
    labels = np.array([0, -1, 2, -1, 1, -1])
    objective = kd.Params(alpha=0.25, temperature=1.0).build(spec(SPEC))
    losses, _, loss = of_batch(student, teacher, labels, objective)

    kl = functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    hard = functional.cross_entropy(student, torch.from_numpy(labels), ignore_index=-1)
    torch.testing.assert_close(losses.distillation, kl)
    torch.testing.assert_close(losses.hard, hard)
    assert loss.total(2.0, 10.0, done=0.0) == 0.25 * 2 + 0.75 * 10


def test_no_part_is_missed_when_nothing_is_labelled() -> None:
    """Without a label the hard part is 0 and has no rows, and the gradient is the distillation's."""
    student, teacher = drawn(2, 4, 3)
    labels = np.full(4, UNLABELLED)
    losses, gradient, _ = of_batch(student, teacher, labels, kd.Params(alpha=0.5).build(spec(SPEC)))

    assert (losses.hard.item(), losses.num_labelled) == (0.0, 0)
    assert gradient.abs().sum() > 0
