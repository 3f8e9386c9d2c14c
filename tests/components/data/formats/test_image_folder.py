"""The image_folder format: a folder per class, below split folders or not."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from components.contracts import UNLABELLED, DecodedSamples
from components.data.formats.image_folder import Params
from components.errors import DataDamagedError


def pixels(seed: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def put(path: Path, seed: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, shape)).save(path)
    return pixels(seed, shape)


def read(folder: Path, **params: object) -> DecodedSamples:
    return Params.model_validate({"name": "image_folder", **params}).read(folder)


def test_classes_are_folders_in_the_order_of_their_names(tmp_path):
    """Samples are [N, 1, H, W] in the order of their paths; labels count the sorted names."""
    dog, cat = put(tmp_path / "dog" / "a.png", 1), put(tmp_path / "cat" / "b.bmp", 2)
    decoded = read(tmp_path)

    assert decoded.class_names == ("cat", "dog")
    assert decoded.sources == ("cat/b.bmp", "dog/a.png")
    assert decoded.labels.tolist() == [0, 1]
    assert np.array_equal(decoded.samples, np.stack([cat, dog])[:, None])


def test_split_folders_stand_above_the_classes(tmp_path):
    """The first folder stays in the source, where a folder split finds it."""
    for source in ("train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png"):
        put(tmp_path / source, 1)
    decoded = read(tmp_path)

    assert decoded.class_names == ("a", "b")
    assert decoded.sources == ("test/b/4.png", "train/a/1.png", "train/b/2.png", "val/a/3.png")
    assert decoded.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("layout", "classes"), [("classes", ("extra", "test", "train")), ("splits", ("x",))])
def test_an_ambiguous_layout_must_be_named(tmp_path, layout, classes):
    """Split names beside another name could be either."""
    for first in ("train", "test", "extra"):
        put(tmp_path / first / "x" / "1.png", 1)
    with pytest.raises(DataDamagedError, match=r"both splits \(test, train\) and something else \(extra\)"):
        read(tmp_path)

    assert read(tmp_path, layout=layout).class_names == classes


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_a_folder_called_unlabelled_has_no_class(tmp_path, prefix):
    """It may stand at the top or below a split."""
    put(tmp_path / f"{prefix}a" / "1.png", 1)
    put(tmp_path / f"{prefix}unlabelled" / "2.png", 2)
    put(tmp_path / "unlabelled" / "3.png", 3)
    decoded = read(tmp_path)

    assert decoded.class_names == ("a",)
    assert sorted(decoded.labels.tolist()) == [UNLABELLED, UNLABELLED, 0]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    """Folders listed in any order give the same arrays."""
    for number in range(12):
        put(tmp_path / f"{number % 3}" / f"{number}.png", number)
    first = read(tmp_path)
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path):
            self.entries = list(scandir(path))
            random.Random(3).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Shuffled)
    second = read(tmp_path)

    assert first.sources == second.sources
    assert np.array_equal(first.samples, second.samples)


def test_litter_and_files_above_the_classes_are_no_samples(tmp_path):
    """Hidden files, thumbnails, and a licence at the top."""
    put(tmp_path / "a" / "1.png", 1)
    for name in ("a/.DS_Store", "a/Thumbs.db", ".git/x.png", "LICENSE", "labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    decoded = read(tmp_path)

    assert decoded.sources == ("a/1.png",)
    assert decoded.damaged == ()


def test_damaged_pictures_are_named_and_the_others_decoded(tmp_path):
    """Truncated, empty, of another kind, too deep, outside any class: each with its reason."""
    good = put(tmp_path / "a" / "good.png", 1)
    whole = (tmp_path / "a" / "good.png").read_bytes()
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.png").write_bytes(b"not a picture")
    (tmp_path / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "notes.txt").write_bytes(b"notes")
    Image.fromarray(pixels(1).astype(np.uint16) * 256).save(tmp_path / "a" / "deep.png")
    put(tmp_path / "stray.png", 2)
    decoded = read(tmp_path)

    assert np.array_equal(decoded.samples, good[None, None])
    assert decoded.sources == ("a/good.png",)
    assert [line.split(": ")[0] for line in decoded.damaged] == [
        "a/cut.png", "a/deep.png", "a/empty.png", "a/notes.txt", "a/text.png", "stray.png",
    ]  # fmt: skip
    assert "a/text.png: not a picture in a known format" in decoded.damaged
    assert "a/deep.png: has I;16 pixels; only 8 bits a channel are read" in decoded.damaged
    assert "stray.png: lies in no class folder" in decoded.damaged


@settings(max_examples=60, deadline=None)
@given(
    position=st.integers(0, 10_000),
    value=st.integers(0, 255),
    cut=st.booleans(),
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
)
def test_no_damage_escapes_as_a_traceback(tmp_path_factory, position, value, cut, kind):
    """A changed or cut file is decoded, named as damaged, or refused with a typed error."""
    folder = tmp_path_factory.mktemp("fuzz")
    put(folder / "a" / "good.png", 1, (9, 9, 3))
    Image.fromarray(pixels(2, (9, 9, 3))).save(folder / "a" / "bad.img", format=kind)
    content = bytearray((folder / "a" / "bad.img").read_bytes())
    position %= len(content)
    content[position] = value
    (folder / "a" / "bad.png").write_bytes(bytes(content[:position] if cut else content))
    (folder / "a" / "bad.img").unlink()
    try:
        decoded = read(folder)
    except DataDamagedError:
        return

    assert len(decoded.samples) + len(decoded.damaged) == 2


def test_an_empty_data_set_is_refused(tmp_path):
    """No picture, or only damaged ones."""
    with pytest.raises(DataDamagedError, match="empty"):
        read(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"x")
    with pytest.raises(DataDamagedError, match="none of 1 pictures can be decoded: a/1.png"):
        read(tmp_path)


def test_sizes_must_agree_unless_resize_says_so(tmp_path):
    """The refusal names the sizes with an example; resize brings all to one."""
    put(tmp_path / "a" / "1.png", 1)
    put(tmp_path / "a" / "2.png", 2)
    put(tmp_path / "a" / "3.png", 3, (7, 5))
    with pytest.raises(
        DataDamagedError, match=r"6x5 \(2, such as .*7x5 \(1, such as a/3\.png\).*resize=\[HEIGHT, WIDTH\]"
    ):
        read(tmp_path)

    assert read(tmp_path, resize=[4, 3]).samples.shape == (3, 1, 4, 3)


@pytest.mark.parametrize(("channels", "depth"), [("auto", 3), ("RGB", 3), ("L", 1)])
def test_channels(tmp_path, channels, depth):
    """auto is colour as soon as one picture is; grey ones are then the same in every channel."""
    grey = put(tmp_path / "a" / "1.png", 1)
    put(tmp_path / "a" / "2.png", 2, (6, 5, 3))
    decoded = read(tmp_path, channels=channels)

    assert decoded.samples.shape == (2, depth, 6, 5)
    assert all(np.array_equal(channel, grey) for channel in decoded.samples[0])


def test_a_photograph_is_turned_upright(tmp_path):
    """The orientation that a camera notes is applied."""
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(1)).save(tmp_path / "a" / "1.png", exif=exif)

    assert np.array_equal(read(tmp_path).samples[0, 0], np.rot90(pixels(1), -1))


def test_given_class_names_fix_the_order_and_refuse_others(tmp_path):
    """A folder outside the set is named, with what was probably meant."""
    put(tmp_path / "cat" / "1.png", 1)
    put(tmp_path / "dog" / "2.png", 2)

    assert read(tmp_path, class_names=["dog", "cat", "emu"]).labels.tolist() == [1, 0]
    with pytest.raises(
        DataDamagedError,
        match=r"1 label is outside the set \(cat, dogs\): dog/2.png is 'dog' \(did you mean 'dogs'\?\)",
    ):
        read(tmp_path, class_names=["cat", "dogs"])


@pytest.mark.parametrize(
    "wrong", [{"class_names": ["a", "a"]}, {"class_names": []}, {"resize": [0, 3]}, {"channel": "L"}]
)
def test_bad_parameters_die_at_load(wrong):
    """Repeated names, no names, no pixels, unknown keys."""
    with pytest.raises(ValidationError):
        Params.model_validate({"name": "image_folder", **wrong})
