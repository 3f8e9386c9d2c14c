"""What the Parquet formats share: the files in order, their columns, and the class names of Hugging Face data sets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import pyarrow as pa

SHARD = re.compile(r"^(.+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet$")
"""`train-00000-of-00001.parquet`: group 1 is the split."""
CLASSES_FILE = "classes.json"


def tables(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """Every `.parquet` file below *folder*, with its relative path, in the order of those."""
    for path in sorted(folder.rglob("*.parquet"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        yield name, read_table(path, name)


def read_table(path: Path, name: str) -> pa.Table:
    """DataDamagedError, which says *name*, where it is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataDamagedError(f"{name} cannot be read as Parquet: {error}") from error


def check_columns(name: str, table: pa.Table, wanted: Mapping[str, str]) -> None:
    """DataDamagedError unless *table* has each column of *wanted*, by the parameter that names it, once."""
    for parameter, column in wanted.items():
        if table.column_names.count(column) != 1:
            listed = some_of([f"{field.name} ({field.type})" for field in table.schema], limit=12)
            raise DataDamagedError(f"{name} has no column {column!r} (it has: {listed}); set data.format.{parameter}")


def labels_are_text(name: str, table: pa.Table, label_column: str) -> bool | None:
    """Whether they are text or whole numbers; None where all are null. DataDamagedError where they are neither."""
    from pyarrow import types

    kind = table.schema.field(label_column).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_integer(value) or types.is_string(value) or types.is_large_string(value) or types.is_null(value)):
        raise DataDamagedError(f"{name}: labels in {label_column!r} are {kind}; they must be whole numbers or text")
    return None if types.is_null(value) else not types.is_integer(value)


def names_in_metadata(metadata: Mapping[bytes, bytes], label_column: str) -> tuple[str, ...] | None:
    """Class names as the `datasets` library notes them in the schema: info.features.<label>.names."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label_column]
        return tuple(str(name) for name in feature["names"]) or None
    except (KeyError, TypeError, ValueError):
        return None


def classes_file(folder: Path) -> tuple[str, ...] | None:
    """Class names that classes.json lists, if there is one."""
    path = folder / CLASSES_FILE
    if not path.exists():
        return None
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataDamagedError(f"{CLASSES_FILE} is not valid JSON: {error}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataDamagedError(f"{CLASSES_FILE} must be a list of class names in label order")
    return tuple(names)


def flat_columns(table: pa.Table, without: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of plain values; pictures, lists and structs can neither split nor slice."""
    from pyarrow import types

    def flat(kind: pa.DataType) -> bool:
        return not (
            types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind) or types.is_null(kind)
        )

    columns = [column.name for column in table.schema if column.name not in without and flat(column.type)]
    return {name: table.column(name).to_pylist() for name in columns}
