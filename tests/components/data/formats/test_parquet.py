"""The parquet format: the layout of Hugging Face data sets."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from components.contracts import UNLABELLED, DecodedSamples
from components.data.formats._hf_parquet import write_parquet_images
from components.data.formats.parquet import Params
from components.errors import DataDamagedError


def images(count: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, size=(count, channels, 4, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(stream, format="PNG")
    return stream.getvalue()


def read(folder: Path, **params: object) -> DecodedSamples:
    return Params.model_validate({"name": "parquet", **params}).read(folder)


def write(path: Path, labels: Any, *, pictures: Any = None, **columns: Any) -> None:
    """A file with plain binary pictures."""
    encoded = [png(image) for image in images(len(labels))] if pictures is None else pictures
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": encoded, "label": labels, **columns}), path)


@given(
    pixels=hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5))
    ),
    labels=st.lists(st.integers(-1, 2), min_size=6, max_size=6),
)
def test_what_is_written_is_read(tmp_path_factory, pixels, labels):
    """Pixels, labels and class names come back, and equal pictures give equal files."""
    folder = tmp_path_factory.mktemp("round")
    wanted = np.array(labels[: len(pixels)], dtype=np.int64)
    for name in ("x/a.parquet", "y/a.parquet"):
        write_parquet_images(folder / name, pixels, wanted, ["zero", "one", "two"])
    decoded = read(folder / "x")

    assert np.array_equal(decoded.samples, pixels)
    assert np.array_equal(decoded.labels, wanted)
    assert decoded.class_names == ("zero", "one", "two")
    assert (folder / "x/a.parquet").read_bytes() == (folder / "y/a.parquet").read_bytes()


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    """Sources count the rows of each file; the split of a shard's name becomes a column."""
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1])
    write(tmp_path / "train-00001-of-00002.parquet", [1])
    write(tmp_path / "test-00000-of-00001.parquet", [0])
    write(tmp_path / "more.parquet", [1])
    decoded = read(tmp_path)

    assert decoded.sources == (
        "more.parquet:0", "test-00000-of-00001.parquet:0", "train-00000-of-00002.parquet:0",
        "train-00000-of-00002.parquet:1", "train-00001-of-00002.parquet:0",
    )  # fmt: skip
    assert decoded.labels.tolist() == [1, 0, 0, 1, 1]
    assert decoded.columns == {"split": [None, "test", "train", "train", "train"]}


def test_other_flat_columns_are_kept_and_filled(tmp_path):
    """A column that a file lacks is null there; a column `split` of the source wins over the file's name."""
    write(tmp_path / "a-00000-of-00001.parquet", [0], site=["north"], box=[[1, 2]], split=["mine"])
    write(tmp_path / "b.parquet", [1], weight=[2.5])

    assert read(tmp_path).columns == {"site": ["north", None], "split": ["mine", None], "weight": [None, 2.5]}


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8()])
def test_whole_numbers_name_their_classes_themselves(tmp_path, kind):
    """Without names anywhere, label y is called 'y'; null and -1 are unlabelled."""
    labels = [2, 0, None] if kind == pa.uint8() else [2, 0, -1]
    write(tmp_path / "a.parquet", pa.array(labels, type=kind))
    decoded = read(tmp_path)

    assert decoded.labels.tolist() == [2, 0, UNLABELLED]
    assert decoded.class_names == ("0", "1", "2")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_labels_are_sorted_into_classes(tmp_path, kind):
    """Null is unlabelled."""
    write(tmp_path / "a.parquet", pa.array(["dog", "cat", None], type=pa.string()).cast(kind))
    decoded = read(tmp_path)

    assert decoded.class_names == ("cat", "dog")
    assert decoded.labels.tolist() == [1, 0, UNLABELLED]


def test_names_come_from_params_then_metadata_then_classes_json(tmp_path):
    """The nearest to the user wins."""
    write(tmp_path / "a.parquet", [0, 1])
    (tmp_path / "classes.json").write_text('["file 0", "file 1"]')
    from_file = read(tmp_path).class_names
    write_parquet_images(tmp_path / "a.parquet", images(2), np.array([0, 1]), ["meta 0", "meta 1"])

    assert from_file == ("file 0", "file 1")
    assert read(tmp_path).class_names == ("meta 0", "meta 1")
    assert read(tmp_path, class_names=["mine 0", "mine 1"]).class_names == ("mine 0", "mine 1")


def test_labels_outside_the_set_are_named_by_row(tmp_path):
    """At most five are shown, all are counted."""
    write_parquet_images(tmp_path / "a.parquet", images(8), np.array([0, 1, 2, 3, 4, 5, 6, 7]), ["x", "y"])
    with pytest.raises(DataDamagedError, match=r"6 labels are outside .*a.parquet:2 is '2'.* and 1 more"):
        read(tmp_path)


@pytest.mark.parametrize("label", [-2, 10**6, 2**63])
def test_impossible_numbers_are_refused(tmp_path, label):
    """A negative label, or a million classes for three samples."""
    write(tmp_path / "a.parquet", pa.array([0, 1, label], type=pa.uint64() if label == 2**63 else pa.int64()))
    with pytest.raises(DataDamagedError, match=r"a\.parquet:2"):
        read(tmp_path)


def test_a_text_label_outside_the_set_says_what_was_meant(tmp_path):
    """An empty text is a label too, and outside."""
    write(tmp_path / "a.parquet", ["cats", ""])
    with pytest.raises(
        DataDamagedError, match=r"2 labels are outside .*'cats' \(did you mean 'cat'\?\), a.parquet:1 is ''"
    ):
        read(tmp_path, class_names=["cat", "dog"])


def test_damaged_pictures_are_named_and_their_rows_left_out(tmp_path):
    """Null, empty and broken pictures; labels and columns stay in step."""
    good = [png(image) for image in images(2)]
    write(
        tmp_path / "a.parquet", [0, 1, 2, 3, 4], pictures=[good[0], None, b"", b"broken", good[1]], note=list("abcde")
    )
    decoded = read(tmp_path)

    assert decoded.sources == ("a.parquet:0", "a.parquet:4")
    assert decoded.labels.tolist() == [0, 4]
    assert decoded.columns == {"note": ["a", "e"]}
    assert [line.split(": ")[0] for line in decoded.damaged] == ["a.parquet:1", "a.parquet:2", "a.parquet:3"]


def test_a_picture_that_is_only_a_path_is_damaged(tmp_path):
    """The layout allows to leave the bytes out; then there is nothing to decode."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": png(images(1)[0]), "path": None}, {"bytes": None, "path": "elsewhere.png"}, None]
    write(tmp_path / "a.parquet", [0, 1, 0], pictures=pa.array(rows, type=kind))

    assert read(tmp_path).damaged == ("a.parquet:1: holds no bytes", "a.parquet:2: holds no bytes")


def test_an_empty_data_set_is_refused(tmp_path):
    """No file, or no row in any file."""
    with pytest.raises(DataDamagedError, match="empty"):
        read(tmp_path)
    write(tmp_path / "a.parquet", pa.array([], type=pa.int64()), pictures=pa.array([], type=pa.binary()))
    with pytest.raises(DataDamagedError, match="empty"):
        read(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    """Cut short, or something else altogether."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataDamagedError, match=r"a\.parquet cannot be read as Parquet"):
        read(tmp_path)


def test_a_missing_column_says_what_there_is(tmp_path):
    """CIFAR calls it img; the parameter to set is in the message."""
    pq.write_table(pa.table({"img": [png(images(1)[0])], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(
        DataDamagedError, match=r"no column 'image' \(it has: img \(binary\), label .*data.format.image_column"
    ):
        read(tmp_path)

    assert len(read(tmp_path, image_column="img").samples) == 1


@pytest.mark.parametrize(
    ("image", "label", "message"), [("x", 0, "must be binary"), (b"x", 0.5, "whole numbers or text")]
)
def test_columns_of_the_wrong_type_are_named(tmp_path, image, label, message):
    """Text instead of bytes, fractions instead of labels."""
    write(tmp_path / "a.parquet", [label], pictures=[image])
    with pytest.raises(DataDamagedError, match=message):
        read(tmp_path)


def test_files_must_agree(tmp_path):
    """On the kind of labels and on the names of the classes."""
    write(tmp_path / "a.parquet", [0])
    write(tmp_path / "b.parquet", ["x"])
    with pytest.raises(DataDamagedError, match=r"b\.parquet.*unlike"):
        read(tmp_path)
    for name, classes in (("a", ["x", "y"]), ("b", ["y", "x"])):
        write_parquet_images(tmp_path / f"{name}.parquet", images(1), np.array([0]), classes)
    with pytest.raises(DataDamagedError, match=r"b\.parquet names the classes y, x"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"a": 0}', "[]", "[1]"])
def test_a_bad_classes_file_is_refused(tmp_path, content):
    """It is a list of names or an error."""
    write(tmp_path / "a.parquet", [0])
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(DataDamagedError, match=r"classes\.json"):
        read(tmp_path)


def test_odd_metadata_is_no_error(tmp_path):
    """Other writers put other things there."""
    table = pa.table({"image": [png(images(1)[0])], "label": [0]})
    for metadata in ("[]", "{", json.dumps({"info": {"features": {"label": {"_type": "Value"}}}})):
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
        assert read(tmp_path).class_names == ("0",)
