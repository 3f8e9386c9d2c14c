"""What the models of texts begin with: samples are UTF-8 bytes, filled up with zeros behind the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from components.contracts import DataSpec
from components.errors import BadInputError

MEMORY_BYTES = 2**28
"""What a model may remember of samples; beyond that it computes again."""


def max_bytes(data: DataSpec, family: str) -> int:
    """L of samples [L]; BadInputError where samples are no texts."""
    if len(data.sample_shape) != 1:
        raise BadInputError(
            f"model {family!r} takes texts (bytes, filled up with zeros), but samples have the shape {data.sample_shape}; "
            "the model 'mlp' takes any shape"
        )
    return data.sample_shape[0]


def texts_of(samples: Tensor) -> list[str]:
    """uint8 [B, L] -> B texts; bytes that are no UTF-8 become the replacement character."""
    return [row.tobytes().rstrip(b"\0").decode("utf-8", errors="replace") for row in samples.cpu().numpy()]


class Memory:
    """What *compute* says of a sample, kept by the sample's bytes while there is room: [B, L] -> [B, ...].

    The rows must not depend on each other, so that a sample gets the same answer whether it was remembered or not.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], *, limit_bytes: int = MEMORY_BYTES) -> None:
        self.compute, self.limit_bytes = compute, limit_bytes
        self.forget()

    def forget(self) -> None:
        self.place: dict[bytes, int] = {}
        self.table = torch.empty(0)

    def __len__(self) -> int:
        return len(self.place)

    def __call__(self, samples: Tensor) -> Tensor:
        """One call of *compute* for those that are new, each text once."""
        names = [row.tobytes() for row in samples.cpu().numpy()]
        new = {name: place for place, name in enumerate(names) if name not in self.place}
        # Kept tensors are ordinary ones, also when the first to ask is in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            if not new:
                return self.table[self._places(names)]
            made = self.compute(samples[list(new.values())].clone())
            if (len(self.place) + len(new)) * made[0].nbytes <= self.limit_bytes:
                self._keep(list(new), made)
                return self.table[self._places(names)]
            return self._with(made, names, {name: row for row, name in enumerate(new)})

    def _places(self, names: Sequence[bytes]) -> Tensor:
        return torch.tensor([self.place[name] for name in names], device=self.table.device)

    def _keep(self, names: Sequence[bytes], made: Tensor) -> None:
        used, needed = len(self.place), len(self.place) + len(names)
        if needed > len(self.table):
            grown = made.new_empty((max(needed, 2 * len(self.table)), *made.shape[1:]))
            grown[:used] = self.table[:used] if used else grown[:0]
            self.table = grown
        self.table[used:needed] = made
        self.place.update(zip(names, range(used, needed), strict=True))

    def _with(self, made: Tensor, names: Sequence[bytes], row_of: dict[bytes, int]) -> Tensor:
        """Rows that are kept, and rows of *made* that there is no room for."""
        rows = [made[row_of[name]] if name in row_of else self.table[self.place[name]] for name in names]
        return torch.stack(rows)
