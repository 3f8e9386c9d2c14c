"""What changed between two data versions: files, samples, labels, rows of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.contracts import UNLABELLED
from components.data.packed import PackedData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNLABELLED_NAME = "(unlabelled)"


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Relative paths, ascending."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    num_same: int


@dataclass(frozen=True, slots=True)
class SampleChanges:
    """Rows of two packed versions, one for each sample however many copies of it there are; ascending."""

    added: NDArray[np.int64]
    """Of the later version; [A]."""
    removed: NDArray[np.int64]
    """Of the earlier version; [R]."""
    relabelled: NDArray[np.int64]
    """[L, 2]: rows of the earlier and of the later version whose label differs."""
    num_same: int
    """Samples of both versions with the same label in both."""


def compare_files(before: Mapping[str, str], after: Mapping[str, str]) -> FileChanges:
    """Compare listings, relative path -> hash."""
    both = before.keys() & after.keys()
    changed = sorted(path for path in both if before[path] != after[path])
    return FileChanges(
        added=tuple(sorted(after.keys() - both)),
        removed=tuple(sorted(before.keys() - both)),
        changed=tuple(changed),
        num_same=len(both) - len(changed),
    )


def compare_samples(before: PackedData, after: PackedData) -> SampleChanges:
    """Compare by sample id, which is the content of a sample without its label; classes are compared by their names.

    A sample that is there several times is relabelled if the set of its labels differs.
    """
    import numpy as np

    labels = _label_bytes(before, after)
    ids = [_keys(packed.sample_ids) for packed in (before, after)]
    pairs = [_keys(np.hstack((each.sample_ids, label))) for each, label in zip((before, after), labels, strict=True)]
    firsts = [np.sort(np.unique(each, return_index=True)[1]) for each in ids]
    added = firsts[1][~np.isin(ids[1][firsts[1]], ids[0])]
    removed = firsts[0][~np.isin(ids[0][firsts[0]], ids[1])]
    lone = np.concatenate(
        [each[~np.isin(mine, others)] for each, mine, others in zip(ids, pairs, pairs[::-1], strict=True)]
    )
    common, rows_before, rows_after = np.intersect1d(ids[0], ids[1], return_indices=True)
    differs = np.isin(common, lone)
    moved = np.stack((rows_before[differs], rows_after[differs]), axis=1).astype(np.int64)
    return SampleChanges(added, removed, moved[np.argsort(moved[:, 1])], int((~differs).sum()))


def rows_per_class(packed: PackedData) -> dict[str, int]:
    """Class name -> rows of all splits, copies included; unlabelled ones last, if there are any."""
    import numpy as np

    counts = np.bincount(packed.labels + 1, minlength=len(packed.spec.class_names) + 1).tolist()
    unlabelled = {UNLABELLED_NAME: counts[0]} if counts[0] else {}
    return {**dict(zip(packed.spec.class_names, counts[1:], strict=True)), **unlabelled}


def label_name(packed: PackedData, row: int) -> str:
    """What the label of a row is called: its class, or its numbers."""
    label = packed.labels[row]
    if packed.spec.label_kind == "numbers":
        return ", ".join(f"{value:g}" for value in label.tolist())
    return UNLABELLED_NAME if label == UNLABELLED else packed.spec.class_names[int(label)]


def _label_bytes(*versions: PackedData) -> list[NDArray[np.uint8]]:
    """[N, W] each: equal bytes for labels that mean the same in both."""
    import numpy as np

    vocabulary: dict[str, int] = {}
    found = []
    for packed in versions:
        if packed.spec.label_kind == "numbers":
            # Of NaN there are many, and of zero two.
            values = np.where(np.isnan(packed.labels), np.float32(np.nan), packed.labels + np.float32(0))
            found.append(np.ascontiguousarray(values, dtype=np.float32).view(np.uint8))
        else:
            numbers = [vocabulary.setdefault(name, len(vocabulary)) for name in packed.spec.class_names]
            places = np.array([*numbers, UNLABELLED], dtype=np.int64)[packed.labels]
            found.append(places[:, None].view(np.uint8))
    width = max(each.shape[1] for each in found)
    return [np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in found]


def _keys(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    """[N, W] -> [N] values that sort and compare as their bytes."""
    import numpy as np

    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
