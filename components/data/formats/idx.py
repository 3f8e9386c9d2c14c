"""IDX, the layout of MNIST and its relatives: a file of images and a file of labels for train and for t10k (test)."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.contracts import DecodedSamples, FormatParams
from components.data.formats._images import labels_by_number
from components.errors import DataDamagedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
"""How the files of each split may begin; samples come in this order."""
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


class Params(FormatParams):
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, the same with t10k or test; each gzipped (.gz) or not."""

    name: Literal["idx"] = "idx"
    class_names: tuple[str, ...] | None = Field(
        None, min_length=1, description="the label set, in label order; without it the labels are their own names"
    )

    def read(self, folder: Path) -> DecodedSamples:
        """Training images first, then test; samples [N, 1, H, W], sources such as 'train:12', a column `split`.

        Raises DataDamagedError for a missing, damaged or mismatching file.
        """
        import numpy as np

        parts = [(split, *_read_pair(images, labels)) for split, images, labels in _pairs(folder)]
        _refuse_other_sizes(parts)
        sources = tuple(f"{split}:{row}" for split, _, labels in parts for row in range(len(labels)))
        numbers = [number for _, _, labels in parts for number in labels.tolist()]
        labels, classes = labels_by_number(numbers, sources, self.class_names)
        samples = np.concatenate([images for _, images, _ in parts])[:, None]
        splits = [split for split, _, labels in parts for _ in range(len(labels))]
        return DecodedSamples(samples, labels, classes, sources, {"split": splits})


def _pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    found = False
    for split, prefixes in PREFIXES.items():
        for prefix in prefixes:
            names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
            images, labels = (_find(folder, name) for name in names)
            if images and labels:
                found = True
                yield split, images, labels
            elif images or labels:
                missing = names[0] if labels else names[1]
                raise DataDamagedError(f"{missing} (or {missing}.gz) is missing, but its partner is there")
    if not found:
        raise DataDamagedError(
            "the data set is empty: there is neither train-images-idx3-ubyte[.gz] nor t10k-images-idx3-ubyte[.gz]"
        )


def _find(folder: Path, name: str) -> Path | None:
    there = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(there) > 1:
        raise DataDamagedError(f"both {name} and {name}.gz are there: keep one of them")
    return there[0] if there else None


def _read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """[N, H, W] and [N]."""
    pixels, numbers = _read_array(images, dimensions=3), _read_array(labels, dimensions=1)
    if len(pixels) != len(numbers):
        raise DataDamagedError(f"{images.name} has {len(pixels)} images, but {labels.name} has {len(numbers)} labels")
    return pixels, numbers


def _read_array(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The header is big-endian: two zero bytes, the type, the number of dimensions, then each size in 4 bytes."""
    import numpy as np

    content = _content(path)
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)) or len(content) < start:
        raise DataDamagedError(
            f"{path.name} is no IDX file of {dimensions} dimensions of unsigned bytes (it begins with {content[:4].hex()!r})"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise DataDamagedError(
            f"{path.name} promises {math.prod(shape)} bytes of shape {list(shape)}, but holds {len(content) - start}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataDamagedError(f"{path.name} cannot be read: {error}") from error


def _refuse_other_sizes(parts: list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    sizes = {images.shape[1:]: split for split, images, _ in parts}
    if len(sizes) > 1:
        named = ", ".join(f"{split}: {size[0]} x {size[1]}" for size, split in sizes.items())
        raise DataDamagedError(f"the images differ in height x width ({named})")
