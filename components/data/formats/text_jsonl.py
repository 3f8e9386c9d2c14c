"""Texts in JSON lines: an object a line with a text, a label and anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from components.contracts import DecodedSamples
from components.data.formats._texts import Row, TextParams, decode_rows, files, split_of

SUFFIXES = frozenset({".jsonl", ".ndjson"})


class Params(TextParams):
    """All files below the folder, training before validation and test; names such as `train.jsonl` tell a split."""

    name: Literal["text_jsonl"] = "text_jsonl"

    def read(self, folder: Path) -> DecodedSamples:
        """Sources such as 'train.jsonl:12' count lines; a missing or null label: unlabelled.

        Lines that are no JSON object with a text are damaged, and named.
        """
        rows = (row for name, path in files(folder, SUFFIXES) for row in self._rows(name, path))
        return decode_rows(rows, self)

    def _rows(self, name: str, path: Path) -> Iterator[Row]:
        split = split_of(name)
        for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if line.strip():
                yield self._row(f"{name}:{number}", line, split)

    def _row(self, source: str, line: bytes, split: dict[str, str]) -> Row:
        try:
            values: Any = json.loads(line)
        except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 are a ValueError too
            return Row(source, None, None, damage=f"is not valid JSON: {error}")
        if not isinstance(values, dict):
            return Row(source, None, None, damage=f"is {type(values).__name__}, not an object")
        if self.text_column not in values:
            return Row(source, None, None, damage=f"has no {self.text_column!r} (data.format.text_column)")
        text, label = values.pop(self.text_column), values.pop(self.label_column, None)
        return Row(source, text, label, {**split, **values})
