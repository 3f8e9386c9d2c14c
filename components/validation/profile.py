"""Histograms of a data version, and how far another version has drifted from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.contracts import UNLABELLED

if TYPE_CHECKING:
    import pandas as pd

PROFILE = "profile.json"
NUM_QUANTILES = 10
MAX_CATEGORIES = 50
PSEUDO_COUNT = 0.5
UNLABELLED_NAME = "(unlabelled)"
NOT_PROFILED = ("sample_index", "source", "sample_id", "class_name", "split", "height", "width", "channels")
"""Identities, and what exact expectations cover already; `label` is profiled under its class names."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one column: in the bins between its own deciles, or one a value."""

    kind: Literal["number", "category"]
    bins: tuple[Any, ...]
    """Numbers: the E edges, ascending, for E + 1 bins of which the first and last are outside what was seen.
    Categories: the values, for one bin each and a last one for all others."""
    counts: tuple[int, ...]
    missing: int

    @property
    def cells(self) -> NDArray[np.int64]:
        """[len(counts) + 1]: the counts, then the missing values as a cell of their own."""
        return np.array([*self.counts, self.missing], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a later version is compared with."""

    num_rows: int
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """By column, of all columns in order: a numpy name, 'str' for text, or 'object'."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        columns = [
            {"name": name, "dtype": dtype, **_histogram_json(self.histograms.get(name))}
            for name, dtype in self.dtypes.items()
        ]
        return {"num_rows": self.num_rows, "columns": columns}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Profile:
        columns = raw["columns"]
        return cls(
            num_rows=raw["num_rows"],
            dtypes={column["name"]: column["dtype"] for column in columns},
            histograms={
                column["name"]: Histogram(
                    column["kind"], tuple(column["bins"]), tuple(column["counts"]), column["missing"]
                )
                for column in columns
                if "kind" in column
            },
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one column has moved."""

    psi: float
    by_chance: float
    """What two samples of one population of these sizes exceed once in a thousand times."""


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """*table* with text and categories as plain Python objects, which Great Expectations can tell the type of."""
    special = [name for name in table.columns if str(table[name].dtype) in ("str", "string", "category")]
    return table.astype(dict.fromkeys(special, "object"))


def profile(table: pd.DataFrame) -> Profile:
    """Profile a plain *table* with one row a sample."""
    return Profile(
        num_rows=len(table),
        dtypes={str(name): _dtype(table[name]) for name in table.columns},
        histograms=dict(_histograms(table)),
    )


def drifts(reference: Profile, table: pd.DataFrame) -> dict[str, Drift]:
    """Every column that both have, counted in the bins of the *reference*."""
    return {
        name: _drift(histogram.cells, _count(_values(table, name), histogram).cells)
        for name, histogram in reference.histograms.items()
        if name in table.columns and len(table)
    }


def population_stability_index(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """sum over bins of (q - p) ln(q / p), for counts [B] and [B] of two populations; 0 is no drift.

    Shares are smoothed by half a count a bin, (n_b + 1/2) / (n + B/2), so that an empty bin costs
    much and not infinitely much; bins that both lack are left out. N. Siddiqi, Credit Risk
    Scorecards (2006); customary reading: below 0.1 stable, above 0.2 moved.
    """
    seen = (reference > 0) | (current > 0)
    p, q = (_smoothed(counts[seen]) for counts in (reference, current))
    return float(np.sum((q - p) * np.log(q / p)))


def largest_by_chance(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """The index that equal populations exceed once in a thousand times, for counts [B] and [B].

    Without drift the index is distributed as chi-squared with B - 1 degrees of freedom times
    (1/n + 1/m): B. Yurdakul, J. Naranjo, Statistical properties of the population stability
    index (2020). The quantile is Wilson and Hilferty's approximation.
    """
    freedom = int(((reference > 0) | (current > 0)).sum()) - 1
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + 3.0902 * math.sqrt(spread)) ** 3
    return float(quantile * (1 / max(1, reference.sum()) + 1 / max(1, current.sum())))


def _drift(reference: NDArray[np.int64], current: NDArray[np.int64]) -> Drift:
    return Drift(population_stability_index(reference, current), largest_by_chance(reference, current))


def _smoothed(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return (counts + PSEUDO_COUNT) / (counts.sum() + PSEUDO_COUNT * len(counts))


def _histograms(table: pd.DataFrame) -> Iterator[tuple[str, Histogram]]:
    for name in map(str, table.columns):
        if name not in NOT_PROFILED and (bins := _own_bins(values := _values(table, name), _kind(values))) is not None:
            yield name, _count(values, Histogram(_kind(values), bins, (), 0))


def _values(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    """The column that is profiled as *name*."""
    if name == "label" and "class_name" in table.columns:
        return table["class_name"].where(table["label"] != UNLABELLED, UNLABELLED_NAME)
    return table[name]


def _kind(values: pd.Series[Any]) -> Literal["number", "category"]:
    return "number" if values.dtype.kind in "iuf" else "category"


def _own_bins(values: pd.Series[Any], kind: str) -> tuple[Any, ...] | None:
    """None where bins make no sense: nothing there, an identifier, free text."""
    present = values.dropna()
    if kind == "number":
        finite = present[np.isfinite(present.to_numpy(dtype=np.float64))]
        identifier = values.dtype.kind in "iu" and finite.is_unique and len(finite) > MAX_CATEGORIES
        return None if identifier or finite.empty else _quantile_edges(finite.to_numpy(dtype=np.float64))
    categories = sorted(set(present.map(str)))
    return tuple(categories) if 0 < len(categories) <= MAX_CATEGORIES or values.name == "class_name" else None


def _quantile_edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Values of the data itself, never means of two, so that no rounding can move an edge."""
    shares = np.linspace(0, 1, NUM_QUANTILES + 1)
    quantiles = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return (float(np.nextafter(quantiles[0], -np.inf)), *map(float, quantiles))


def _count(values: pd.Series[Any], like: Histogram) -> Histogram:
    """The histogram of *values* in the bins of *like*; what is no number any more counts as missing."""
    if like.kind == "number":
        return _count_numbers(values, like.bins)
    present = values.dropna().map(str)
    found = present.value_counts()
    counts = tuple(int(found.get(category, 0)) for category in like.bins)
    return Histogram("category", like.bins, (*counts, len(present) - sum(counts)), len(values) - len(present))


def _count_numbers(values: pd.Series[Any], edges: tuple[float, ...]) -> Histogram:
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    present = numbers[~np.isnan(numbers)]
    counts = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1)
    return Histogram("number", edges, tuple(map(int, counts)), len(numbers) - len(present))


def _dtype(values: pd.Series[Any]) -> str:
    if values.dtype != object:
        return str(values.dtype)
    present = values.dropna()
    return "str" if len(present) and all(isinstance(value, str) for value in present) else "object"


def _histogram_json(histogram: Histogram | None) -> dict[str, Any]:
    if histogram is None:
        return {}
    return {"kind": histogram.kind, "bins": histogram.bins, "counts": histogram.counts, "missing": histogram.missing}
