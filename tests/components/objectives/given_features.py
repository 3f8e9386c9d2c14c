"""Features that objectives are tested on, and short ways to call an objective on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components import plugins
from components.contracts import DataSpec, ModelTaps, ObjectiveParams, Signals
from tests.components.objectives.given import batch, spec

TAP = "there"
TAPS: dict[str, Any] = {"student_tap": TAP, "teacher_tap": TAP}


@dataclass(frozen=True)
class Reference:
    """The tensors that reference values of other implementations were computed on, drawn in this order from seed 0."""

    student_logits: Tensor
    teacher_logits: Tensor
    labels: Tensor
    student_maps: Tensor
    teacher_maps: Tensor
    student_embeddings: Tensor
    teacher_embeddings: Tensor


def reference() -> Reference:
    draw = torch.Generator().manual_seed(0)
    return Reference(
        torch.randn(64, 100, generator=draw) * 3,
        torch.randn(64, 100, generator=draw) * 4,
        torch.randint(0, 100, (64,), generator=draw),
        torch.randn(8, 16, 8, 8, generator=draw),
        torch.randn(8, 32, 8, 8, generator=draw),
        torch.randn(16, 64, generator=draw),
        torch.randn(16, 128, generator=draw),
    )


def drawn(seed: int, *shape: int) -> Tensor:
    """float64, normally distributed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def taps(tensor: Tensor) -> ModelTaps:
    return ModelTaps((TAP,), {TAP: tuple(tensor.shape[1:])})


def made(name: str, ours: Tensor, theirs: Tensor, **params: Any) -> Any:
    """The objective for features of these shapes, in their precision, always with the same initial weights."""
    given = {"pairs": [[TAP, TAP]]} if name == "attention_transfer" else TAPS
    found = plugins.params_class("objectives", name).model_validate({"name": name, **given, **params})
    assert isinstance(found, ObjectiveParams)
    data = DataSpec((1, 8, 8), tuple("abcd"), (0.5,), (0.25,), num_train=len(ours))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return found.build(spec(data, student=taps(ours), teacher=taps(theirs))).to(ours.dtype)  # type: ignore[attr-defined]


def called(objective: Any, ours: Tensor, theirs: Tensor) -> Tensor:
    """Losses [N] of features alone; whatever is drawn is drawn from one seed."""
    none = torch.empty(len(ours), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return objective(Signals(none, {TAP: ours}), Signals(none, {TAP: theirs}), batch(len(ours)))


def losses(name: str, ours: Tensor, theirs: Tensor, **params: Any) -> Tensor:
    return called(made(name, ours, theirs, **params), ours, theirs)


def passes_gradcheck(function: Callable[[Tensor], Tensor], ours: Tensor) -> bool:
    """In float64, against finite differences."""
    return torch.autograd.gradcheck(function, ours.clone().requires_grad_())


def gradient(name: str, ours: Tensor, theirs: Tensor, **params: Any) -> Tensor:
    """Of the mean loss on the student's features."""
    leaf = ours.clone().requires_grad_()
    losses(name, leaf, theirs, **params).mean().backward()
    assert leaf.grad is not None
    return leaf.grad


def rotated(features: Tensor, seed: int) -> Tensor:
    """[N, D] times a random rotation or reflection."""
    turn, _ = torch.linalg.qr(drawn(seed, features.shape[1], features.shape[1]))
    return features @ turn
