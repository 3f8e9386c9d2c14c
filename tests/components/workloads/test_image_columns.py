"""What a picture looks like in figures."""

import numpy as np
import pytest

from components.workloads._image_columns import describe_images

IMAGES = np.random.default_rng(0).integers(0, 256, (1100, 3, 4, 5), dtype=np.uint8)


def test_brightness_and_contrast_are_those_of_numpy() -> None:
    """Over all channels of a picture, scaled to 0..1."""
    found = describe_images(IMAGES)

    assert found["mean"] == pytest.approx(IMAGES.mean(axis=(1, 2, 3)) / 255)
    assert found["std"] == pytest.approx(IMAGES.std(axis=(1, 2, 3)) / 255)


def test_size_is_the_same_in_every_row() -> None:
    """Height, width and channels, as expectations know them."""
    found = describe_images(IMAGES)

    assert {name: set(found[name].tolist()) for name in ("height", "width", "channels")} == {
        "height": {4},
        "width": {5},
        "channels": {3},
    }
