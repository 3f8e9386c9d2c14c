"""Reads soft targets in any order: one gather a batch from the memory map, decode included."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from components.errors import ArtifactDamagedError, BadInputError, SoftTargetsRefusedError, some_of
from components.soft_targets.codec import EXACT, codec_named
from components.soft_targets.header import LOGITS, ROWS, Header, Identity, differences, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from components.artifacts.artifact import Artifact


class _Buffer(NamedTuple):
    """Memory for a batch, used again for every batch of its size."""

    taken: NDArray[np.uint8]
    decode: Callable[[], None]
    logits: Tensor


class SoftTargets:
    """A teacher's raw logits for V views of N samples, memory-mapped."""

    def __init__(self, header: Header, rows: NDArray[np.int64], mapped: mmap.mmap) -> None:
        """*rows* [N]: the row in the data set of each stored sample; *mapped*: V * N rows of fixed stride."""
        self.header = header
        self.rows = rows
        # A plain array over the mapping: indexing np.memmap is several times slower.
        self.stored = np.frombuffer(mapped, dtype=np.uint8).reshape(-1, header.row_stride_bytes)
        self._mapped = mapped
        self._codec = codec_named(header.codec)
        self._place = _places(rows)
        self._views = self.stored.reshape(header.num_views, len(rows), header.row_stride_bytes)
        self._buffers: dict[int, _Buffer] = {}

    @classmethod
    def open(cls, artifact: Artifact) -> SoftTargets:
        """Map an artifact of the soft-targets step; see `load`."""
        return cls.load(artifact.root)

    @classmethod
    def load(cls, folder: Path) -> SoftTargets:
        """Map the files in *folder*.

        ArtifactDamagedError: header and files do not fit each other. SoftTargetsRefusedError: another schema or codec.
        """
        header = read_header(folder)
        _check_size(folder / LOGITS, header)
        rows = _read_rows(folder / ROWS, header)
        with (folder / LOGITS).open("rb") as stream:
            return cls(header, rows, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))

    @property
    def num_views(self) -> int:
        return self.header.num_views

    @property
    def num_classes(self) -> int:
        return self.header.num_classes

    def matches(self, wanted: Identity, *, allow_mismatched_views: bool = False) -> None:
        """SoftTargetsRefusedError that names every field in which these are not the targets of *wanted*."""
        ignored = {"view_spec"} if allow_mismatched_views else set()
        stored, asked = (side.model_dump(mode="json", exclude=ignored) for side in (self.header.identity, wanted))
        found = list(differences(stored, asked))
        if found:
            raise SoftTargetsRefusedError(
                f"soft targets refused: {some_of(found)}; run the soft_targets step for this student"
            )

    def gather(self, rows: Tensor, view: int) -> Tensor:
        """Logits of view *view* (mod num_views) of data set *rows*; int64 [B] -> float32 [B, C] in host memory.

        The result is a buffer that the next batch of as many rows overwrites. BadInputError: a row is not stored.
        """
        return self.take(self.places(rows.cpu().numpy()), view)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where data set *rows* lie, int64 [N] -> int64 [N], looked up and checked once for a whole epoch.

        BadInputError: a row is not stored.
        """
        try:
            places = self._place.take(rows)
        except IndexError:
            places = np.array([-1])
        # The sign bit of one tells of a row that is not stored, that of the other of a negative one.
        if len(places) and np.minimum.reduce(places | rows) < 0:
            raise BadInputError(self._unknown(rows))
        return places

    def take(self, places: NDArray[np.int64], view: int) -> Tensor:
        """Like `gather`, of what `places` found."""
        buffer = self._read(places, view)
        buffer.decode()
        return buffer.logits

    def expect(self, places: NDArray[np.int64], view: int) -> None:
        """Have the system fetch the chunks of *places* in the background, in large pieces, because they are read soon.

        Without it every first touch of a page waits for the disk; for pages in memory it costs next to nothing.
        """
        bytes_per_chunk = self.header.rows_per_chunk * self.header.row_stride_bytes
        flat = places + view % self.num_views * len(self.rows)
        for chunk in np.unique(flat // self.header.rows_per_chunk).tolist():
            start = chunk * bytes_per_chunk // mmap.PAGESIZE * mmap.PAGESIZE
            end = min((chunk + 1) * bytes_per_chunk, self.header.num_bytes)
            self._mapped.madvise(mmap.MADV_WILLNEED, start, end - start)

    def _read(self, places: NDArray[np.int64], view: int) -> _Buffer:
        """Rows as they are stored, into the buffer for as many."""
        buffer = self._buffers.get(len(places)) or self._new_buffer(len(places))
        # 'clip' spares a second buffer; the places have been checked.
        self._views[view % len(self._views)].take(places, axis=0, out=buffer.taken, mode="clip")
        return buffer

    def _unknown(self, rows: NDArray[np.int64]) -> str:
        unknown = np.setdiff1d(rows, self.rows).tolist()
        return (
            f"there are no soft targets for {len(unknown)} of {len(rows)} rows ({some_of(unknown)}): "
            f"they hold the {len(self.rows)} rows that their student learnt from"
        )

    def _new_buffer(self, num_rows: int) -> _Buffer:
        import torch

        decoded = np.empty((num_rows, self.num_classes), dtype=np.float32)
        exact = self.header.codec == EXACT and np.little_endian
        taken = decoded.view(np.uint8) if exact else np.empty((num_rows, self.header.row_stride_bytes), dtype=np.uint8)
        buffer = _Buffer(taken, self._codec.decoder(taken, decoded), torch.from_numpy(decoded))
        self._buffers[num_rows] = buffer
        return buffer


def _places(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Data set row -> place among the stored samples, -1 where there is none."""
    places = np.full(int(rows.max()) + 1, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return places


def _check_size(path: Path, header: Header) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size != header.num_bytes:
        raise ArtifactDamagedError(
            f"{path} has {size} bytes, and its header promises {header.num_bytes} "
            f"({header.num_views} views x {header.num_rows} rows x {header.row_stride_bytes} bytes)"
        )


def _read_rows(path: Path, header: Header) -> NDArray[np.int64]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read: {error}") from error
    if rows.dtype != np.int64 or rows.shape != (header.num_rows,) or (len(rows) and rows.min() < 0):
        found = f"{rows.dtype} {list(rows.shape)}"
        raise ArtifactDamagedError(
            f"{path} is {found}, and the header promises int64 [{header.num_rows}] of row indices"
        )
    return rows
