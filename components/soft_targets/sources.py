"""Where encoded rows come from: the teacher, an attempt that was killed, a damaged copy, an older data version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.soft_targets.chunks import Chunk, ChunkFiles


class Source(Protocol):
    """Encoded rows at some places of the flattened [view, sample] order."""

    @property
    def places(self) -> NDArray[np.int64]:
        """[n], ascending."""
        ...

    def read(self, part: slice) -> NDArray[np.uint8]:
        """Rows of places[part], uint8 [m, row stride]."""
        ...


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows that lie in the file of another artifact."""

    places: NDArray[np.int64]
    """[n], ascending: where they go."""
    origins: NDArray[np.int64]
    """[n]: where they lie in *stored*."""
    stored: NDArray[np.uint8]
    """[m, row stride]."""

    def read(self, part: slice) -> NDArray[np.uint8]:
        return self.stored[self.origins[part]]

    def without(self, taken: NDArray[np.bool_]) -> Copied:
        """The rows whose places are not *taken* yet; bool [V * N]."""
        free = ~taken[self.places]
        return replace(self, places=self.places[free], origins=self.origins[free])


@dataclass(slots=True)
class Committed:
    """A chunk on disk, read again when its turn comes."""

    places: NDArray[np.int64]
    files: ChunkFiles
    last_read: list[Chunk] = field(default_factory=list)
    """Of all chunks of one teacher pass; holds one at most, so that memory does not grow with their number."""

    def read(self, part: slice) -> NDArray[np.uint8]:
        return self._chunk().rows[part]

    def _chunk(self) -> Chunk:
        first = int(self.places[0])
        if not self.last_read or self.last_read[0].places[0] != first:
            self.last_read[:] = [self._load(first)]
        return self.last_read[0]

    def _load(self, first: int) -> Chunk:
        found = self.files.load(first)
        if found is None or not np.array_equal(found.places, self.places):
            raise StoreError(
                f"the chunk at row {first} of the soft targets in {self.files.folder} was damaged after it was written; "
                "run again, and only that chunk is computed"
            )
        return found


def blocks(sources: Sequence[Source], spans: Sequence[range], row_stride_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """The rows of each of *spans*, gathered from *sources*, which hold every place once."""
    firsts = np.array([source.places[0] for source in sources])
    lasts = np.array([source.places[-1] for source in sources])
    for span in spans:
        block = np.empty((len(span), row_stride_bytes), dtype=np.uint8)
        for index in np.flatnonzero((firsts < span.stop) & (lasts >= span.start)).tolist():
            places = sources[index].places
            part = slice(*np.searchsorted(places, [span.start, span.stop]))
            block[places[part] - span.start] = sources[index].read(part)
        yield block
