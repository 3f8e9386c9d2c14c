"""Image classification: one label a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from components.contracts import ColumnKind, DataSpec, DecodedSamples, Expectation
from components.workloads._classification import Classification, ClassificationParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Params(ClassificationParams):
    """Pictures of any size, grey or coloured."""

    name: Literal["image_classification"] = "image_classification"

    def build(self, data: DataSpec | None = None) -> ImageClassification:  # noqa: ARG002 - cross-entropy has no unit
        return ImageClassification(calibration_bins=self.calibration_bins)


class ImageClassification(Classification):
    """Classification of pictures, uint8 [channels, height, width]."""

    columns: ClassVar[Mapping[str, ColumnKind]] = {
        "height": "integer",
        "width": "integer",
        "channels": "integer",
        "mean": "real",
        "std": "real",
    }

    def describe(self, samples: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Size, and mean and deviation of the pixels, scaled to 0..1; [N, channels, height, width] -> [N] each."""
        from components.workloads._image_columns import describe_images

        return describe_images(samples)

    def expectations(self, data: DataSpec) -> Sequence[Expectation]:
        """What every set of labelled pictures must satisfy, on the table with one row a sample."""
        from components.workloads._image_expectations import image_expectations

        return image_expectations(data)

    def tiny(self, *, seed: int) -> DecodedSamples:
        """24 noisy 8x8 pictures of three classes that differ in brightness: any model learns them in a few steps."""
        import numpy as np

        labels = np.arange(24, dtype=np.int64) % 3
        noise = np.random.Generator(np.random.Philox(seed)).integers(0, 96, (24, 1, 8, 8), dtype=np.uint8)
        samples = noise + 75 * labels.astype(np.uint8)[:, None, None, None]
        return DecodedSamples(
            samples=samples,
            labels=labels,
            class_names=("dark", "grey", "bright"),
            sources=tuple(f"tiny:{row}" for row in range(24)),
            columns={},
        )
