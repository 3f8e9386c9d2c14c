"""Teachers that only predict: a table of what they said of known samples, or a function that is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.errors import WeightsError, some_of
from components.functions import function_of
from components.sample_ids import sample_ids

SUM_TOLERANCE = 1e-3


class Table(nn.Module):
    """Looks samples [B, *S] up by their content; M log-probabilities are all it knows.

    WeightsError for a sample that the table does not hold.
    """

    ids: Tensor
    """[M, 16] uint8, ascending."""
    log_probabilities: Tensor
    """[M, C] float32."""

    def __init__(self, num_rows: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.zeros(num_rows, 16, dtype=torch.uint8))
        self.register_buffer("log_probabilities", torch.zeros(num_rows, num_classes))

    def fill(self, ids: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> Table:
        """Rows in any order; [M, 16] and [M, C]."""
        order = np.argsort(_keys(ids))
        self.ids.copy_(torch.from_numpy(ids[order]))
        self.log_probabilities.copy_(torch.from_numpy(log_probabilities[order]))
        return self

    def forward(self, samples: Tensor) -> Tensor:
        asked = _keys(sample_ids(samples.cpu().numpy()))
        known = _keys(self.ids.cpu().numpy())
        places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        missing = list(dict.fromkeys(key.tobytes().hex() for key in asked[known[places] != asked]))
        if missing:
            raise WeightsError(
                f"the black box has said nothing about {len(missing)} samples (ids {some_of(missing)}): "
                "teacher.source.file must hold every sample of validation and test, and all that the student learns from"
            )
        return self.log_probabilities.index_select(0, torch.from_numpy(places).to(self.log_probabilities.device))


def _keys(ids: NDArray[np.uint8]) -> NDArray[Any]:
    """[M, 16] -> [M], comparable."""
    return np.ascontiguousarray(ids).view(np.dtype((np.void, ids.shape[1]))).reshape(-1)


class Function(nn.Module):
    """Asks a function about samples [B, *S]; what it answers becomes log-probabilities [B, C]."""

    device_marker: Tensor

    def __init__(self, name: str, arguments: Mapping[str, Any], convert: Convert) -> None:
        super().__init__()
        self.name, self.arguments, self.convert = name, dict(arguments), convert
        self.register_buffer("device_marker", torch.zeros(0), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        function = function_of(self.name, place="teacher.source.function")
        answer = np.asarray(function(samples.cpu().numpy(), **self.arguments))
        if len(answer) != len(samples):
            raise WeightsError(f"{self.name} answered {len(answer)} rows to {len(samples)} samples")
        return torch.from_numpy(self.convert(answer)).to(self.device_marker.device)


class Convert:
    """Answers in the black box's own class order -> log-probabilities [N, C] in the data's."""

    def __init__(self, columns: Sequence[int], *, answers: str, smoothing: float, smallest: float, what: str) -> None:
        """*columns* [C]: where each class of the data stands in the answers; *what* is named in errors."""
        self.columns, self.answers, self.what = np.asarray(columns), answers, what
        self.smoothing, self.smallest = smoothing, smallest

    def __call__(self, answer: NDArray[Any]) -> NDArray[np.float32]:
        """[N, C] probabilities, or [N] labels that become one-hot rows with smoothing; WeightsError for anything else."""
        return self._of_labels(answer) if self.answers == "labels" else self._of_probabilities(answer)

    def _of_probabilities(self, answer: NDArray[Any]) -> NDArray[np.float32]:
        if answer.shape[1:] != self.columns.shape or answer.dtype.kind != "f":
            raise WeightsError(
                f"{self.what}: probabilities must be floats [N, {len(self.columns)}], not {answer.dtype} {list(answer.shape)}"
            )
        wide = answer.astype(np.float64)[:, self.columns]
        wrong = ~(np.isfinite(wide).all(axis=1) & (wide >= 0).all(axis=1) & (abs(wide.sum(axis=1) - 1) < SUM_TOLERANCE))
        if wrong.any():
            raise WeightsError(
                f"{self.what}: {int(wrong.sum())} of {len(wide)} rows are no probabilities, which lie in 0..1 and sum to 1 "
                f"(rows {some_of(np.flatnonzero(wrong).tolist())})"
            )
        clipped = np.maximum(wide, self.smallest)
        return np.log(clipped / clipped.sum(axis=1, keepdims=True)).astype(np.float32)

    def _of_labels(self, answer: NDArray[Any]) -> NDArray[np.float32]:
        count = len(self.columns)
        if answer.ndim != 1 or answer.dtype.kind not in "iu":
            raise WeightsError(
                f"{self.what}: labels must be whole numbers [N], not {answer.dtype} {list(answer.shape)}"
            )
        if outside := [int(label) for label in answer if not 0 <= label < count]:
            raise WeightsError(f"{self.what}: labels are outside the {count} classes: {some_of(outside)}")
        mine = np.argsort(self.columns)[answer]
        p = np.full((len(answer), count), self.smoothing / count)
        p[np.arange(len(answer)), mine] += 1 - self.smoothing
        return np.log(p).astype(np.float32)


def load(described: Mapping[str, Any], _: Callable[[str], nn.Module]) -> nn.Module:
    """The module that model.json describes; the rows of a table come from its weights."""
    if "table_rows" in described:
        return Table(described["table_rows"], described["num_classes"])
    return Function(described["function"], described["arguments"], Convert(**described["convert"]))
