"""Rows that need not be computed again: of a damaged copy of the same result, or of another version of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.artifacts.artifact import manifest_of
from components.errors import ArtifactDamagedError
from components.soft_targets.header import LOGITS, SAMPLE_IDS, Header, read_header
from components.soft_targets.integrity import damaged_chunks
from components.soft_targets.sources import Copied

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.artifacts.artifact import Artifact
    from components.artifacts.key import Key
    from components.artifacts.store import Store

CANDIDATES = 3
"""Results that are looked at, since each is verified first."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Encoded rows of another result of the same teacher, views and parameters."""

    name: str
    """For people: 'the damaged copy'."""
    codec: str
    rows: Copied
    damaged: bool
    """A damaged copy of this very result; otherwise of another data version, where rows had other places in batches."""


def salvaged(folder: Path, key: str, fingerprint: Mapping[str, Any]) -> Earlier | None:
    """The intact chunks of a damaged copy of the result *key*, if this machine made it; verified one by one."""
    manifest = manifest_of(folder)
    if manifest is None or manifest.key != key or dict(manifest.fingerprint) != dict(fingerprint):
        return None
    try:
        damaged, header = damaged_chunks(folder), read_header(folder)
    except ArtifactDamagedError:
        return None  # nothing says what the rest should be
    intact = np.setdiff1d(np.arange(len(header.chunk_sha256)), damaged)
    if not len(intact):
        return None
    num_places = header.num_views * header.num_rows
    places = np.arange(num_places)
    places = places[np.isin(places // header.rows_per_chunk, intact)]
    return Earlier("the damaged copy", header.codec, Copied(places, places, _mapped(folder, header)), damaged=True)


def of_another_version(found: Artifact, sample_ids: NDArray[np.uint8]) -> Earlier | None:
    """Rows that *found*, which the store has verified, holds of samples with these ids; uint8 [N, 16]."""
    header = read_header(found.root)
    mine, theirs = common_samples(sample_ids, _sample_ids(found.root))
    if not len(mine):
        return None
    views = np.arange(header.num_views)[:, None]
    rows = Copied(
        (views * len(sample_ids) + mine).reshape(-1),
        (views * header.num_rows + theirs).reshape(-1),
        _mapped(found.root, header),
    )
    return Earlier(f"soft targets {found.digest[:12]} of another data version", header.codec, rows, damaged=False)


def common_samples(mine: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the same samples lie in both; uint8 [N, 16] and [M, 16] -> ascending rows of *mine*, and rows of *theirs*."""
    wanted, known = (np.ascontiguousarray(ids).view("V16").reshape(-1) for ids in (mine, theirs))
    if not len(known):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    order = np.argsort(known)
    found = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    there = np.flatnonzero(known[order[found]] == wanted)
    return there.astype(np.int64), order[found[there]].astype(np.int64)


def donor(
    store: Store,
    key: Key,
    *,
    teacher_model: str,
    class_names: tuple[str, ...],
    sample_ids: NDArray[np.uint8],
    fingerprint: Mapping[str, Any],
) -> Earlier | None:
    """Of the newest results that differ from *key* in their data alone, the one that shares most rows.

    Only what this machine made counts: elsewhere the teacher may say other last bits.
    """
    candidates = islice(_candidates(store, key, fingerprint), CANDIDATES)
    alike = [found for found in candidates if _speaks_alike(found.root, teacher_model, class_names)]
    shared = [each for each in (of_another_version(found, sample_ids) for found in alike) if each is not None]
    return max(shared, key=lambda each: len(each.rows.places), default=None)


def _candidates(store: Store, key: Key, fingerprint: Mapping[str, Any]) -> Iterator[Artifact]:
    for other in store.storage.keys(key.kind):
        manifest = store.storage.manifest(key.kind, other)
        if manifest is None or other == key.digest or dict(manifest.fingerprint) != dict(fingerprint):
            continue
        if _but_for_the_data(manifest.fields) == _but_for_the_data(key.fields):
            found = store.find(key.kind, other)
            if found is not None:
                yield found


def _but_for_the_data(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without the data and teacher, which are looked at by themselves, and the rows that were asked about."""
    return {name: value for name, value in fields.items() if name not in {"inputs", "facts"}}


def _speaks_alike(folder: Path, teacher_model: str, class_names: tuple[str, ...]) -> bool:
    header = read_header(folder)
    return header.teacher_model == teacher_model and header.identity.class_names == class_names


def _sample_ids(folder: Path) -> NDArray[np.uint8]:
    return np.asarray(np.load(folder / SAMPLE_IDS, allow_pickle=False))


def _mapped(folder: Path, header: Header) -> NDArray[np.uint8]:
    """Whole rows of logits.bin, whatever its length."""
    stride = header.row_stride_bytes
    num_rows = (folder / LOGITS).stat().st_size // stride
    return np.asarray(np.memmap(folder / LOGITS, dtype=np.uint8, mode="r", shape=(num_rows, stride)))
