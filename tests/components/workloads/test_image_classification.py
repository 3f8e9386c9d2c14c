"""Facts about the image-classification workload."""

import math

import numpy as np
import pytest
import torch

from components.workloads.image_classification import Params

WORKLOAD = Params().build()


def test_hard_label_loss_by_hand() -> None:
    """Logits (ln 3, 0) mean 3/4 and 1/4: -ln 3/4 for the first label, -ln 1/4 for the second."""
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    losses = WORKLOAD.hard_label_loss(logits, torch.tensor([0, 1]), label_smoothing=0.0)

    assert losses.tolist() == pytest.approx([-math.log(0.75), -math.log(0.25)])


def test_label_smoothing_by_hand() -> None:
    """With 0.2 of two classes a label weighs 0.9 and the other class 0.1."""
    logits = torch.tensor([[math.log(3), 0.0]])
    losses = WORKLOAD.hard_label_loss(logits, torch.tensor([0]), label_smoothing=0.2)

    assert losses.tolist() == pytest.approx([-0.9 * math.log(0.75) - 0.1 * math.log(0.25)])


def test_accuracy_by_hand() -> None:
    """Two of three predictions are right."""
    assert WORKLOAD.metrics(np.eye(3, dtype=np.float32) * 4, np.array([0, 1, 0]))["accuracy"] == pytest.approx(2 / 3)


def test_tiny_is_deterministic_and_learnable() -> None:
    """The same seed gives the same rows, another gives others, and every class is there more than once."""
    first, again, other = WORKLOAD.tiny(seed=1), WORKLOAD.tiny(seed=1), WORKLOAD.tiny(seed=2)

    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
    assert np.bincount(first.labels).tolist() == [8, 8, 8]
    assert len({sample.tobytes() for sample in first.samples}) == len(first.sources) == 24
