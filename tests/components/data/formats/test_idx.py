"""The idx format: images and labels in pairs of files, gzipped or not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts import DecodedSamples
from components.data.formats.idx import Params
from components.errors import DataDamagedError

PIXELS = np.random.default_rng(1).integers(0, 256, size=(5, 4, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 0, 2], dtype=np.uint8)


def encode(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def put(folder: Path, prefix: str, pixels: np.ndarray, labels: np.ndarray, *, zipped: bool = False) -> None:
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        content = encode(array)
        path = folder / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content) if zipped else content)


def read(folder: Path, **params: object) -> DecodedSamples:
    return Params.model_validate({"name": "idx", **params}).read(folder)


@pytest.mark.parametrize("zipped", [False, True])
def test_training_comes_first_then_test(tmp_path, zipped):
    """Samples are [N, 1, H, W]; sources and the column split tell where each came from."""
    put(tmp_path, "t10k", PIXELS[3:], LABELS[3:], zipped=zipped)
    put(tmp_path, "train", PIXELS[:3], LABELS[:3], zipped=zipped)
    decoded = read(tmp_path)

    assert np.array_equal(decoded.samples, PIXELS[:, None])
    assert decoded.labels.tolist() == LABELS.tolist()
    assert decoded.class_names == ("0", "1", "2")
    assert decoded.sources == ("train:0", "train:1", "train:2", "test:0", "test:1")
    assert decoded.columns == {"split": ["train"] * 3 + ["test"] * 2}


def test_class_names_are_the_label_set(tmp_path):
    """A label outside the names is named with its source."""
    put(tmp_path, "train", PIXELS, LABELS)

    assert read(tmp_path, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(DataDamagedError, match=r"2 labels are outside the set .*train:0 is '2'"):
        read(tmp_path, class_names=["a", "b"])


def test_an_empty_folder_is_refused(tmp_path):
    """The message names the files that were looked for."""
    with pytest.raises(DataDamagedError, match="neither train-images-idx3-ubyte"):
        read(tmp_path)


def test_a_file_without_its_partner_is_refused(tmp_path):
    """The missing one is named."""
    put(tmp_path, "train", PIXELS, LABELS)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataDamagedError, match="train-labels-idx1-ubyte .* is missing"):
        read(tmp_path)


def test_the_same_file_twice_is_refused(tmp_path):
    """Zipped and not: nobody says which one counts."""
    put(tmp_path, "train", PIXELS, LABELS)
    put(tmp_path, "train", PIXELS, LABELS, zipped=True)
    with pytest.raises(DataDamagedError, match="keep one of them"):
        read(tmp_path)


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    """Other counts in one pair, other sizes between pairs."""
    put(tmp_path, "train", PIXELS, LABELS[:4])
    with pytest.raises(DataDamagedError, match="has 5 images, but .* has 4 labels"):
        read(tmp_path)
    put(tmp_path, "train", PIXELS, LABELS)
    put(tmp_path, "t10k", PIXELS[:, :2], LABELS)
    with pytest.raises(DataDamagedError, match=r"train: 4 x 3, test: 2 x 3"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (encode(LABELS), "no IDX file of 3 dimensions"),
        (encode(PIXELS)[:-1], "promises 60 bytes .* holds 59"),
        (gzip.compress(encode(PIXELS), mtime=0)[:-9], "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    """Empty, of another kind, cut, cut within the compression."""
    put(tmp_path, "train", PIXELS, LABELS)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataDamagedError, match=f"train-images-idx3-ubyte.*{message}"):
        read(tmp_path)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), zipped=st.booleans())
def test_no_damage_escapes_as_a_traceback(tmp_path_factory, position, value, zipped):
    """A changed byte is decoded or refused with a typed error."""
    folder = tmp_path_factory.mktemp("fuzz")
    put(folder, "train", PIXELS, LABELS, zipped=zipped)
    path = next(folder.glob("train-images*"))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        decoded = read(folder)
    except DataDamagedError:
        return

    assert len(decoded.samples) == len(LABELS)
