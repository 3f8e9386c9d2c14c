"""Parquet in the layout of Hugging Face data sets: a column of encoded pictures, a column of labels, any others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.contracts import DecodedSamples
from components.data.formats._images import ImageParams, Pictures, decode_pictures, labels_by_name, labels_by_number
from components.data.formats._parquet_tables import (
    SHARD,
    check_columns,
    classes_file,
    flat_columns,
    labels_are_text,
    names_in_metadata,
    tables,
)
from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import pyarrow as pa


class Params(ImageParams):
    """All `.parquet` files below the folder, in the order of their paths; `train-00000-of-00001.parquet` tells a split."""

    name: Literal["parquet"] = "parquet"
    image_column: str = Field("image", description="encoded pictures: binary, or a struct of bytes and path")
    label_column: str = Field("label", description="whole numbers or text; null or -1: unlabelled")

    def read(self, folder: Path) -> DecodedSamples:
        """Decode every row; the split in a file's name goes to a column `split`, other flat columns are kept.

        Class names come from class_names, else from the Hugging Face metadata of the files, else from classes.json
        beside them, else they are the labels themselves. Raises DataDamagedError.
        """
        rows = _read_rows(folder, self)
        pictures = decode_pictures(rows.sources, rows.images, self)
        kept = _Kept(pictures)
        sources = tuple(kept.of(rows.sources))
        named = self.class_names or rows.class_names or classes_file(folder)
        by_value = labels_by_name if rows.labels_are_text else labels_by_number
        labels, classes = by_value(kept.of(rows.labels), sources, named)
        columns = {name: kept.of(values) for name, values in rows.columns.items()}
        return DecodedSamples(pictures.samples, labels, classes, sources, columns, pictures.damaged)


@dataclass(frozen=True, slots=True)
class _Kept:
    pictures: Pictures

    def of(self, values: Sequence[Any]) -> list[Any]:
        """Those of [N] *values* whose picture could be decoded."""
        return [values[index] for index in self.pictures.kept]


@dataclass(slots=True)
class _Rows:
    """The rows of all files, one after the other."""

    sources: list[str] = field(default_factory=list)
    images: list[Callable[[], bytes | None]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    labels_are_text: bool | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None

    def append(self, name: str, table: pa.Table, params: Params) -> None:
        before = len(self.sources)
        self.sources += [f"{name}:{row}" for row in range(table.num_rows)]
        self.images += _images(table, params.image_column)
        self.labels += table.column(params.label_column).to_pylist()
        others = flat_columns(table, without=(params.image_column, params.label_column))
        if "split" not in others and (shard := SHARD.match(name.rpartition("/")[2])):
            others["split"] = [shard[1]] * table.num_rows
        for column in {**self.columns, **others}:
            values = self.columns.setdefault(column, [None] * before)
            values += others.get(column, [None] * table.num_rows)


def _read_rows(folder: Path, params: Params) -> _Rows:
    rows = _Rows()
    for name, table in tables(folder):
        check_columns(name, table, {"image_column": params.image_column, "label_column": params.label_column})
        _note_label_kind(rows, name, table, params)
        _note_class_names(rows, name, table, params)
        rows.append(name, table, params)
    if not rows.sources:
        raise DataDamagedError("the data set is empty: there is no row in any .parquet file")
    return rows


def _note_label_kind(rows: _Rows, name: str, table: pa.Table, params: Params) -> None:
    text = labels_are_text(name, table, params.label_column)
    if text is None:
        return
    if rows.labels_are_text not in (None, text):
        kind = table.schema.field(params.label_column).type
        raise DataDamagedError(
            f"{name}: labels in {params.label_column!r} are {kind}, unlike those of the files before it"
        )
    rows.labels_are_text = text


def _note_class_names(rows: _Rows, name: str, table: pa.Table, params: Params) -> None:
    names = names_in_metadata(table.schema.metadata or {}, params.label_column)
    if names and rows.class_names not in (None, names) and params.class_names is None:
        raise DataDamagedError(
            f"{name} names the classes {some_of(names)}, but a file before it {some_of(rows.class_names or ())}; "
            "set data.format.class_names"
        )
    rows.class_names = rows.class_names or names


def _images(table: pa.Table, column: str) -> Iterator[Callable[[], bytes | None]]:
    import pyarrow.compute as pc
    from pyarrow import types

    images: Any = table.column(column)
    if types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0:
        images = pc.struct_field(images, "bytes")
    if not (types.is_binary(images.type) or types.is_large_binary(images.type)):
        raise DataDamagedError(f"column {column!r} is {images.type}; it must be binary, or a struct with bytes")
    return (chunk[row].as_py for chunk in images.chunks for row in range(len(chunk)))
