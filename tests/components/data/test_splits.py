"""Splits: a sample keeps its split, copies are in one split only, every class is everywhere."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import SPLITS, UNLABELLED, DecodedSamples
from components.data.splits import LEFT_OUT, Splits, split_samples
from components.errors import SplitError
from components.params import ColumnSplit, FolderSplit, HashSplit, IndexSplit
from components.sample_ids import sample_ids

TRAIN, VALIDATION, TEST, TRANSFER = range(4)


def data(values: Any, labels: Any = None, **more: Any) -> DecodedSamples:
    """Samples of two bytes, told apart by a whole number each."""
    values = list(values)
    samples = np.array([[[[value % 256, value // 256]]] for value in values], dtype=np.uint8)
    given_labels = [0] * len(values) if labels is None else labels
    return DecodedSamples(
        samples,
        np.array(given_labels, dtype=np.int64),
        more.get("class_names", ("only",)),
        tuple(more.get("sources", [f"s{row}" for row in range(len(values))])),
        more.get("columns", {}),
        more.get("damaged", ()),
    )


def split(decoded: DecodedSamples, by: Any, **more: Any) -> Splits:
    return split_samples(
        decoded, sample_ids(decoded.samples), by, **{"on_duplicate": "drop", "min_per_class": 1, **more}
    )


def names(splits: Splits) -> list[str]:
    return ["-" if value == LEFT_OUT else SPLITS[value] for value in splits.of]


def test_a_sample_id_is_its_content_and_shape():
    """Worked by hand: sha256 over type, shape and bytes, the first 16 bytes."""
    samples = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)

    assert sample_ids(samples).tobytes() == hashlib.sha256(b"|u1 (1, 2, 2)\x00\x01\x02\x03").digest()[:16]
    assert not np.array_equal(sample_ids(samples), sample_ids(samples.reshape(1, 1, 1, 4)))


def test_hash_splits_are_the_same_everywhere():
    """A golden: these ten samples are split like this on every machine."""
    decoded = data(range(10))
    by = HashSplit(validation=0.3, test=0.3)

    assert names(split(decoded, by)) == [
        "train", "validation", "train", "train", "train", "train", "test", "test", "validation", "train",
    ]  # fmt: skip


@given(st.sets(st.integers(0, 65_535), min_size=60, max_size=120), st.integers(0, 2**32))
def test_added_samples_move_no_sample(values, seed):
    """Whatever is added, and in whatever order: the earlier samples keep their split."""
    ordered = sorted(values)
    some = ordered[: len(ordered) // 2]
    mixed = list(np.random.default_rng(seed).permutation(ordered))
    by = HashSplit(validation=0.3, test=0.3)
    before, after = (split(data(values_), by, min_per_class=1) for values_ in (some, mixed))
    after_of = dict(zip(mixed, names(after), strict=True))

    assert names(before) == [after_of[value] for value in some]


@given(st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_a_larger_validation_share_moves_no_test_sample(small, large):
    """Test is fixed by its own share alone."""
    decoded = data(range(500))
    first, second = (split(decoded, HashSplit(validation=share, test=0.2)) for share in (small, large))

    assert np.array_equal(first.of == TEST, second.of == TEST)


def test_shares_are_about_right_and_salts_differ():
    """Within four standard deviations at 4,000 samples."""
    decoded = data(range(4000))
    first = split(decoded, HashSplit(salt="a", validation=0.125, test=0.25)).of
    second = split(decoded, HashSplit(salt="b", validation=0.125, test=0.25)).of

    assert abs((first == TEST).mean() - 0.25) < 0.028
    assert abs((first == VALIDATION).mean() - 0.125) < 0.021
    assert (first != second).mean() > 0.3


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["tr", "va", "te", "no"])), min_size=1, max_size=60),
)
def test_no_content_is_in_two_splits_or_twice_in_one(rows):
    """Of every set of copies exactly one is kept, in the highest split that has one."""
    base = [(100, "tr"), (101, "va"), (102, "te")]
    values, column = zip(*(base + rows), strict=True)
    decoded = data(values, columns={"part": list(column)})
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",))
    result = split(decoded, by)
    rank = {"no": LEFT_OUT, "tr": TRAIN, "va": VALIDATION, "te": TEST}
    for value in set(values):
        wanted = [rank[part] for other, part in zip(values, column, strict=True) if other == value and part != "no"]
        got = [int(result.of[row]) for row in range(len(values)) if values[row] == value and result.of[row] != LEFT_OUT]

        assert got == ([max(wanted)] if wanted else [])
    assert len(result.dropped) == sum(part != "no" for part in column) - int((result.of != LEFT_OUT).sum())


def test_copies_are_dropped_by_name_or_refused():
    """The training copy of a test sample goes; refuse lists it with its twin."""
    decoded = data([1, 2, 3, 3], columns={"part": ["tr", "va", "tr", "te"]})
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",))
    result = split(decoded, by)

    assert names(result) == ["train", "validation", "-", "test"]
    assert result.dropped == ("s2: copy of s3 (test)",)
    with pytest.raises(SplitError, match=r"1 samples are copies of others: s2: copy of s3 \(test\).*on_duplicate=drop"):
        split(decoded, by, on_duplicate="refuse")


def test_copies_with_other_labels_are_named():
    """The first stays; an unlabelled copy contradicts nobody, and a labelled one is preferred to it."""
    decoded = data(
        [1, 2, 3, 4, 4, 5, 5, 1, 2, 3],
        [0, 0, 0, 0, 1, UNLABELLED, 1, 1, 1, 1],
        class_names=("a", "b"),
        columns={"part": ["tr", "va", "te", "tr", "tr", "tr", "tr", "tr", "tr", "tr"]},
    )
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",))
    with pytest.raises(SplitError, match="'b' has 0 in validation"):
        split(decoded, by)
    decoded = data(
        [1, 2, 3, 4, 4, 5, 5, 6, 7, 8],
        [0, 0, 0, 0, 1, UNLABELLED, 1, 1, 1, 1],
        class_names=("a", "b"),
        columns={"part": ["tr", "va", "te", "tr", "tr", "tr", "tr", "tr", "va", "te"]},
    )
    result = split(decoded, by)

    assert result.conflicting == ("s3 (a) and s4 (b)",)
    assert result.dropped == ("s4: copy of s3 (train)", "s5: copy of s6 (train)")


def test_a_class_that_is_missing_from_a_split_is_named_with_counts():
    """Every class and split that falls short, and unlabelled samples count for none."""
    decoded = data(
        range(7),
        [0, 0, 0, 1, 1, UNLABELLED, 0],
        class_names=("cat", "dog"),
        columns={"part": ["tr", "va", "te", "tr", "va", "te", "tr"]},
    )
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",))
    with pytest.raises(SplitError, match=r"at least 1 .*: 'dog' has 0 in test\. Add"):
        split(decoded, by)
    with pytest.raises(SplitError, match=r"'dog' has 1 in train, 'cat' has 1 in validation, 'dog' has 1 in validation"):
        split(decoded, by, min_per_class=2)


def test_a_column_holds_out_a_hashed_share_where_no_value_means_validation():
    """Test stays as it is; the held-out samples come from training."""
    parts = ["tr"] * 60 + ["te"] * 20
    decoded = data(range(80), columns={"part": parts})
    by = ColumnSplit(by="column", column="part", train=("tr",), test=("te",), validation_share=0.3)
    result = split(decoded, by)

    assert (result.of[60:] == TEST).all()
    assert 5 < (result.of[:60] == VALIDATION).sum() < 35


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"column": "prat"}, r"'prat' is not in the data \(it has: part\)"),
        ({"train": ["train"]}, r"data.split.train names 'train'.*There is: te, tr, va"),
        ({"test": ["te", "tee"]}, r"data.split.test names 'tee' \(did you mean 'te'\?\)"),
        ({"test": ["tr"]}, "'tr' is named for both train and test"),
    ],
)
def test_columns_and_values_that_do_not_exist(by, message):
    """A misspelt value would quietly leave samples out."""
    decoded = data(range(3), columns={"part": ["tr", "va", "te"]})
    whole = {"by": "column", "column": "part", "train": ["tr"], "validation": ["va"], "test": ["te"], **by}
    with pytest.raises(SplitError, match=message):
        split(decoded, ColumnSplit.model_validate(whole))


def test_numbers_in_a_column_are_named_as_text_and_null_is_left_out():
    """A column `fold` of whole numbers can split."""
    decoded = data(range(4), columns={"fold": [0, 1, 2, None]})
    by = ColumnSplit(by="column", column="fold", train=("0",), validation=("1",), test=("2",))

    assert names(split(decoded, by)) == ["train", "validation", "test", "-"]


def test_folders_are_official_splits():
    """The first folder of each source decides; folders that nobody named are left out."""
    sources = ["train/a/1", "val/a/2", "test/a/3", "extra/a/4"]

    assert names(split(data(range(4), sources=sources), FolderSplit(by="folder"))) == [
        "train",
        "validation",
        "test",
        "-",
    ]


def test_folders_without_validation_hold_out_a_share():
    """Most official sets have only two."""
    sources = [f"train/a/{row}" for row in range(60)] + [f"test/a/{row}" for row in range(10)]
    result = split(data(range(70), sources=sources), FolderSplit(by="folder", validation_share=0.4))

    assert set(names(result)[:60]) == {"train", "validation"}
    assert set(names(result)[60:]) == {"test"}


@pytest.mark.parametrize(
    ("sources", "message"), [(["a", "b"], "There is: nothing"), (["train/a", "tset/b"], "'test'.*tset")]
)
def test_folders_that_are_not_there(sources, message):
    """Neither silent nor a traceback."""
    with pytest.raises(SplitError, match=message):
        split(data(range(2), sources=sources), FolderSplit(by="folder"))


def index(path: Path, **arrays: Any) -> IndexSplit:
    np.savez(path, **{name: np.asarray(rows) for name, rows in arrays.items()})
    return IndexSplit(by="index", file=path)


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_an_index_file_names_rows(tmp_path, validation):
    """Rows that it does not name are left out; other arrays are ignored."""
    by = index(tmp_path / "i.npz", train=[3, 0], test=[1], other=[2], **{validation: [4]})

    assert names(split(data(range(6)), by)) == ["train", "test", "-", "train", "validation", "-"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": [0], "val": [1]}, r"no array test \(it has: train, val\)"),
        ({"train": [0, 9], "val": [1], "test": [2]}, r"outside 0\.\.5: 9"),
        ({"train": [0, -1], "val": [1], "test": [2]}, r"outside 0\.\.5: -1"),
        ({"train": [0], "val": [0], "test": [2]}, "in a split already: 0"),
        ({"train": [0, 3, 3], "val": [1], "test": [2]}, "in a split already: 3"),
        ({"train": [0.0], "val": [1], "test": [2]}, "whole numbers, not float64"),
        ({"train": [[0]], "val": [1], "test": [2]}, "one row of whole numbers"),
        ({"train": [0], "val": [1], "test": []}, "one row of whole numbers"),
    ],
)
def test_bad_index_files_say_why(tmp_path, arrays, message):
    """Missing arrays, rows outside, rows twice, the wrong type."""
    with pytest.raises(SplitError, match=message):
        split(data(range(6)), index(tmp_path / "i.npz", **arrays))


@pytest.mark.parametrize("content", [None, b"", b"PK not a zip", "npy", "pickle"])
def test_an_index_file_that_is_none(tmp_path, content):
    """Missing, empty, broken, one bare array, pickled objects."""
    path = tmp_path / "i.npz"
    if content == "npy":
        np.save(tmp_path / "x.npy", np.arange(3))
        (tmp_path / "x.npy").rename(path)
    elif content == "pickle":
        np.savez(path, train=np.array([{}], dtype=object))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SplitError, match=r"i\.npz"):
        split(data(range(3)), IndexSplit(by="index", file=path))


def test_an_index_file_and_skipped_samples_exclude_each_other(tmp_path):
    """A skipped sample would shift every row behind it."""
    by = index(tmp_path / "i.npz", train=[0], val=[1], test=[2])
    with pytest.raises(SplitError, match="would shift"):
        split(data(range(3), damaged=("x: broken",)), by)


def test_a_hashed_transfer_set_is_taken_from_training_alone():
    """Growing it moves no sample into or out of validation and test."""
    decoded = data(range(2000))
    none, some = (split(decoded, HashSplit(validation=0.2, test=0.2, transfer=share)).of for share in (0.0, 0.3))

    assert not (none == TRANSFER).any()
    assert 500 < (some == TRANSFER).sum() < 700
    assert (none[some == TRANSFER] == TRAIN).all()
    assert np.array_equal(none[some != TRANSFER], some[some != TRANSFER])


def test_nothing_may_be_left_to_train_on():
    with pytest.raises(ValueError, match=r"validation \+ test \+ transfer is 1: nothing is left to train on"):
        HashSplit(validation=0.25, test=0.25, transfer=0.5)


def test_a_column_and_a_folder_name_transfer_samples():
    """A folder `transfer` is one by default; a folder that was named must exist."""
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",), transfer=("tf",))
    folders = data(range(4), sources=["train/0", "val/1", "test/2", "transfer/3"])

    assert names(split(data(range(4), columns={"part": ["tr", "va", "te", "tf"]}), by))[3] == "transfer"
    assert names(split(folders, FolderSplit(by="folder"))) == ["train", "validation", "test", "transfer"]
    with pytest.raises(SplitError, match=r"data.split.transfer names 'tf'"):
        split(data(range(3), columns={"part": ["tr", "va", "te"]}), by)
    with pytest.raises(SplitError, match=r"data.split.transfer names 'pool'"):
        split(folders, FolderSplit(by="folder", transfer=("pool",)))


def test_a_transfer_copy_is_dropped_whatever_it_is_a_copy_of():
    """Of test, validation and training samples; the teacher has seen the last."""
    decoded = data([1, 2, 3, 1, 2, 3, 4], columns={"part": ["tr", "va", "te", "tf", "tf", "tf", "tf"]})
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",), transfer=("tf",))

    assert names(split(decoded, by)) == ["train", "validation", "test", "-", "-", "-", "transfer"]
    with pytest.raises(SplitError, match=r"3 samples are copies .* s3: copy of s0 \(train\)"):
        split(decoded, by, on_duplicate="refuse")


def test_classes_may_be_missing_from_the_transfer_set():
    decoded = data(
        range(7),
        [0, 1, 0, 1, 0, 1, 0],
        class_names=("a", "b"),
        columns={"part": ["tr", "tr", "va", "va", "te", "te", "tf"]},
    )
    by = ColumnSplit(by="column", column="part", train=("tr",), validation=("va",), test=("te",), transfer=("tf",))

    assert names(split(decoded, by))[6] == "transfer"


def test_an_index_file_names_a_transfer_set_and_a_column_the_test_set(tmp_path: Path):
    """As for data whose official test set is no part of the index file."""
    decoded = data(range(6), columns={"split": ["train"] * 4 + ["test"] * 2})
    file = tmp_path / "splits.npz"
    np.savez(file, train=[0], val=[1], unseen=[2])
    by = IndexSplit(by="index", file=file, transfer="unseen", test_column="split")

    assert names(split(decoded, by)) == ["train", "validation", "transfer", "-", "test", "test"]
    np.savez(file, train=[0], val=[1], test=[3], transfer=[2, 4])
    assert names(split(decoded, IndexSplit(by="index", file=file)))[2::2] == ["transfer", "transfer"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"transfer": "unsen"}, r"has no array unsen \(did you mean 'unseen'\?\) \(it has: train, unseen, val\)"),
        ({"test_column": "part"}, r"data.split.test_column 'part' is not in the data \(it has: split\)"),
        ({"test_values": ("tset",)}, r"no sample has tset in data.split.test_column 'split'. There is: test, train"),
        ({"transfer": "train"}, "transfer names samples that are in a split already: 0"),
    ],
)
def test_what_an_index_split_names_must_be_there(tmp_path: Path, more, message):
    file = tmp_path / "splits.npz"
    np.savez(file, train=[0], val=[1], unseen=[2])
    by = IndexSplit.model_validate({"by": "index", "file": file, "test_column": "split", **more})
    with pytest.raises(SplitError, match=message):
        split(data(range(4), columns={"split": ["train"] * 3 + ["test"]}), by)


def test_a_share_of_official_training_data_becomes_transfer_samples():
    """Beside the share that is held out; test stays as it is."""
    decoded = data(range(1000), columns={"part": ["tr"] * 900 + ["te"] * 100})
    by = ColumnSplit(by="column", column="part", train=("tr",), test=("te",), validation_share=0.2, transfer_share=0.3)
    found = split(decoded, by).of

    assert 210 < (found == TRANSFER).sum() < 330
    assert 130 < (found == VALIDATION).sum() < 230
    assert (found[900:] == TEST).all()
    with pytest.raises(ValueError, match=r"validation_share \+ transfer_share is 1: nothing is left"):
        FolderSplit(by="folder", validation_share=0.5, transfer_share=0.5)
