"""Texts in CSV or TSV files with a header: a column of texts, a column of labels, any others."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from components.contracts import DecodedSamples
from components.data.formats._texts import Row, TextParams, decode_rows, files, split_of
from components.errors import DataDamagedError, some_of

SUFFIXES = frozenset({".csv", ".tsv"})


class Params(TextParams):
    """All files below the folder, training before validation and test; names such as `train.csv` or `test/a.csv` tell a split."""

    name: Literal["text_csv"] = "text_csv"
    delimiter: str = Field(",", min_length=1, max_length=1, description="between fields; files that end in .tsv: a tab")

    def read(self, folder: Path) -> DecodedSamples:
        """UTF-8, fields quoted with \"; sources such as 'train.csv:12' count lines; an empty label: unlabelled.

        DataDamagedError for a file without a header, the columns or a closing quote; damaged rows are named.
        """
        rows = (row for name, path in files(folder, SUFFIXES) for row in self._rows(name, path))
        return decode_rows(rows, self)

    def _rows(self, name: str, path: Path) -> Iterator[Row]:
        # Bytes that are no UTF-8 come through as surrogates, so that only their own row is damaged.
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else self.delimiter
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            self._check(name, header)
            yield from self._of_file(name, header, reader)
        except csv.Error as error:
            raise DataDamagedError(f"{name} cannot be read as CSV: line {reader.line_num}: {error}") from error

    def _check(self, name: str, header: list[str]) -> None:
        for parameter in ("text_column", "label_column"):
            if header.count(getattr(self, parameter)) != 1:
                raise DataDamagedError(
                    f"{name} has no column {getattr(self, parameter)!r}, or more than one (its header is: "
                    f"{some_of(header, limit=12) or 'empty'}); set data.format.{parameter}"
                )

    def _of_file(self, name: str, header: list[str], reader: Iterator[list[str]]) -> Iterator[Row]:
        split, line = split_of(name), getattr(reader, "line_num", 1)
        for fields in reader:
            source, line = f"{name}:{line + 1}", getattr(reader, "line_num", line + 1)
            if not fields:
                continue
            if len(fields) != len(header):
                yield Row(source, None, None, damage=f"has {len(fields)} fields, and the header {len(header)}")
                continue
            values = dict(zip(header, fields, strict=True))
            text, label = values.pop(self.text_column), values.pop(self.label_column)
            others = {column: value or None for column, value in values.items()}
            yield Row(source, text, label or None, {**split, **others})
