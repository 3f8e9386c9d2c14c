"""The packed data artifact: written once, mapped by everybody."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.artifacts.artifact import Artifact
from components.contracts import DecodedSamples
from components.data import packing
from components.data.packed import open_packed
from components.data.packing import channel_statistics, check_decoded, write_packed
from components.data.splits import LEFT_OUT, Splits
from components.errors import DataDamagedError
from components.sample_ids import sample_ids

DECODED = DecodedSamples(
    np.random.default_rng(0).integers(0, 256, size=(6, 3, 4, 5), dtype=np.uint8),
    np.array([0, 1, -1, 0, 1, 1]),
    ("cat", "dog"),
    tuple(f"train/{row}.png" for row in range(6)),
    {"split": ["a", None, "b", "a", "b", "a"], "weight": [1.5, None, 2.0, 1.0, 1.0, 1.0]},
    ("x.png: broken",),
)
SPLITS = Splits(np.array([0, 0, 0, 1, 2, LEFT_OUT], dtype=np.uint8), ("train/5.png: copy of train/4.png (test)",), ())


def write(folder: Path) -> Artifact:
    folder.mkdir()
    write_packed(folder, DECODED, sample_ids(DECODED.samples), SPLITS)
    return Artifact("data", "key", "digest", folder)


def test_what_is_packed_is_mapped(tmp_path):
    """Arrays come back equal, read-only and backed by the file."""
    packed = open_packed(write(tmp_path / "a"))

    assert np.array_equal(packed.samples, DECODED.samples)
    assert packed.labels.dtype == np.int64
    assert packed.labels.tolist() == DECODED.labels.tolist()
    assert packed.splits.tolist() == [0, 0, 0, 1, 2, 255]
    assert packed.sample_ids.shape == (6, 16)
    assert len(packed) == 6
    assert type(packed.samples) is np.ndarray
    assert not packed.samples.flags.writeable
    assert not packed.samples.flags.owndata


def test_rows_of_a_split(tmp_path):
    """Ascending int64; labelled_rows leaves out those without a label, both leave out what no split has."""
    packed = open_packed(write(tmp_path / "a"))

    assert packed.rows("train").tolist() == [0, 1, 2]
    assert packed.labelled_rows("train").tolist() == [0, 1]
    assert packed.rows("test").dtype == np.int64
    assert packed.rows("validation").tolist() == [3]


def test_the_spec_describes_the_training_split(tmp_path):
    """Shape, names, number and statistics of train alone, as numpy has them."""
    spec = open_packed(write(tmp_path / "a")).spec
    train = DECODED.samples[:3] / 255

    assert (spec.sample_shape, spec.class_names, spec.num_train) == ((3, 4, 5), ("cat", "dog"), 3)
    assert spec.channel_mean == pytest.approx(train.mean(axis=(0, 2, 3)))
    assert spec.channel_std == pytest.approx(train.std(axis=(0, 2, 3)))


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))),
    st.integers(0, 99),
)
def test_statistics_are_exact_whatever_the_order_and_the_chunks(samples, seed):
    """Summed in whole numbers: the same bits for any order of the samples, and the exact mean when rounded once."""
    shuffled = samples[np.random.default_rng(seed).permutation(len(samples))]
    mean, std = channel_statistics(samples)
    first = [int(value) for value in samples[:, 0].ravel()]

    assert (mean, std) == channel_statistics(shuffled)
    assert mean[0] == float(Fraction(sum(first), 255 * len(first)))
    assert std == pytest.approx(np.maximum((samples / 255).std(axis=(0, 2, 3)), 1 / 255))


def test_chunks_add_up(monkeypatch):
    """Two rows at a time give what all rows at once give."""
    whole = channel_statistics(DECODED.samples)
    monkeypatch.setattr(packing, "_ROWS_AT_ONCE", 2)

    assert channel_statistics(DECODED.samples) == whole


def test_the_table_has_a_row_a_sample(tmp_path):
    """Columns that expectations are written against; a source column of the same name steps aside."""
    table = pd.read_parquet(write(tmp_path / "a").file("table.parquet"))

    assert list(table.columns) == [
        "sample_index", "source", "sample_id", "label", "class_name", "split",
        "source_split", "weight",
    ]  # fmt: skip
    assert table["split"].tolist() == ["train", "train", "train", "validation", "test", "left_out"]
    assert table["class_name"].tolist()[:2] == ["cat", "dog"]
    assert table["class_name"].isna().tolist()[2]
    assert table["sample_id"][0] == sample_ids(DECODED.samples)[0].tobytes().hex()
    assert table["source_split"].tolist()[0] == "a"


def test_counts_and_losses_are_recorded(tmp_path):
    """data.json says what became of every sample."""
    info = json.loads(write(tmp_path / "a").file("data.json").read_text())

    assert info["labelled"]["train"] == {"cat": 1, "dog": 1}
    assert info["unlabelled"] == {"train": 1, "validation": 0, "test": 0}
    assert info["left_out"] == 1
    assert info["damaged"] == ["x.png: broken"]
    assert info["dropped_copies"] == ["train/5.png: copy of train/4.png (test)"]


def test_the_same_data_are_the_same_bytes(tmp_path):
    """Every file, twice."""
    first, second = (write(tmp_path / name).root for name in "ab")

    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": np.empty((0, 1, 2, 2), dtype=np.uint8)}, "empty"),
        ({"class_names": ()}, "no sample has a label"),
        (
            {"labels": np.array([0, 1, 2, -2, 1, 1])},
            r"2 labels are outside the 2 classes: train/2.png is 2, train/3.png is -2",
        ),
        ({"sources": ("a",)}, "1 sources for 6 samples"),
        ({"columns": {"x": [1]}}, "1 x for 6 samples"),
        ({"samples": np.zeros((6, 1, 2, 2))}, "samples are float64"),
    ],
)
def test_a_format_is_held_to_its_contract(change, message):
    """A user's own format gets a message, not a broken artifact."""
    whole = {name: getattr(DECODED, name) for name in ("samples", "labels", "class_names", "sources", "columns")}
    check_decoded(DecodedSamples(**whole))
    with pytest.raises(DataDamagedError, match=message):
        check_decoded(DecodedSamples(**{**whole, **change}))
