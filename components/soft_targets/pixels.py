"""Proof that a student sees the very pixels that its teacher was asked about: hashes of some views, made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.errors import SoftTargetsRefusedError
from components.views import pixel_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.views import ViewBank

VIEW_PIXELS = "view_pixels.json"
VIEWS_SAMPLED = 4
ROWS_SAMPLED = 8
"""Of each of these views."""


def view_pixels(bank: ViewBank, rows: NDArray[np.int64], num_views: int) -> list[dict[str, Any]]:
    """Row, view, sample id and sha256 of the pixels of some views, spread over *rows* and views; as plain data."""
    chosen = _spread(len(rows), ROWS_SAMPLED)
    pairs = [(int(rows[place]), view) for view in _spread(num_views, VIEWS_SAMPLED) for place in chosen]
    hashes = pixel_hashes(bank, pairs)
    return [
        {"row": row, "view": view, "sample_id": bank.sample_ids[row].tobytes().hex(), "sha256": digest}
        for (row, view), digest in zip(pairs, hashes, strict=True)
    ]


def _spread(count: int, most: int) -> list[int]:
    """At most so many of 0..count-1, evenly, first and last among them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most)).round()})


def refuse_other_pixels(bank: ViewBank, recorded: Sequence[Mapping[str, Any]]) -> None:
    """SoftTargetsRefusedError at the first view that *bank* makes otherwise than when the teacher was asked."""
    found = pixel_hashes(bank, [(seen["row"], seen["view"]) for seen in recorded])
    for seen, digest in zip(recorded, found, strict=True):
        if digest != seen["sha256"]:
            raise SoftTargetsRefusedError(
                f"view {seen['view']} of sample {seen['row']} (id {seen['sample_id']}) has the pixels {digest[:12]} here, "
                f"and had {seen['sha256'][:12]} when the teacher was asked: its soft targets are of other pictures. "
                "Make the soft targets again on this machine, and report it: a view must be the same bits everywhere"
            )
