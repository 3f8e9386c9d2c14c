"""Texts in Parquet files, as in Hugging Face data sets: a column of texts, a column of labels, any others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.contracts import DecodedSamples
from components.data.formats._parquet_tables import (
    check_columns,
    classes_file,
    flat_columns,
    labels_are_text,
    names_in_metadata,
    tables,
)
from components.data.formats._texts import Row, TextParams, decode_rows, place_of, split_of
from components.errors import DataDamagedError

if TYPE_CHECKING:
    import pyarrow as pa


class Params(TextParams):
    """All `.parquet` files below the folder, training before validation and test; shards such as
    `train-00000-of-00001.parquet` tell a split.
    """

    name: Literal["text_parquet"] = "text_parquet"

    def read(self, folder: Path) -> DecodedSamples:
        """Sources such as 'train.parquet:12' count rows from 0; a null label: unlabelled.

        Class names come from class_names, else from the Hugging Face metadata of the files, else from classes.json
        beside them, else from the labels. DataDamagedError for a file that is no Parquet or lacks a column.
        """
        found = sorted(tables(folder), key=lambda named: place_of(named[0]))
        rows = (row for name, table in found for row in self._rows(name, table))
        in_files = {names_in_metadata(table.schema.metadata or {}, self.label_column) for _, table in found} - {None}
        if len(in_files) > 1 and not self.class_names:
            raise DataDamagedError("the files name different classes in their metadata; set data.format.class_names")
        return decode_rows(rows, self, named=next(iter(in_files), None) or classes_file(folder))

    def _rows(self, name: str, table: pa.Table) -> Iterator[Row]:
        check_columns(name, table, {"text_column": self.text_column, "label_column": self.label_column})
        labels_are_text(name, table, self.label_column)
        texts, labels = self._texts(name, table), table.column(self.label_column).to_pylist()
        others = flat_columns(table, without=(self.text_column, self.label_column))
        split = split_of(name)
        for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
            columns = {**split, **{column: values[row] for column, values in others.items()}}
            yield Row(f"{name}:{row}", text, label, columns)

    def _texts(self, name: str, table: pa.Table) -> list[str | None]:
        """A file may hold any bytes where it promises text."""
        import pyarrow as pa
        from pyarrow import types

        column = table.column(self.text_column)
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)):
            raise DataDamagedError(f"{name}: column {self.text_column!r} is {column.type}; it must be text")
        raw = column.cast(kind).cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode(errors="surrogateescape") for value in raw]
