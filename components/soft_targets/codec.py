"""What a codec is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.errors import SoftTargetsRefusedError
from components.soft_targets.codecs.limits import HALF
from components.soft_targets.codecs.plain import Plain
from components.soft_targets.codecs.scaled import Int4, Int8
from components.soft_targets.codecs.topk import TopK

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Codec(Protocol):
    """A fixed-stride form of rows of logits. Each row is encoded by itself, to the same bytes in whatever company."""

    @property
    def name(self) -> str: ...

    def row_stride_bytes(self, num_classes: int) -> int: ...

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        """What in [N, C] this codec cannot hold at all, or None."""
        ...

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[N, C], which it can hold -> uint8 [N, row_stride_bytes]."""
        ...

    def decoder(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> Callable[[], None]:
        """What turns the present content of writable *rows* uint8 [N, row_stride_bytes] into *out* [N, C], at each call.

        It holds what scratch memory it needs, so a call allocates none; two threads need one each.
        """
        ...


CODECS: dict[str, Codec] = {
    "fp32": Plain("fp32", "<f4"),
    "fp16": Plain("fp16", HALF),
    "int8": Int8(),
    "int4": Int4(),
}
"""Those that keep every class of a row."""
EXACT = "fp32"


def codec_named(name: str) -> Codec:
    """One of CODECS, or top-k by a name such as topk-16. SoftTargetsRefusedError: there is none of that name."""
    family, _, k = name.partition("-")
    if family == "topk" and k.isdecimal() and int(k) > 0:
        return TopK(int(k))
    if name not in CODECS:
        raise SoftTargetsRefusedError(f"soft targets refused: codec {name!r} is none of {', '.join(CODECS)}, topk-K")
    return CODECS[name]


def decode(codec: Codec, rows: NDArray[np.uint8], num_classes: int) -> NDArray[np.float32]:
    """Writable uint8 [N, row_stride_bytes] -> a new array [N, C]."""
    decoded = np.empty((len(rows), num_classes), dtype=np.float32)
    codec.decoder(rows, decoded)()
    return decoded


def round_trip(codec: Codec, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a reader will see of *logits*; [N, C] -> [N, C]."""
    return decode(codec, codec.encode(logits), logits.shape[1])
