"""Image classification: one label a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from components.contracts import ColumnKind, DataSpec, DecodedSamples, Direction, Expectation, WorkloadParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Params(WorkloadParams):
    """Nothing to choose: the classes are those of the data."""

    name: Literal["image_classification"] = "image_classification"

    def build(self) -> ImageClassification:
        return ImageClassification()


class ImageClassification:
    """Cross-entropy on hard labels; accuracy, negative log-likelihood (nats) and calibration error as metrics."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "higher", "nll": "lower", "ece": "lower"}
    primary_metric: ClassVar[str] = "accuracy"
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

    def hard_label_loss(self, logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
        """Cross-entropy in nats; [N, C], [N] -> [N]. Smoothing spreads that share of each label over all classes."""
        from torch.nn import functional

        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)

    def metrics(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Mapping[str, float]:
        """[N, C], [N] -> a value for each of `directions`, computed in float64; the calibration error in 15 bins."""
        import numpy as np

        from components.evaluation import metrics

        wide = logits.astype(np.float64)
        return {
            "accuracy": metrics.accuracy(wide, labels),
            "nll": metrics.negative_log_likelihood(wide, labels),
            "ece": metrics.expected_calibration_error(wide, labels, bins=15),
        }

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
