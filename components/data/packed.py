"""Reads the packed data artifact: samples, labels and splits as memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.contracts import SPLITS, DataSpec, is_labelled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.artifacts.artifact import Artifact

SAMPLES = "samples.npy"
LABELS = "labels.npy"
SPLIT_INDEX = "splits.npy"
SAMPLE_IDS = "sample_ids.npy"
TABLE = "table.parquet"
INFO = "data.json"


@dataclass(frozen=True, slots=True)
class PackedData:
    """A data version, decoded once; the arrays are read-only and come from disk as they are touched."""

    samples: NDArray[Any]
    """[N, *S], of spec.sample_dtype."""
    labels: NDArray[Any]
    """Of spec.label_kind: [N] int64 or [N, D] float32."""
    splits: NDArray[np.uint8]
    """[N], index into contracts.SPLITS; 255 is left out."""
    sample_ids: NDArray[np.uint8]
    """[N, 16]; equal for samples that are equal, whatever their labels."""
    spec: DataSpec
    info: Mapping[str, Any]
    """All of data.json: counts, what was dropped or damaged."""

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the samples in *split*, ascending; labelled or not."""
        import numpy as np

        return np.flatnonzero(self.splits == SPLITS.index(split)).astype(np.int64)

    def labelled_rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the labelled samples in *split*, ascending."""
        rows = self.rows(split)
        return rows[is_labelled(self.labels[rows])]


def open_packed(artifact: Artifact) -> PackedData:
    """Map the arrays of a data artifact; the store has verified its files."""
    info = artifact.read_json(INFO)
    return PackedData(
        samples=_mapped(artifact, SAMPLES),
        labels=_mapped(artifact, LABELS),
        splits=_mapped(artifact, SPLIT_INDEX),
        sample_ids=_mapped(artifact, SAMPLE_IDS),
        spec=_spec(info),
        info=info,
    )


def _mapped(artifact: Artifact, name: str) -> Any:
    import numpy as np

    return np.asarray(np.load(artifact.file(name), mmap_mode="r", allow_pickle=False))


def _spec(info: Mapping[str, Any]) -> DataSpec:
    numbers: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in info.get("numbers", {}).items()
    }
    return DataSpec(
        sample_shape=tuple(info["sample_shape"]),
        class_names=tuple(info["class_names"]),
        channel_mean=tuple(info["channel_mean"]),
        channel_std=tuple(info["channel_std"]),
        num_train=info["num_train"],
        **numbers,
    )
