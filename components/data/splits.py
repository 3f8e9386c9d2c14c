"""Which split a sample is in: by hash, column, folder or index file, with copies kept out of more than one."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.contracts import SPLITS, DecodedSamples, is_labelled
from components.errors import SplitError, some_of
from components.params import ColumnSplit, FolderSplit, HashSplit, IndexSplit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEFT_OUT = 255
TRAIN, VALIDATION, TEST, TRANSFER = range(len(SPLITS))
PRECEDENCE = (TEST, VALIDATION, TRAIN, TRANSFER)
"""Which of several copies of a sample is kept."""
JUDGED = SPLITS[:TRANSFER]
"""Splits in which every class must be; a transfer set may hold whatever there is."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The split of every sample, and what that cost."""

    of: NDArray[np.uint8]
    """[N], index into contracts.SPLITS; LEFT_OUT (255) for samples that no split has."""
    dropped: tuple[str, ...]
    """Copies that were left out, as 'source: copy of source (split)'."""
    conflicting: tuple[str, ...]
    """Copies whose labels differ, as 'source (label) and source (label)'; the first of each is kept."""


def split_samples(
    decoded: DecodedSamples,
    ids: NDArray[np.uint8],
    by: HashSplit | ColumnSplit | FolderSplit | IndexSplit,
    *,
    on_duplicate: Literal["drop", "refuse"],
    min_per_class: int,
    index_file: Path | None = None,
) -> Splits:
    """Split N samples as *by* says; *ids* are their sample_ids, *index_file* is where by.file really lies.

    Raises SplitError for a split that cannot be made, for copies where they are refused, and when a class has fewer
    than *min_per_class* samples in a split.
    """
    if isinstance(by, HashSplit):
        wanted = _by_hash(ids, by)
    elif isinstance(by, ColumnSplit):
        wanted = _by_value(_column(decoded, by.column), by, ids, f"column {by.column!r}")
    elif isinstance(by, FolderSplit):
        wanted = _by_value(_first_folders(decoded), by, ids, "first folder")
    else:
        wanted = _by_index(len(ids), decoded, by, index_file or by.file)
    splits = _without_copies(decoded, ids, wanted, on_duplicate)
    _refuse_small_classes(decoded, splits.of, min_per_class)
    return splits


def _by_hash(ids: NDArray[np.uint8], by: HashSplit) -> NDArray[np.uint8]:
    """Test and validation are the two lowest ranges of a 64-bit hash, so growing one moves no sample of test.

    Transfer is the highest, so a transfer set is taken from training alone.
    """
    import numpy as np

    hashed = hashes(ids, by.salt)
    splits = np.full(len(ids), TRANSFER, dtype=np.uint8)
    splits[_below(hashed, 1 - Fraction(by.transfer))] = TRAIN
    splits[_below(hashed, Fraction(by.validation) + Fraction(by.test))] = VALIDATION
    splits[_below(hashed, Fraction(by.test))] = TEST
    return splits


def hashes(ids: NDArray[np.uint8], salt: str) -> list[int]:
    """A 64-bit number for each sample id, [N, 16] -> [N]; another salt gives others."""
    prefix = f"{salt}\0".encode()
    return [int.from_bytes(hashlib.sha256(prefix + sample_id.tobytes()).digest()[:8], "big") for sample_id in ids]


def _below(hashed: Sequence[int], share: Fraction) -> list[bool]:
    """Whole numbers only: the same samples on every machine."""
    limit = int(share * 2**64)
    return [value < limit for value in hashed]


def _by_value(
    values: Sequence[str | None], by: ColumnSplit | FolderSplit, ids: NDArray[np.uint8], what: str
) -> NDArray[np.uint8]:
    """Split by named values; values that nobody named are left out, and named ones must exist."""
    import numpy as np

    split_of = _split_of_value(by)
    present = {value for value in values if value is not None}
    _refuse_missing_values(by, present, what)
    splits = np.array(
        [LEFT_OUT if value is None else split_of.get(value, LEFT_OUT) for value in values], dtype=np.uint8
    )
    hashed = hashes(ids, by.salt)
    if not present & set(by.validation):
        held_out = np.array(_below(hashed, Fraction(by.validation_share)), dtype=bool)
        splits[held_out & (splits == TRAIN)] = VALIDATION
    if not present & set(by.transfer):
        kept = np.array(_below(hashed, 1 - Fraction(by.transfer_share)), dtype=bool)
        splits[~kept & (splits == TRAIN)] = TRANSFER
    return splits


def _split_of_value(by: ColumnSplit | FolderSplit) -> dict[str, int]:
    split_of: dict[str, int] = {}
    named = ((TRAIN, by.train), (VALIDATION, by.validation), (TEST, by.test), (TRANSFER, by.transfer))
    for split, values in named:
        for value in values:
            if split_of.setdefault(value, split) != split:
                raise SplitError(
                    f"data.split: {value!r} is named for both {SPLITS[split_of[value]]} and {SPLITS[split]}"
                )
    return split_of


def _refuse_missing_values(by: ColumnSplit | FolderSplit, present: set[str], what: str) -> None:
    """A misspelt value would quietly leave samples out; a folder's alternatives need only one to exist."""
    named = {"train": by.train, "validation": by.validation, "test": by.test, "transfer": by.transfer}
    if isinstance(by, FolderSplit):
        optional = {"validation"} if "transfer" in by.model_fields_set else {"validation", "transfer"}
        named = {
            split: values for split, values in named.items() if split not in optional and not present & set(values)
        }
    missing = [
        f"data.split.{split} names {value!r}{_closest(value, present)}"
        for split, values in named.items()
        for value in values
        if value not in present
    ]
    if missing:
        listed = some_of(sorted(present), limit=10) or "nothing"
        raise SplitError(f"no sample has that {what}: {some_of(missing)}. There is: {listed}")


def _closest(value: str, present: set[str]) -> str:
    close = difflib.get_close_matches(value, sorted(present), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _column(decoded: DecodedSamples, column: str, place: str = "data.split.column") -> list[str | None]:
    if column not in decoded.columns:
        listed = some_of(sorted(decoded.columns), limit=10) or "none"
        raise SplitError(f"{place} {column!r} is not in the data (it has: {listed})")
    return [None if value is None else str(value) for value in decoded.columns[column]]


def _first_folders(decoded: DecodedSamples) -> list[str | None]:
    return [source.split("/")[0] if "/" in source else None for source in decoded.sources]


def _by_index(num_samples: int, decoded: DecodedSamples, by: IndexSplit, path: Path) -> NDArray[np.uint8]:
    import numpy as np

    if decoded.damaged:
        raise SplitError(
            f"data.split.file counts the samples in order, and {len(decoded.damaged)} damaged ones would shift that order: "
            "repair them, or split in another way"
        )
    splits = np.full(num_samples, LEFT_OUT, dtype=np.uint8)
    if by.test_column is not None:
        splits[_rows_of_column(decoded, by.test_column, by.test_values)] = TEST
    for split, rows in _split_arrays(path, by).items():
        refuse_bad_rows(rows, num_samples, f"{path}: {SPLITS[split]}")
        _refuse_taken_rows(rows, splits, f"{path}: {SPLITS[split]}")
        splits[rows] = split
    return splits


def _rows_of_column(decoded: DecodedSamples, column: str, wanted: Sequence[str]) -> list[int]:
    values = _column(decoded, column, "data.split.test_column")
    if missing := [value for value in wanted if value not in values]:
        listed = some_of(sorted({value for value in values if value is not None}), limit=10) or "nothing"
        raise SplitError(f"no sample has {some_of(missing)} in data.split.test_column {column!r}. There is: {listed}")
    return [row for row, value in enumerate(values) if value in wanted]


def _split_arrays(path: Path, by: IndexSplit) -> dict[int, NDArray[np.int64]]:
    """The arrays train, validation (or val), test unless a column names it, and the transfer set if there is one."""
    arrays = index_arrays(path, place="data.split.file")
    names = {TRAIN: "train", VALIDATION: "validation" if "validation" in arrays else "val"}
    if by.test_column is None:
        names[TEST] = "test"
    if by.transfer is not None or SPLITS[TRANSFER] in arrays:
        names[TRANSFER] = by.transfer or SPLITS[TRANSFER]
    return {split: named_array(arrays, name, f"data.split.file {path}") for split, name in names.items()}


def index_arrays(path: Path, *, place: str) -> Mapping[str, NDArray[Any]]:
    """All arrays of an .npz file; SplitError, which names the parameter *place*, for one that cannot be read."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise SplitError(f"{place} {path} does not exist") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise SplitError(f"{place} {path} is no .npz file of index arrays: {error}") from error


def named_array(arrays: Mapping[str, NDArray[Any]], name: str, what: str) -> NDArray[Any]:
    """One of *arrays*; SplitError says which there are."""
    if name not in arrays:
        close = _closest(name, set(arrays))
        raise SplitError(f"{what} has no array {name}{close} (it has: {some_of(sorted(arrays), limit=10)})")
    return arrays[name]


def refuse_bad_rows(rows: NDArray[Any], num_samples: int, what: str) -> None:
    """SplitError unless *rows* are whole numbers below *num_samples*."""
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise SplitError(f"{what} must be one row of whole numbers, not {rows.dtype} of shape {rows.shape}")
    if outside := [int(row) for row in rows if not 0 <= row < num_samples]:
        raise SplitError(f"{what} names samples outside 0..{num_samples - 1}: {some_of(outside)}")


def _refuse_taken_rows(rows: NDArray[Any], splits: NDArray[np.uint8], what: str) -> None:
    import numpy as np

    taken = rows[splits[rows] != LEFT_OUT]
    unique, counts = np.unique(rows, return_counts=True)
    if twice := [*taken.tolist(), *unique[counts > 1].tolist()]:
        raise SplitError(f"{what} names samples that are in a split already: {some_of(twice)}")


def _without_copies(
    decoded: DecodedSamples, ids: NDArray[np.uint8], wanted: NDArray[np.uint8], on_duplicate: str
) -> Splits:
    """Of every set of copies keep one: test before validation before training before transfer.

    Of those in one split, labelled before not, and first before later.
    """
    import numpy as np

    splits = wanted.copy()
    dropped, conflicting = [], []
    for kept, copies in _copies(decoded, ids, wanted):
        conflicting += [_conflict(decoded, kept, copy) for copy in copies if _labels_differ(decoded, kept, copy)]
        dropped += [
            f"{decoded.sources[copy]}: copy of {decoded.sources[kept]} ({SPLITS[wanted[kept]]})" for copy in copies
        ]
        splits[np.asarray(copies)] = LEFT_OUT
    if dropped and on_duplicate == "refuse":
        also = f" Labels differ: {some_of(conflicting)}." if conflicting else ""
        raise SplitError(
            f"{len(dropped)} samples are copies of others: {some_of(dropped)}.{also} Or set data.on_duplicate=drop"
        )
    return Splits(splits, tuple(dropped), tuple(conflicting))


def _copies(decoded: DecodedSamples, ids: NDArray[np.uint8], splits: NDArray[np.uint8]) -> list[tuple[int, list[int]]]:
    """For every sample with copies in use: the row to keep and the other rows."""
    labelled = is_labelled(decoded.labels)
    groups: dict[bytes, list[int]] = {}
    for row, sample_id in enumerate(ids):
        if splits[row] != LEFT_OUT:
            groups.setdefault(sample_id.tobytes(), []).append(row)

    def precedence(row: int) -> tuple[int, bool, int]:
        return PRECEDENCE.index(int(splits[row])), not labelled[row], row

    ranked = [sorted(rows, key=precedence) for rows in groups.values() if len(rows) > 1]
    return [(rows[0], rows[1:]) for rows in ranked]


def _labels_differ(decoded: DecodedSamples, kept: int, copy: int) -> bool:
    labels = decoded.labels[[kept, copy]]
    return bool(is_labelled(labels).all() and (labels[0] != labels[1]).any())


def _conflict(decoded: DecodedSamples, kept: int, copy: int) -> str:
    first, second = (f"{decoded.sources[row]} ({_label_in_words(decoded, row)})" for row in (kept, copy))
    return f"{first} and {second}"


def _label_in_words(decoded: DecodedSamples, row: int) -> str:
    label = decoded.labels[row]
    return ", ".join(f"{value:g}" for value in label) if decoded.target_names else decoded.class_names[label]


def count_by_class(decoded: DecodedSamples, splits: NDArray[np.uint8]) -> dict[str, dict[str, int]]:
    """Labelled samples for each split and class, or target; of the transfer set if there is one."""
    import numpy as np

    labelled = is_labelled(decoded.labels)

    def counts(split: int) -> list[int]:
        labels = decoded.labels[(splits == split) & labelled]
        if decoded.target_names:
            return [len(labels)] * len(decoded.target_names)
        return [int(count) for count in np.bincount(labels, minlength=len(decoded.class_names))]

    used = [split for split, name in enumerate(SPLITS) if name in splits_in_use(splits)]
    return {
        SPLITS[split]: dict(zip(decoded.target_names or decoded.class_names, counts(split), strict=True))
        for split in used
    }


def splits_in_use(splits: NDArray[np.uint8]) -> tuple[str, ...]:
    """All splits, without the transfer set where no sample is in it."""
    return SPLITS if (splits == TRANSFER).any() else JUDGED


def _refuse_small_classes(decoded: DecodedSamples, splits: NDArray[np.uint8], min_per_class: int) -> None:
    counts = count_by_class(decoded, splits) if decoded.class_names else {}
    short = [
        f"{name!r} has {number} in {split}"
        for split, classes in counts.items()
        if split in JUDGED
        for name, number in classes.items()
        if number < min_per_class
    ]
    if short:
        raise SplitError(
            f"every class must have at least {min_per_class} labelled samples in every split (data.min_per_class): "
            f"{some_of(short, limit=12)}. Add samples, or change data.split"
        )
