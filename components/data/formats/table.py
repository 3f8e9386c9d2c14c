"""Rows of numbers in CSV and Parquet files: columns of features, columns of targets, any others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from components.contracts import DecodedSamples, FormatParams
from components.data.formats._parquet_tables import flat_columns, read_table
from components.data.formats._texts import files, split_of
from components.errors import DataDamagedError, some_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SUFFIXES = frozenset({".csv", ".parquet"})
RESERVED = frozenset({"sample_index", "source", "sample_id", "label", "class_name", "split"})
"""Columns of the table of samples that mean something else there."""


class Params(FormatParams):
    """All `.csv` (with a header) and `.parquet` files below the folder, those of training first, then by path.

    Names such as `train.csv` or `test/a.csv` tell a split; the first file says the order of the features.
    """

    name: Literal["table"] = "table"
    target_columns: tuple[str, ...] = Field(
        min_length=1, description="the labels, which are numbers; a row that lacks one of them is unlabelled"
    )
    feature_columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="the values of a sample, in this order; without it every column that is no target, and all of them "
        "must be numbers then. Columns that are neither can split and slice",
    )

    @model_validator(mode="after")
    def _each_means_one_thing(self) -> Params:
        named = (*self.target_columns, *(self.feature_columns or ()))
        if twice := [name for name, count in Counter(named).items() if count > 1]:
            raise ValueError(f"target_columns and feature_columns name {some_of(twice)} more than once")
        if reserved := RESERVED & set(named):
            raise ValueError(f"a column cannot be named {some_of(sorted(reserved))} here: rename it in the files")
        return self

    def read(self, folder: Path) -> DecodedSamples:
        """Samples float32 [N, features] and labels float32 [N, targets]; sources such as 'train.csv:12' count rows from 0.

        Rows without one of the features, or with an infinite number, are named as damaged. DataDamagedError for files
        that are neither, that lack a column or hold text in one, or that have nothing in them.
        """
        found = [self._of_file(name, path) for name, path in files(folder, SUFFIXES)]
        if not found:
            raise DataDamagedError("the data set is empty: there is no .csv or .parquet file")
        _refuse_other_features(found)
        return _together(found, self.target_columns)

    def _of_file(self, name: str, path: Path) -> _Part:
        table = read_table(path, name) if path.suffix.lower() == ".parquet" else _read_csv(path, name)
        features = self.feature_columns or tuple(c for c in table.column_names if c not in self.target_columns)
        self._check(name, table, features)
        others = flat_columns(table, without=(*features, *self.target_columns))
        return _Part(
            name=name,
            features=features,
            samples=_numbers(table, features),
            labels=_numbers(table, self.target_columns),
            columns={**{column: [value] * table.num_rows for column, value in split_of(name).items()}, **others},
        )

    def _check(self, name: str, table: pa.Table, features: Sequence[str]) -> None:
        listed = some_of([f"{field.name} ({field.type})" for field in table.schema], limit=12)
        for parameter, columns in (("target_columns", self.target_columns), ("feature_columns", features)):
            for column in columns:
                if table.column_names.count(column) != 1:
                    raise DataDamagedError(
                        f"{name} has no column {column!r}, or more than one (it has: {listed}); set data.format.{parameter}"
                    )
                if not _is_numeric(table.schema.field(column).type):
                    raise DataDamagedError(
                        f"{name}: column {column!r} is {table.schema.field(column).type} and must be numbers; categories are "
                        "not encoded here: encode them in the files, or name the columns that count in "
                        "data.format.feature_columns"
                    )
        if not features or RESERVED & set(features):
            raise DataDamagedError(
                f"{name}: {some_of(sorted(RESERVED & set(features))) or 'no column'} cannot be a feature; name those that "
                f"are in data.format.feature_columns (it has: {listed})"
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file holds, in double precision, NaN for null."""

    name: str
    features: tuple[str, ...]
    samples: NDArray[np.float64]
    labels: NDArray[np.float64]
    columns: dict[str, list[Any]]


def _read_csv(path: Path, name: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    try:
        return csv.read_csv(path)
    except (pa.ArrowException, OSError) as error:
        raise DataDamagedError(f"{name} cannot be read as CSV: {error}") from error


def _is_numeric(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind))


def _numbers(table: pa.Table, columns: Sequence[str]) -> NDArray[np.float64]:
    """[rows, columns]."""
    import numpy as np
    import pyarrow as pa

    read = [table.column(column).cast(pa.float64(), safe=False).to_numpy() for column in columns]
    return np.column_stack([np.asarray(values, dtype=np.float64) for values in read])


def _refuse_other_features(found: Sequence[_Part]) -> None:
    first = found[0]
    for part in found[1:]:
        if other := set(part.features) ^ set(first.features):
            raise DataDamagedError(
                f"{part.name} and {first.name} have other features ({some_of(sorted(other))}); name those that both have in "
                "data.format.feature_columns"
            )


def _together(found: Sequence[_Part], targets: tuple[str, ...]) -> DecodedSamples:
    import numpy as np

    features = found[0].features
    order = [[part.features.index(feature) for feature in features] for part in found]
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes infinite, and is named
        samples = np.concatenate(
            [part.samples[:, places] for part, places in zip(found, order, strict=True)], dtype=np.float32
        )
        labels = np.concatenate([part.labels for part in found], dtype=np.float32)
    sources = [f"{part.name}:{row}" for part in found for row in range(len(part.samples))]
    damaged = dict(_damage(samples, features, missing_is_damage=True))
    damaged |= dict(_damage(labels, targets, missing_is_damage=False))
    kept = [row for row in range(len(sources)) if row not in damaged]
    if not kept:
        named = some_of([f"{sources[row]}: {why}" for row, why in sorted(damaged.items())])
        raise DataDamagedError(f"the data set is empty: {named or 'there is no row'}")
    columns = {name: [values[row] for row in kept] for name, values in _columns(found).items()}
    columns |= {name: samples[kept, place].tolist() for place, name in enumerate(features)}
    return DecodedSamples(
        samples=samples[kept],
        labels=labels[kept],
        class_names=(),
        sources=tuple(sources[row] for row in kept),
        columns=columns,
        damaged=tuple(f"{sources[row]}: {why}" for row, why in sorted(damaged.items())),
        target_names=targets,
        feature_names=features,
    )


def _damage(values: NDArray[np.float32], names: Sequence[str], *, missing_is_damage: bool) -> Iterator[tuple[int, str]]:
    """(row, why) for each row with a number that is none."""
    import numpy as np

    bad = ~np.isfinite(values) if missing_is_damage else np.isinf(values)
    for row in np.flatnonzero(bad.any(axis=1)).tolist():
        place = int(np.argmax(bad[row]))
        why = "is missing" if np.isnan(values[row, place]) else "is beyond single precision"
        yield row, f"{names[place]} {why}"


def _columns(found: Sequence[_Part]) -> dict[str, list[Any]]:
    """Every other column, null where a file lacks it."""
    names = dict.fromkeys(name for part in found for name in part.columns)
    return {
        name: [value for part in found for value in part.columns.get(name, [None] * len(part.samples))]
        for name in names
    }
