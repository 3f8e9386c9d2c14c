"""What transforms of images ask of a sample's shape."""

from __future__ import annotations

from components.errors import BadInputError


def image_shape(transform: str, sample_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width; BadInputError where samples are no images."""
    if len(sample_shape) != 3:
        raise BadInputError(
            f"transform {transform} needs images [channels, height, width], and samples are {list(sample_shape)}"
        )
    channels, height, width = sample_shape
    return channels, height, width
