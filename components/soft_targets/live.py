"""The teacher itself where stored soft targets would be: for comparisons, and for views that never come twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.soft_targets.teacher_pass import Panel, Teacher, ask_about

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from components.training.losses import Views


@dataclass(frozen=True, slots=True)
class LiveTeacher:
    """Fulfils `training.losses.Targets` by asking *teacher* about the views that the student sees.

    In the same padded batches as the writer of soft targets, so that both get the same logits but for the place
    of a row in its batch.
    """

    teacher: Teacher | Panel
    """In the precision that is wanted, and in eval mode."""
    views: Views
    """The student's own."""
    batch_size: int

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows themselves: any row of the data set can be asked about."""
        return rows

    def take(self, places: NDArray[np.int64], view: int) -> Tensor:
        """Logits of view *view* of data set rows; int64 [B] -> float32 [B, C] in host memory."""
        import torch

        return torch.from_numpy(ask_about(self.teacher, self.views, places, view, self.batch_size))

    def expect(self, places: NDArray[np.int64], view: int) -> None:
        """Nothing can be fetched ahead."""
