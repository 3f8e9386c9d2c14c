"""Histograms that stay comparable, and an index of drift with the properties that its formula promises."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.validation.profile import (
    UNLABELLED_NAME,
    Profile,
    drifts,
    largest_by_chance,
    plain,
    population_stability_index,
    profile,
)

counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=30)


def test_index_by_hand():
    """Two bins, 90/10 against 50/50: (0.5 - 0.9) ln(0.5/0.9) + (0.5 - 0.1) ln(0.5/0.1), smoothed away from it by little."""
    exact = (0.5 - 0.9) * np.log(0.5 / 0.9) + (0.5 - 0.1) * np.log(0.5 / 0.1)

    assert population_stability_index(np.array([90_000, 10_000]), np.array([500, 500])) == pytest.approx(
        exact, rel=1e-3
    )


def test_smoothing_is_half_a_count_a_bin():
    """An empty bin counts as half a sample, on both sides."""
    p, q = np.array([3.5, 0.5]) / 4, np.array([1.5, 2.5]) / 4

    assert population_stability_index(np.array([3, 0]), np.array([1, 2])) == pytest.approx(
        np.sum((q - p) * np.log(q / p))
    )


@given(counts, counts)
def test_index_is_a_finite_symmetric_divergence(first, second):
    """It is finite, never negative, the same both ways, and 0 for the same counts."""
    size = min(len(first), len(second))
    a, b = np.array(first[:size]), np.array(second[:size])

    assert np.isfinite(population_stability_index(a, b))
    assert population_stability_index(a, b) >= 0
    assert population_stability_index(a, b) == pytest.approx(population_stability_index(b, a))
    assert population_stability_index(a, a) == 0


def test_chance_bound_is_the_quantile_that_it_says():
    """In 4,000 draws of equal populations about 1 in 1,000 is above the bound, and not none for want of sharpness."""
    draw = np.random.Generator(np.random.Philox(0))
    shares = np.full(10, 0.1)
    above = ratio = 0.0
    for _ in range(4000):
        a, b = draw.multinomial(2000, shares), draw.multinomial(3000, shares)
        psi, bound = population_stability_index(a, b), largest_by_chance(a, b)
        above += psi > bound
        ratio = max(ratio, psi / bound)

    assert above <= 14
    assert ratio > 0.85


def test_profile_survives_json():
    """Written and read again, a profile measures the same drift to the last bit."""
    draw = np.random.Generator(np.random.Philox(1))
    table = pd.DataFrame({"mean": draw.normal(0, 1, 500), "colour": draw.choice(["red", "blue"], 500)})
    other = pd.DataFrame({"mean": draw.normal(0.1, 1, 300), "colour": draw.choice(["red", "blue"], 300)})

    made = profile(table)
    read = Profile.from_json(json.loads(json.dumps(made.as_json())))

    assert read == made
    assert drifts(read, other) == drifts(made, other)


def test_a_profile_does_not_depend_on_the_order_of_rows():
    """Histograms count; edges are values of the data, not means."""
    table = pd.DataFrame({"mean": np.random.Generator(np.random.Philox(2)).normal(0, 1, 999)})

    assert profile(table) == profile(table.iloc[::-1].reset_index(drop=True))


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_constant_column_that_moves_has_drifted(shift):
    """Below what was seen and above it are bins of their own."""
    reference = profile(pd.DataFrame({"exposure": [5] * 200}))

    assert drifts(reference, pd.DataFrame({"exposure": [5] * 200}))["exposure"].psi == 0
    assert drifts(reference, pd.DataFrame({"exposure": [5 + shift] * 200}))["exposure"].psi > 1


def test_nulls_are_a_bin():
    """A fifth of the values missing is drift, although the rest is as before."""
    reference = profile(pd.DataFrame({"slant": np.arange(500.0)}))
    holes = np.where(np.arange(500) % 5, np.arange(500.0), np.nan)

    moved = drifts(reference, pd.DataFrame({"slant": holes}))["slant"]

    assert moved.psi > 0.2 > moved.by_chance


def test_labels_are_counted_under_their_names():
    """A new order of the classes is no drift; samples without a label are a category of their own."""
    first = pd.DataFrame({"label": [0, 1, 1, -1], "class_name": ["a", "b", "b", None]})
    second = pd.DataFrame({"label": [1, 0, 0, -1], "class_name": ["a", "b", "b", None]})

    made = profile(first).histograms["label"]

    assert dict(zip(made.bins, made.counts[:-1], strict=True)) == {"a": 1, "b": 2, UNLABELLED_NAME: 1}
    assert drifts(profile(first), second)["label"].psi == 0


def test_identifiers_and_free_text_are_not_profiled():
    """What differs from row to row by nature would drift in every version."""
    table = pd.DataFrame(
        {
            "frame": np.arange(500) * 3,
            "comment": [f"picture {row}" for row in range(500)],
            "empty": [None] * 500,
            "year": np.arange(500) % 7 + 2000,
            "box": [[1, 2, row] for row in range(500)],
            "night": np.arange(500) % 2 == 0,
        }
    )

    assert set(profile(plain(table)).histograms) == {"year", "night"}


def test_infinities_and_text_do_not_break_the_histogram():
    """Infinities fall outside of what was seen, and what is no number any more counts as missing."""
    reference = profile(pd.DataFrame({"mean": [0.1, 0.2, 0.3, np.inf, -np.inf]}))

    assert reference.histograms["mean"].counts[0] == reference.histograms["mean"].counts[-1] == 1
    assert drifts(reference, pd.DataFrame({"mean": ["a", "b", "c"]}))["mean"].psi > 1


def test_an_empty_table_has_no_drift_to_measure():
    """Row counts speak about an empty version; a distribution of nothing does not exist."""
    table = pd.DataFrame({"mean": [0.1, 0.2]})

    assert drifts(profile(table), table.iloc[:0]) == {}
    assert profile(table.iloc[:0]).histograms == {}
