"""Several teachers as one module, whose answers are combined sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Combine = Literal["probabilities", "logits", "weighted", "confidence"]
MAX_ROUNDS = 500
ENOUGH = 1e-9
"""Nats by which a round must improve the fit."""


class Ensemble(nn.Module):
    """Raw samples [B, *S] -> [B, C]: what K members say, combined.

    - logits: the mean of their logits (of numbers: the mean).
    - probabilities: log of the mean of their probabilities, which is a valid row of logits.
    - weighted: the same with a weight for each member, see `fit_weights`.
    - confidence: the same with weights for each sample, w_k = exp(-H_k) / sum_j exp(-H_j), where H_k is the entropy of
      what member k says of it: a member counts by the inverse of its perplexity. The idea to weigh teachers by the
      entropy of their answers is that of Kwon, Na, Lee and Kim, "Adaptive knowledge distillation based on entropy"
      (ICASSP 2020).
    """

    log_weights: Tensor
    """[K, 1, 1]."""

    def __init__(self, members: Sequence[nn.Module], combine: Combine, weights: Sequence[float] | None = None) -> None:
        """*weights* [K], which sum to 1, where they are fitted."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.combine = combine
        shares = torch.tensor(weights or [1 / len(members)] * len(members), dtype=torch.float64)
        self.register_buffer("log_weights", shares.log().float()[:, None, None])

    def forward(self, samples: Tensor) -> Tensor:
        said = torch.stack([member(samples).float() for member in self.members])
        if self.combine == "logits":
            return said.mean(0)
        log_p = torch.log_softmax(said, dim=2)
        return torch.logsumexp(log_p + self._log_weights(log_p), dim=0)

    def _log_weights(self, log_p: Tensor) -> Tensor:
        """[K, 1, 1], or [K, B, 1] where each sample has its own."""
        if self.combine != "confidence":
            return self.log_weights
        return torch.log_softmax((log_p.exp() * log_p).sum(dim=2, keepdim=True), dim=0)


def fit_weights(log_p_of_labels: NDArray[np.float64]) -> list[float]:
    """Weights of the mixture of K members with the smallest negative log-likelihood; [K, N] log-probabilities -> K.

    By expectation-maximisation for mixture proportions (Dempster, Laird and Rubin 1977), from equal weights: the
    likelihood is concave in them, so that this is the best there is. A member that only hurts gets a weight near 0.
    """
    count = len(log_p_of_labels)
    log_weights, before = np.full((count, 1), -math.log(count)), -math.inf
    for _ in range(MAX_ROUNDS):
        joint = log_p_of_labels + log_weights
        likelihood = np.logaddexp.reduce(joint, axis=0)
        log_weights = np.logaddexp.reduce(joint - likelihood, axis=1, keepdims=True) - math.log(joint.shape[1])
        if likelihood.mean() - before < ENOUGH:
            break
        before = likelihood.mean()
    weights = np.exp(log_weights[:, 0])
    return [float(weight) for weight in weights / weights.sum()]


def load(described: Mapping[str, Any], member: Callable[[str], nn.Module]) -> Ensemble:
    """The ensemble that model.json describes; *member* loads one of them from its folder."""
    return Ensemble([member(name) for name in described["members"]], described["combine"], described["weights"])
