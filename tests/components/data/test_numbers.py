"""Labels that are numbers and samples that are real ones, from the format's result to what steps open."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.artifacts.artifact import Artifact
from components.contracts import DecodedSamples, is_labelled, unlabelled_like
from components.data.packed import PackedData, open_packed
from components.data.packing import check_decoded, write_packed
from components.data.splits import Splits, split_samples
from components.data.training_set import teachers_set
from components.errors import DataDamagedError
from components.evaluation.holdout import holdout_digest, holdout_of
from components.params import HashSplit
from components.sample_ids import sample_ids
from components.workloads.tabular_regression import Params

TINY = Params().build().tiny(seed=0)


def packed(folder: Path, decoded: DecodedSamples = TINY) -> PackedData:
    of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
    folder.mkdir()
    write_packed(folder, decoded, sample_ids(decoded.samples), Splits(of, (), ()))
    return open_packed(Artifact("data", "data", "data", folder))


def with_labels(labels: np.ndarray) -> DecodedSamples:
    return replace(TINY, labels=labels)


def half_labelled() -> DecodedSamples:
    """Every second row lacks one of its two targets."""
    labels = TINY.labels.copy()
    labels[::2, 1] = np.nan
    return with_labels(labels)


def test_a_row_is_labelled_when_all_its_numbers_are_there() -> None:
    """Of classes, where the label is not -1."""
    assert is_labelled(np.array([[1.0, np.nan], [1.0, 2.0], [np.nan, np.nan]])).tolist() == [False, True, False]
    assert is_labelled(np.array([0, -1, 3])).tolist() == [True, False, True]
    for labels in (np.float32([[1, 2]]), np.array([4])):
        assert not is_labelled(unlabelled_like(labels)).any()
        assert unlabelled_like(labels).dtype == labels.dtype


def test_the_spec_says_what_models_need(tmp_path: Path) -> None:
    """Statistics of features and of labelled targets, of the training split alone."""
    spec = packed(tmp_path / "a", half_labelled()).spec
    train = TINY.samples[:12].astype(np.float64)

    assert (spec.label_kind, spec.sample_dtype, spec.num_outputs) == ("numbers", "float32", 2)
    assert spec.output_names == ("near", "far")
    assert spec.feature_names == ("a", "b", "c")
    assert spec.channel_mean == pytest.approx(train.mean(axis=0))
    assert spec.channel_std == pytest.approx(train.std(axis=0))
    assert spec.target_mean == pytest.approx(TINY.labels[1:12:2].mean(axis=0))
    assert spec.target_std == pytest.approx(TINY.labels[1:12:2].std(axis=0), rel=1e-5)


def test_a_target_that_never_varies_can_be_divided_by(tmp_path: Path) -> None:
    """Its deviation counts as 1."""
    spec = packed(tmp_path / "a", with_labels(np.full_like(TINY.labels, 7))).spec
    assert spec.target_std == (1.0, 1.0)


def test_labels_and_counts_come_back(tmp_path: Path) -> None:
    """NaN stays NaN on disk and null in the table, whose targets are columns of their own."""
    data = packed(tmp_path / "a", half_labelled())
    table = pd.read_parquet(tmp_path / "a" / "table.parquet")

    assert np.array_equal(data.labels, half_labelled().labels, equal_nan=True)
    assert data.labelled_rows("train").tolist() == [1, 3, 5, 7, 9, 11]
    assert data.info["labelled"]["train"] == {"near": 6, "far": 6}
    assert data.info["unlabelled"]["test"] == 3
    assert list(table.columns) == ["sample_index", "source", "sample_id", "near", "far", "split", "a", "b", "c"]
    assert table["far"].isna().sum() == 12
    assert teachers_set(data).facts()["num_labelled"] == 6


def test_the_holdout_knows_its_labels(tmp_path: Path) -> None:
    """The same in any order, and another one when any number differs."""
    holdout = holdout_of(packed(tmp_path / "a", half_labelled()))
    ids = sample_ids(TINY.samples)[holdout.rows]
    changed = holdout.labels.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], np.float32(np.inf))

    assert holdout.rows.tolist() == [19, 21, 23]
    assert holdout_digest(ids[::-1], holdout.labels[::-1]) == holdout.digest
    assert holdout_digest(ids, changed) != holdout.digest


def test_copies_with_other_numbers_conflict() -> None:
    """And without them they are only copies; nobody asks for a minimum of a class."""
    samples = np.concatenate([TINY.samples, TINY.samples[:2]])
    labels = np.concatenate([TINY.labels, TINY.labels[:2] + np.float32([[0, 0], [1, 0]])])
    decoded = replace(
        TINY,
        samples=samples,
        labels=labels,
        sources=(*TINY.sources, "copy:0", "copy:1"),
        columns={},
    )
    by = HashSplit(validation=0.2, test=0.2)
    found = split_samples(decoded, sample_ids(samples), by, on_duplicate="drop", min_per_class=50)

    assert len(found.dropped) == 2
    assert len(found.conflicting) == 1
    assert found.conflicting[0].startswith("tiny:1 (")


@pytest.mark.parametrize(
    ("decoded", "said"),
    [
        (with_labels(TINY.labels.astype(np.float64)), r"labels are float64 of shape \(24, 2\), not float32 \[24, 2\]"),
        (with_labels(TINY.labels[:, :1]), "not float32"),
        (with_labels(np.full_like(TINY.labels, np.inf)), "24 labels are infinite: tiny:0"),
        (with_labels(np.full_like(TINY.labels, np.nan)), r"no sample has a label \(near, far\)"),
        (replace(TINY, samples=np.full_like(TINY.samples, np.nan)), "24 samples are not finite: tiny:0"),
        (replace(TINY, samples=TINY.samples.astype(np.float64)), "not uint8 or float32"),
    ],
)
def test_a_format_is_held_to_its_promises(decoded: DecodedSamples, said: str) -> None:
    """Types, shapes, and numbers that are some."""
    with pytest.raises(DataDamagedError, match=said):
        check_decoded(decoded)
