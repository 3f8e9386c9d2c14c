"""How weights move: SGD with Nesterov momentum or AdamW, under a warm-up and a cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from components.params import OptimizerParams, TrainParams


def make_optimizer(params: OptimizerParams, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Weights of one dimension (biases, scales of norms) do not decay."""
    trained = [weight for weight in weights if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if params.name == "adamw":
        return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)
    return torch.optim.SGD(
        groups, lr=params.learning_rate, momentum=params.momentum, nesterov=params.momentum > 0, fused=True
    )


def learning_rate(params: TrainParams, step: int, num_steps: int) -> float:
    """Of step 0..num_steps-1: linear up to the peak, then half a cosine down to the final share of it.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (ICLR 2017), without restarts.
    """
    peak, final = params.optimizer.learning_rate, params.final_learning_rate_share
    warmup = round(params.warmup_share * num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step + 1 - warmup) / (num_steps - warmup)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers, as '<index of the weight>.<name>'."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, held in state.items()
        for name, value in held.items()
        if isinstance(value, Tensor)
    }


def set_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Undo `moments`, into the memory layout of the weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for place, tensor in saved.items():
        index, _, name = place.partition(".")
        state.setdefault(int(index), {})[name] = _laid_out_like(weights[int(index)], tensor)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out_like(weight: Tensor, tensor: Tensor) -> Tensor:
    return torch.empty_like(weight).copy_(tensor).detach() if tensor.shape == weight.shape else tensor
