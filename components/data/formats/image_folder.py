"""A folder per class, below train, validation and test folders or not: `3/0012.png` or `train/3/0012.png`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from components.contracts import DecodedSamples
from components.data.formats._images import ImageParams, decode_pictures, labels_by_name
from components.errors import DataDamagedError, some_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_FOLDERS = frozenset({"train", "validation", "val", "valid", "test", "transfer"})
UNLABELLED_FOLDER = "unlabelled"
_LITTER = frozenset({"Thumbs.db", "desktop.ini"})


class Params(ImageParams):
    """Every picture below a class folder is a sample of that class; below `unlabelled`, of none."""

    name: Literal["image_folder"] = "image_folder"
    layout: Literal["auto", "classes", "splits"] = Field(
        "auto", description="whether the first folders are classes or splits; auto: splits if all are named as such"
    )

    def read(self, folder: Path) -> DecodedSamples:
        """Decode everything below *folder*, sorted by path; DataDamagedError for an empty or ambiguous one."""
        paths = _files(folder)
        depth = 1 if _first_folders_are_splits(paths, self.layout) else 0
        # A file that stands above the classes (a licence, a list) is not a sample, unless it is a picture.
        paths = [path for path in paths if _class_of(path, depth) or path.suffix.lower() in SUFFIXES]
        if not paths:
            raise DataDamagedError("the data set is empty: there is no picture in any class folder")
        return self._decode(folder, paths, depth)

    def _decode(self, folder: Path, paths: Sequence[PurePosixPath], depth: int) -> DecodedSamples:
        sources = tuple(str(path) for path in paths)
        pictures = decode_pictures(sources, [partial(_read, folder, path, depth) for path in paths], self)
        kept = [paths[index] for index in pictures.kept]
        names = [None if (name := _class_of(path, depth)) == UNLABELLED_FOLDER else name for path in kept]
        sources = tuple(str(path) for path in kept)
        labels, classes = labels_by_name(names, sources, self.class_names)
        return DecodedSamples(pictures.samples, labels, classes, sources, {}, pictures.damaged)


def _files(folder: Path) -> list[PurePosixPath]:
    """Every file but hidden ones, relative, in the order of their paths as text."""
    found = (PurePosixPath(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    visible = (
        path for path in found if path.name not in _LITTER and not any(part.startswith(".") for part in path.parts)
    )
    return sorted(visible, key=str)


def _first_folders_are_splits(paths: Sequence[PurePosixPath], layout: str) -> bool:
    if layout != "auto":
        return layout == "splits"
    first = {path.parts[0] for path in paths if len(path.parts) > 1} - {UNLABELLED_FOLDER}
    if not first or not first & SPLIT_FOLDERS or "train" not in first:
        return False
    if others := sorted(first - SPLIT_FOLDERS):
        raise DataDamagedError(
            f"the first folders are both splits ({some_of(sorted(first & SPLIT_FOLDERS))}) and something else "
            f"({some_of(others)}): set data.format.layout to classes or splits"
        )
    return True


def _class_of(path: PurePosixPath, depth: int) -> str | None:
    """Name of the class folder, or None for a file that lies in none."""
    if path.parts[0] == UNLABELLED_FOLDER and len(path.parts) > 1:
        return UNLABELLED_FOLDER
    return path.parts[depth] if len(path.parts) > depth + 1 else None


def _read(folder: Path, path: PurePosixPath, depth: int) -> bytes:
    if _class_of(path, depth) is None:
        raise ValueError("lies in no class folder")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"is not named as a picture ({', '.join(sorted(SUFFIXES))})")
    return (folder / path).read_bytes()
