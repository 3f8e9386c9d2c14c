"""The views that a teacher is asked about and a student sees: one bank for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from components.data.packed import PackedData
    from components.params import ViewParams
    from components.views import ViewBank


def training_bank(
    data: PackedData,
    rows: NDArray[np.int64],
    views: ViewParams,
    *,
    device: torch.device,
    limit_bytes: int,
    folds: NDArray[np.int64] | None = None,
) -> ViewBank:
    """Views of *rows*, which are also the partners of mixed ones; *limit_bytes* as in `ViewBank`.

    With *folds* [N of the data set] only samples of one fold are mixed: no teacher that speaks has seen either.
    """
    import numpy as np
    import torch

    from components.views import ViewBank

    groups = None if folds is None else folds[rows]
    samples = torch.from_numpy(np.asarray(data.samples[rows])).to(device)
    return ViewBank(samples, np.array(data.sample_ids), views, limit_bytes=limit_bytes, rows=rows, groups=groups)
