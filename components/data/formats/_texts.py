"""What the text formats share: rows in, one array of equally long UTF-8 samples out, and labels in class order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from components.contracts import DecodedSamples, FormatParams
from components.data.formats._images import labels_by_name, labels_by_number
from components.data.formats._parquet_tables import SHARD
from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS = ("train", "validation", "val", "valid", "dev", "test", "transfer")
"""Names of files and first folders that tell a split; files come in this order, and those that tell none behind."""
CUT = "cut"
"""The column that says whether a text was longer than it is stored."""
_PLAIN = (str, int, float, bool, type(None))


class TextParams(FormatParams):
    """What every text format can be told."""

    text_column: str = Field("text", min_length=1, description="name of the column with the texts")
    label_column: str = Field("label", min_length=1, description="its labels: names or whole numbers; none: unlabelled")
    max_bytes: int = Field(
        256, ge=8, le=65_536, description="bytes a text is stored in, as UTF-8; longer ones are cut between characters"
    )
    class_names: tuple[str, ...] | None = Field(
        None, min_length=1, description="the label set, in label order; without it the data decides (sorted by name)"
    )

    @field_validator("class_names")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twice := [name for name, count in Counter(names or ()).items() if count > 1]:
            raise ValueError(f"class_names must be given once each (twice: {some_of(twice)})")
        return names


@dataclass(frozen=True, slots=True)
class Row:
    """One text as its file has it."""

    source: str
    text: Any
    label: Any
    columns: Mapping[str, Any] = field(default_factory=dict)
    damage: str = ""
    """Why the file does not even say what the text is."""


def decode_rows(rows: Iterable[Row], params: TextParams, *, named: tuple[str, ...] | None = None) -> DecodedSamples:
    """Samples uint8 [N, max_bytes], zeros behind the text; *named* are class names that the files give.

    DataDamagedError where there is nothing, or labels are of several kinds or outside the set.
    """
    kept, damaged = _sorted_out(rows)
    if not kept:
        why = f"none of {len(damaged)} rows holds a text: {some_of(damaged)}" if damaged else "there is no row"
        raise DataDamagedError(f"the data set is empty: {why}")
    samples, cut, longest = _stored([row.text for row in kept], params.max_bytes)
    sources = tuple(row.source for row in kept)
    labels, classes = _labels([row.label for row in kept], sources, params.class_names or named)
    note = f"{sum(cut)} of {len(kept)} texts were cut to max_bytes = {params.max_bytes} (the longest has {longest})"
    return DecodedSamples(
        samples=samples,
        labels=labels,
        class_names=classes,
        sources=sources,
        columns={CUT: cut, **_columns(kept)},
        damaged=tuple(damaged),
        notes=(note,) if any(cut) else (),
    )


def _sorted_out(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    kept, damaged = [], []
    for row in rows:
        if why := row.damage or _damage(row.text):
            damaged.append(f"{row.source}: {why}")
        else:
            kept.append(row)
    return kept, damaged


def _damage(text: Any) -> str:
    if text is None:
        return "holds no text"
    if not isinstance(text, str):
        return f"holds {text!r:.40}, which is no text"
    if "\0" in text:
        return "holds a zero byte, which marks the end of a text"
    bad = next((character for character in text if "\ud800" <= character <= "\udfff"), None)
    return f"is not valid UTF-8 ({_byte(bad)})" if bad else ""


def _byte(surrogate: str) -> str:
    """How the error handler surrogateescape keeps a byte that is none of a character."""
    return f"byte 0x{ord(surrogate) - 0xDC00:02x}" if "\udc80" <= surrogate <= "\udcff" else "a lone surrogate"


def _stored(texts: Sequence[str], max_bytes: int) -> tuple[NDArray[np.uint8], list[bool], int]:
    """uint8 [N, max_bytes], which of them are cut, and the length of the longest in bytes."""
    import numpy as np

    samples = np.zeros((len(texts), max_bytes), dtype=np.uint8)
    cut, longest = [], 0
    for row, text in enumerate(texts):
        whole = text.encode()
        # What is left of a character that does not fit goes too.
        content = whole if len(whole) <= max_bytes else whole[:max_bytes].decode(errors="ignore").encode()
        samples[row, : len(content)] = np.frombuffer(content, dtype=np.uint8)
        cut.append(len(content) < len(whole))
        longest = max(longest, len(whole))
    return samples, cut, longest


def _labels(
    labels: Sequence[Any], sources: Sequence[str], named: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Whole numbers are positions in the label set, anything else is a name; text of digits is a number unless named."""
    known = [label for label in labels if label is not None]
    if all(_is_number(label) for label in known):
        return labels_by_number(labels, sources, named)
    if not all(isinstance(label, str) for label in known):
        odd = [f"{source} is {label!r}" for source, label in zip(sources, labels, strict=True) if not _fits(label)]
        raise DataDamagedError(f"labels must be all names or all whole numbers: {some_of(odd)}")
    if all(_digits(label) for label in known) and not set(known) <= set(named or ()):
        numbers = [None if label is None else int(label) for label in labels]
        return labels_by_number(numbers, sources, named)
    return labels_by_name(labels, sources, named)


def _is_number(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool)


def _fits(label: Any) -> bool:
    return label is None or isinstance(label, str)


def _digits(label: str) -> bool:
    return label.isascii() and (label.isdecimal() or (label[:1] == "-" and label[1:].isdecimal()))


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Every other column with plain values, null where a row has none; one named as our own steps aside."""
    names = dict.fromkeys(name for row in rows for name in row.columns if name)
    columns = {name: [row.columns.get(name) for row in rows] for name in names}
    plain = {name: values for name, values in columns.items() if all(isinstance(value, _PLAIN) for value in values)}
    of_one_kind = {name: _of_one_kind(values) for name, values in plain.items() if any(v is not None for v in values)}
    return {f"source_{name}" if name == CUT else name: values for name, values in of_one_kind.items()}


def _of_one_kind(values: list[Any]) -> list[Any]:
    """A column of several kinds becomes one of text."""
    kinds = {type(value) for value in values if value is not None}
    return values if len(kinds) == 1 else [None if value is None else str(value) for value in values]


def files(folder: Path, suffixes: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Every file with such an ending, hidden ones left out, with its relative path, in the order of `place_of`."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(found, key=place_of):
        path = PurePosixPath(name)
        if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in path.parts):
            yield name, found[name]


def place_of(name: str) -> tuple[int, str]:
    """By split, then by path: an index into the training texts is one into all texts, as official test sets need."""
    split = split_of(name).get("split")
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS)), name


def split_of(name: str) -> dict[str, str]:
    """A column `split` where the file's name or first folder tells one: `train.csv`, `test/0.csv`, a shard's name."""
    path = PurePosixPath(name)
    if shard := SHARD.match(path.name):
        return {"split": shard[1]}
    told = [part for part in (path.stem, path.parts[0]) if part in SPLITS]
    return {"split": told[0]} if told else {}
