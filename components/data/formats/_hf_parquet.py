"""Writes pictures as Parquet in the layout of Hugging Face data sets, the same bytes for the same pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import UNLABELLED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_parquet_images(
    path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: Sequence[str]
) -> None:
    """Write [N, C, H, W] *images* (C is 1 or 3) and [N] *labels* (-1: null) to one file with PNGs in it.

    Neither the PNGs nor the Parquet pages are compressed: compressors give other bytes on other machines.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = [{"bytes": _png(image), "path": f"{row:05d}.png"} for row, image in enumerate(images)]
    numbers = [None if label == UNLABELLED else int(label) for label in labels]
    kinds = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    schema = pa.schema(kinds, metadata={"huggingface": json.dumps({"info": {"features": _features(class_names)}})})
    table = pa.Table.from_pydict({"image": encoded, "label": numbers}, schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=10_000,
        version="2.6",
    )


def _features(class_names: Sequence[str]) -> dict[str, Any]:
    return {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=0)
    return stream.getvalue()
