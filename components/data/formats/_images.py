"""What the image formats share: encoded pictures in, one array of equal pictures out, and labels in class order."""

from __future__ import annotations

import difflib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from components.contracts import UNLABELLED, FormatParams
from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Channels = Literal["auto", "L", "RGB"]
Pixels = Annotated[int, Field(ge=1, le=16_384)]
Encoded = Callable[[], bytes | None]
"""Gives the bytes of one picture when they are wanted; None where the source holds none."""
_CLASSES_WITHOUT_SAMPLES = 1000
"""More than this, and numbers are taken for something else than labels."""


class ImageParams(FormatParams):
    """What every image format can be told."""

    channels: Channels = Field("auto", description="L: grey, RGB: colour, auto: grey if every picture is")
    resize: tuple[Pixels, Pixels] | None = Field(
        None, description="height and width to bring every picture to (bilinear); without it all must have one size"
    )
    class_names: tuple[str, ...] | None = Field(
        None, description="the label set, in label order; without it the data decides (sorted by name)"
    )

    @field_validator("class_names")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = [name for name, count in Counter(names or ()).items() if count > 1]
        if twice or names == ():
            raise ValueError(f"class_names must be given once each, and at least one (twice: {some_of(twice)})")
        return names


@dataclass(frozen=True, slots=True)
class Pictures:
    """K of N pictures, those that could be decoded."""

    samples: NDArray[np.uint8]
    """[K, channels, height, width]."""
    kept: tuple[int, ...]
    """[K], their positions among the N."""
    damaged: tuple[str, ...]
    """The other N - K, as 'source: why'."""


def decode_pictures(sources: Sequence[str], encoded: Iterable[Encoded], params: ImageParams) -> Pictures:
    """Decode every picture once; DataDamagedError when there are none or their sizes differ."""
    from PIL import Image

    decoded, kept, damaged = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata around whole pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for index, (source, read) in enumerate(zip(sources, encoded, strict=True)):
            try:
                decoded.append(_decode(read(), params))
                kept.append(index)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - damaged bytes make decoders raise almost anything
                damaged.append(f"{source}: {_reason(error)}")
    if not decoded:
        raise DataDamagedError(f"none of {len(sources)} pictures can be decoded: {some_of(damaged)}")
    return Pictures(_stacked(decoded, [sources[index] for index in kept]), tuple(kept), tuple(damaged))


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    # PIL's own text names an object in memory, another one in every run.
    return "not a picture in a known format" if isinstance(error, UnidentifiedImageError) else str(error)


def _decode(content: bytes | None, params: ImageParams) -> NDArray[np.uint8]:
    """One picture -> [height, width] if grey, [height, width, 3] if colour."""
    import numpy as np
    from PIL import Image, ImageOps

    if not content:
        raise ValueError("holds no bytes")
    with Image.open(io.BytesIO(content)) as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"has {opened.mode} pixels; only 8 bits a channel are read")
        upright = ImageOps.exif_transpose(opened)
        picture = upright.convert(_mode(upright, params.channels))
    if params.resize:
        height, width = params.resize
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)


def _mode(picture: Image.Image, channels: Channels) -> str:
    if channels != "auto":
        return channels
    return "L" if picture.mode in ("1", "L", "LA") else "RGB"


def _stacked(decoded: list[NDArray[np.uint8]], sources: Sequence[str]) -> NDArray[np.uint8]:
    """[K, channels, height, width]; grey pictures among coloured ones become coloured."""
    import numpy as np

    _refuse_different_sizes(decoded, sources)
    height, width = decoded[0].shape[:2]
    colour = any(picture.ndim == 3 for picture in decoded)
    samples = np.empty((len(decoded), 3 if colour else 1, height, width), dtype=np.uint8)
    for index, picture in enumerate(decoded):
        samples[index] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return samples


def _refuse_different_sizes(decoded: list[NDArray[np.uint8]], sources: Sequence[str]) -> None:
    counts = Counter(picture.shape[:2] for picture in decoded)
    if len(counts) == 1:
        return
    examples = {picture.shape[:2]: source for picture, source in zip(decoded, sources, strict=True)}
    sizes = [
        f"{height}x{width} ({count}, such as {examples[height, width]})"
        for (height, width), count in counts.most_common()
    ]
    raise DataDamagedError(
        f"the pictures have {len(counts)} sizes, height x width: {some_of(sizes)}. Set data.format.resize=[HEIGHT, WIDTH]"
    )


def labels_by_name(
    names: Sequence[str | None], sources: Sequence[str], class_names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[N] names (None: unlabelled) -> [N] labels and the class names, sorted where *class_names* does not say."""
    import numpy as np

    classes = class_names or tuple(sorted({name for name in names if name is not None}))
    position = {name: label for label, name in enumerate(classes)}
    unknown = [
        (source, name) for source, name in zip(sources, names, strict=True) if name is not None and name not in position
    ]
    _refuse_unknown(unknown, classes)
    labels = [UNLABELLED if name is None else position[name] for name in names]
    return np.asarray(labels, dtype=np.int64), classes


def _refuse_unknown(unknown: Sequence[tuple[str, str]], classes: tuple[str, ...]) -> None:
    if not unknown:
        return
    named = [f"{source} is {name!r}{_closest(name, classes)}" for source, name in unknown]
    count = f"{len(unknown)} labels are" if len(unknown) > 1 else "1 label is"
    raise DataDamagedError(f"{count} outside the set ({some_of(classes, limit=12)}): {some_of(named)}")


def _closest(name: str, classes: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, classes, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def labels_by_number(
    numbers: Sequence[int | None], sources: Sequence[str], class_names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[N] numbers (None or -1: unlabelled) -> [N] labels and the class names, '0', '1', ... where nobody named them."""
    import numpy as np

    largest = 2**62  # wrong in any case, and within int64
    labels = np.asarray([UNLABELLED if number is None else min(number, largest) for number in numbers], dtype=np.int64)
    top = int(labels.max(initial=UNLABELLED))
    if class_names is None and top >= len(numbers) + _CLASSES_WITHOUT_SAMPLES:
        raise DataDamagedError(
            f"the largest label is {top} among only {len(numbers)} samples ({sources[int(labels.argmax())]}); "
            "name the classes in data.format.class_names if that is right"
        )
    classes = class_names or tuple(str(label) for label in range(top + 1))
    wrong = np.flatnonzero((labels < UNLABELLED) | (labels >= len(classes)))
    _refuse_unknown(
        [(sources[index], str(labels[index])) for index in wrong.tolist()],
        tuple(f"{i} {n}" for i, n in enumerate(classes)),
    )
    return labels, classes
