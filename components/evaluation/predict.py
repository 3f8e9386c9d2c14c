"""Logits of a model for many rows, in fixed batches so that a row's bits do not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.contracts import NoProgress, Progress
from components.errors import BadInputError, RefusedError, some_of

BATCH_SIZE = 256


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def predict_logits(
    module: nn.Module,
    samples: NDArray[Any],
    rows: NDArray[np.integer],
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """[M, *S] as stored (may be memory-mapped) and N row indices into it -> [N, C], or [N, D] numbers.

    *module* is in eval mode and takes [B, *S]. The last batch is padded to the size of the others, because
    kernels are chosen by shape and logits change in their last bits with it. Raises RefusedError
    when a logit is not finite, and BadInputError when there are no rows.
    """
    if not len(rows):
        raise BadInputError("there are no rows to predict")
    done = _batches(module, samples, rows, batch_size, progress or NoProgress())
    logits = np.concatenate(list(done))
    _refuse_if_not_finite(logits, rows)
    return logits


def _batches(
    module: nn.Module, samples: NDArray[Any], rows: NDArray[np.integer], size: int, progress: Progress
) -> Iterator[NDArray[np.float32]]:
    device = device_of(module)
    for start in range(0, len(rows), size):
        progress.check()
        wanted = rows[start : start + size]
        padded = np.concatenate([wanted, np.repeat(wanted[-1:], size - len(wanted))])
        with torch.inference_mode():
            logits = module(torch.from_numpy(np.ascontiguousarray(samples[padded])).to(device))
        yield logits[: len(wanted)].float().cpu().numpy()


def _refuse_if_not_finite(logits: NDArray[np.float32], rows: NDArray[np.integer]) -> None:
    bad = rows[~np.isfinite(logits).all(axis=1)]
    if len(bad):
        raise RefusedError(
            f"the model's logits are not finite for {len(bad)} of {len(rows)} samples (rows {some_of(bad.tolist())}): "
            "it cannot be measured or served; train it again with a lower learning rate or clip_grad_norm"
        )
