"""Writes the packed data artifact: arrays to map, a table with one row a sample, and what there is to know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import write_json
from components.contracts import SPLITS, UNLABELLED, DecodedSamples, is_labelled
from components.data.packed import INFO, LABELS, SAMPLE_IDS, SAMPLES, SPLIT_INDEX, TABLE
from components.data.splits import LEFT_OUT, Splits, count_by_class, splits_in_use
from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 1024


def check_decoded(decoded: DecodedSamples) -> None:
    """Hold a format to its contract; DataDamagedError when shapes, labels or columns do not fit together."""
    problems = list(_problems(decoded))
    if problems:
        raise DataDamagedError(f"the data cannot be used: {'; '.join(problems)}")


def _problems(decoded: DecodedSamples) -> Sequence[str]:
    import numpy as np

    num_samples = len(decoded.samples)
    lengths = {"labels": len(decoded.labels), "sources": len(decoded.sources)}
    lengths |= {name: len(values) for name, values in decoded.columns.items()}
    problems = [f"{found} {name} for {num_samples} samples" for name, found in lengths.items() if found != num_samples]
    if not num_samples:
        return ["the data set is empty"]
    if not decoded.class_names and not decoded.target_names:
        return ["no sample has a label and data.format.class_names is not set"]
    samples = decoded.samples
    if samples.dtype not in (np.uint8, np.float32) or samples.ndim < 2:
        problems.append(f"samples are {samples.dtype} of shape {samples.shape}, not uint8 or float32 [N, ...]")
    elif samples.dtype == np.float32 and not np.isfinite(samples).all():
        bad = np.flatnonzero(~np.isfinite(samples).reshape(num_samples, -1).all(axis=1))
        problems.append(f"{len(bad)} samples are not finite: {some_of([decoded.sources[row] for row in bad])}")
    if problems:
        return problems
    return list(_wrong_targets(decoded) if decoded.target_names else _wrong_classes(decoded))


def _wrong_classes(decoded: DecodedSamples) -> Iterator[str]:
    import numpy as np

    outside = np.flatnonzero((decoded.labels < UNLABELLED) | (decoded.labels >= len(decoded.class_names)))
    if len(outside):
        named = [f"{decoded.sources[row]} is {decoded.labels[row]}" for row in outside]
        yield f"{len(outside)} labels are outside the {len(decoded.class_names)} classes: {some_of(named)}"


def _wrong_targets(decoded: DecodedSamples) -> Iterator[str]:
    import numpy as np

    labels, wanted = decoded.labels, (len(decoded.samples), len(decoded.target_names))
    if labels.dtype != np.float32 or labels.shape != wanted:
        yield f"labels are {labels.dtype} of shape {labels.shape}, not float32 {list(wanted)}"
    elif infinite := np.flatnonzero(np.isinf(labels).any(axis=1)).tolist():
        yield f"{len(infinite)} labels are infinite: {some_of([decoded.sources[row] for row in infinite])}"
    elif not is_labelled(labels).any():
        yield f"no sample has a label ({', '.join(decoded.target_names)})"


def write_packed(out: Path, decoded: DecodedSamples, ids: NDArray[np.uint8], splits: Splits) -> None:
    """Fill *out* with the files of a data artifact; the same bytes for the same arguments."""
    import numpy as np

    arrays = {SAMPLES: decoded.samples, LABELS: decoded.labels, SPLIT_INDEX: splits.of, SAMPLE_IDS: ids}
    for name, array in arrays.items():
        np.save(out / name, np.ascontiguousarray(array), allow_pickle=False)
    _write_table(out / TABLE, decoded, ids, splits.of)
    write_json(out / INFO, _info(decoded, splits))


def _info(decoded: DecodedSamples, splits: Splits) -> dict[str, Any]:
    train = decoded.samples[splits.of == SPLITS.index("train")]
    mean, std = channel_statistics(train)
    return {
        "sample_shape": list(decoded.samples.shape[1:]),
        "class_names": list(decoded.class_names),
        "channel_mean": mean,
        "channel_std": std,
        "num_samples": len(decoded.labels),
        "num_train": len(train),
        "labelled": count_by_class(decoded, splits.of),
        "unlabelled": {name: _count_unlabelled(decoded, splits, name) for name in splits_in_use(splits.of)},
        "left_out": int((splits.of == LEFT_OUT).sum()),
        "dropped_copies": list(splits.dropped),
        "conflicting_labels": list(splits.conflicting),
        "damaged": list(decoded.damaged),
        **({"numbers": _numbers(decoded, splits)} if decoded.target_names or decoded.samples.dtype.kind == "f" else {}),
    }


def _numbers(decoded: DecodedSamples, splits: Splits) -> dict[str, Any]:
    """The fields of DataSpec that data of whole numbers and classes does without."""
    found: dict[str, Any] = {
        "sample_dtype": str(decoded.samples.dtype),
        "feature_names": list(decoded.feature_names),
    }
    if decoded.target_names:
        labels = decoded.labels[(splits.of == SPLITS.index("train")) & is_labelled(decoded.labels)]
        mean, std = _float_statistics(labels)
        # What never varies has no spread, and errors are divided by it.
        found |= {
            "target_names": list(decoded.target_names),
            "target_mean": mean,
            "target_std": [s or 1.0 for s in std],
        }
    return found


def _count_unlabelled(decoded: DecodedSamples, splits: Splits, split: str) -> int:
    return int(((splits.of == SPLITS.index(split)) & ~is_labelled(decoded.labels)).sum())


def channel_statistics(samples: NDArray[Any]) -> tuple[list[float], list[float]]:
    """[N, C, ...] -> mean and standard deviation a channel; of uint8, values scaled to 0..1, summed in whole numbers."""
    return _moments(_histograms(samples)) if samples.dtype.kind == "u" else _float_statistics(samples)


def _float_statistics(values: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """[N, C, ...] -> mean and standard deviation a channel, of exact sums so that every machine finds the same."""
    import numpy as np

    channels = [np.moveaxis(values, 1, 0)[channel].ravel().tolist() for channel in range(values.shape[1])]
    means = [math.fsum(channel) / max(1, len(channel)) for channel in channels]
    squares = (
        math.fsum((value - mean) ** 2 for value in channel) / max(1, len(channel))
        for channel, mean in zip(channels, means, strict=True)
    )
    return means, [math.sqrt(square) for square in squares]


def _histograms(samples: NDArray[np.uint8]) -> list[list[int]]:
    """How often each of the 256 values stands in each channel."""
    import numpy as np

    channels = samples.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = samples[start : start + _ROWS_AT_ONCE]
        for channel in range(channels):
            counts[channel] += np.bincount(rows[:, channel].ravel(), minlength=256)
    return counts.tolist()


def _moments(counts: list[list[int]]) -> tuple[list[float], list[float]]:
    sums = [
        (sum(row), sum(v * n for v, n in enumerate(row)), sum(v * v * n for v, n in enumerate(row))) for row in counts
    ]
    # A constant channel has no spread, and models divide by it: one step of the scale is the least it can be.
    return (
        [total / (255 * size) for size, total, _ in sums],
        [max(math.sqrt(size * squares - total * total) / size, 1.0) / 255 for size, total, squares in sums],
    )


def _write_table(path: Path, decoded: DecodedSamples, ids: NDArray[np.uint8], splits: NDArray[np.uint8]) -> None:
    """One row a sample: where it came from and what it is said to be; what it looks like, a workload says."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = len(decoded.labels)
    columns: dict[str, Any] = {
        "sample_index": pa.array(np.arange(rows, dtype=np.int64)),
        "source": pa.array(decoded.sources, type=pa.string()),
        "sample_id": pa.array([sample_id.tobytes().hex() for sample_id in ids], type=pa.string()),
        **_label_columns(decoded),
        "split": pa.array(["left_out" if split == LEFT_OUT else SPLITS[split] for split in splits], type=pa.string()),
    }
    columns |= {_free_name(name, columns): pa.array(values) for name, values in decoded.columns.items()}
    pq.write_table(pa.table(columns), path, compression="none", version="2.6")


def _label_columns(decoded: DecodedSamples) -> dict[str, Any]:
    """The label and its name, or a column a target, null where it is not known."""
    import pyarrow as pa

    if decoded.target_names:
        columns = zip(decoded.target_names, decoded.labels.T, strict=True)
        return {name: pa.array(values, from_pandas=True) for name, values in columns}
    return {
        "label": pa.array(decoded.labels),
        "class_name": pa.array([_class_name(decoded, int(label)) for label in decoded.labels], type=pa.string()),
    }


def _class_name(decoded: DecodedSamples, label: int) -> str | None:
    return None if label == UNLABELLED else decoded.class_names[label]


def _free_name(name: str, taken: dict[str, Any]) -> str:
    """A source's own `split` or `label` becomes `source_split`, `source_label`."""
    return f"source_{name}" if name in taken else name
