"""The hard-label loss of views that show two samples."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.contracts import UNLABELLED, Objective
from components.params import TrainParams, ViewParams
from components.training.losses import BatchLoss, Losses
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload

N, C, SHAPE = 30, 4, (1, 6, 6)
SAMPLES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, *SHAPE), dtype=np.uint8))
IDS = np.frombuffer(b"".join(hashlib.sha256(bytes([n])).digest()[:16] for n in range(N)), np.uint8).reshape(N, 16)
LABELS = np.arange(N) % C
BATCH = np.array([7, 3, 21, 4, 16, 29, 0, 11])


class Linear(nn.Module):
    """Logits of raw pixels, the same every time."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(36, C, generator=generator) / 36)

    def forward(self, samples: Tensor) -> Tensor:
        return samples.float().flatten(1) / 64 @ self.weight


class Silent:
    """An objective, half of the total, that is always content."""

    alpha, weight, needs, reduction = 0.5, 1.0, frozenset({"logits"}), "rows"
    student_taps = teacher_taps = ()

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        return student.logits.sum(1) * 0

    def parameters(self) -> Any:
        return iter(())

    def places(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def take(self, places: np.ndarray, view: int) -> Tensor:
        return torch.zeros(len(places), C)


def bank(last: str) -> ViewBank:
    return ViewBank(SAMPLES, IDS, ViewParams(count=3, transforms=({"name": last},)), limit_bytes=0)


def of_batch(
    views: ViewBank, labels: np.ndarray, view: int, *, smoothing: float = 0.0, taught: bool = False
) -> tuple[Losses, Tensor]:
    """The losses of BATCH, and the gradient of the weights."""
    model, silent = Linear(), Silent()
    objective: Objective | None = silent if taught else None  # type: ignore[assignment]
    loss = BatchLoss(
        model=model,
        labels=labels,
        train_rows=np.arange(len(labels)),
        workload=Workload().build(),
        params=TrainParams(label_smoothing=smoothing),
        views=views,
        device=torch.device("cpu"),
        objective=objective,
        targets=silent if taught else None,
    )
    losses = loss(loss.rows([BATCH])[0], view=view, done=0.0)
    losses.backward()
    assert model.weight.grad is not None
    return losses, model.weight.grad


def by_hand(views: ViewBank, labels: np.ndarray, view: int, smoothing: float = 0.0) -> tuple[float, Tensor, int]:
    """Cross-entropy with the mixed one-hot labels themselves, over rows that have both; its gradient; how many rows."""
    rows, model = torch.from_numpy(BATCH), Linear().double()
    mixture = views.mixture(rows, view)
    assert mixture
    own, theirs = torch.from_numpy(labels)[rows], torch.from_numpy(labels)[mixture.partners]
    known = (own != UNLABELLED) & (theirs != UNLABELLED)
    share = mixture.share.double()[known, None]
    one_hot = share * torch.eye(C)[own[known]] + (1 - share) * torch.eye(C)[theirs[known]]
    target = one_hot * (1 - smoothing) + smoothing / C
    logits = views.batch(rows, view).double().flatten(1)[known] / 64 @ model.weight
    total = -(target * logits.log_softmax(1)).sum(1).mean()
    total.backward()
    assert model.weight.grad is not None
    return total.item(), model.weight.grad, int(known.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("last", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_pixels_are(last: str, smoothing: float) -> None:
    """The loss and its gradient are those of the cross-entropy with mixed labels."""
    losses, gradient = of_batch(bank(last), LABELS, 1, smoothing=smoothing)
    expected, slope, _ = by_hand(bank(last), LABELS, 1, smoothing)

    assert float(losses.hard) == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(gradient.double(), slope, atol=1e-6)
    assert losses.num_labelled == len(BATCH)


def test_a_row_counts_where_both_labels_are_known() -> None:
    """An unlabelled partner takes the row out of the hard part, and leaves it in the other."""
    labels = np.where(np.arange(N) % 3 == 0, UNLABELLED, LABELS)
    losses, gradient = of_batch(bank("mixup"), labels, 2, taught=True)
    expected, slope, known = by_hand(bank("mixup"), labels, 2)

    assert 0 < known < int((labels[BATCH] != UNLABELLED).sum())
    assert (losses.num_labelled, losses.num_rows) == (known, len(BATCH))
    assert float(losses.hard) == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(gradient.double(), 0.5 * slope, atol=1e-6)


def test_no_row_counts_where_no_partner_has_a_label() -> None:
    """The hard part is then nothing, and no gradient comes from it."""
    views = bank("cutmix")
    mixture = views.mixture(torch.from_numpy(BATCH), 1)
    assert mixture
    labels = np.where(np.isin(np.arange(N), mixture.partners.numpy()), UNLABELLED, LABELS)

    losses, gradient = of_batch(views, labels, 1, taught=True)

    assert (float(losses.hard), losses.num_labelled, losses.num_rows) == (0.0, 0, len(BATCH))
    assert not gradient.any()


def test_the_sample_itself_keeps_its_own_label() -> None:
    """View 0 is not mixed: the loss is the plain one."""
    losses, _ = of_batch(bank("mixup"), LABELS, 0)
    logits = SAMPLES[BATCH].double().flatten(1) / 64 @ Linear().weight.double()

    expected = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[BATCH]))
    assert float(losses.hard) == pytest.approx(expected.item(), rel=1e-6)
