"""Counter-based augmentation: a view is the same pixels whatever the batch, order, process or resume point.

Random numbers are Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). The sample id is the counter; seed, view index and purpose are the key. Nothing is remembered between
two draws, so a view costs no stored bytes and can be made again anywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.contracts import Draws, Transform
from components.errors import BadInputError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from components.params import ViewParams

SAMPLE_ID_BYTES = 16
MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
COUNTERS_AT_ONCE = 2**14
"""Keeps the generator's temporaries in the processor's cache; any value gives the same numbers."""
PIXELS_AT_ONCE = 2**20
"""Bounds the temporaries of a transform; any value gives the same views."""


def philox4x32(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10 of B counters under one key; uint32 [B, 4] -> uint32 [B, 4]."""
    first, second, third, fourth = counters.T.astype(np.uint64, order="C")
    for key_first, key_third in _round_keys(key):
        low, high = first * MULTIPLIERS[0], third * MULTIPLIERS[1]
        first, second = (high >> WORD_BITS) ^ second ^ key_first, high & WORD
        third, fourth = (low >> WORD_BITS) ^ fourth ^ key_third, low & WORD
    return np.stack((first, second, third, fourth), axis=1).astype(np.uint32)


def _round_keys(key: tuple[int, int]) -> NDArray[np.uint64]:
    """[ROUNDS, 2]: the key bumped by the Weyl constants, one pair a round."""
    bumped = [[(word + turn * weyl) % 2**32 for word, weyl in zip(key, WEYL, strict=True)] for turn in range(ROUNDS)]
    return np.array(bumped, dtype=np.uint64)


def stream_key(seed: int, view: int, purpose: str) -> tuple[int, int]:
    """The Philox key of one purpose in one view: the first 64 bits of a sha256 over all three."""
    digest = hashlib.sha256(json.dumps([seed, view, purpose]).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


@dataclass(frozen=True, slots=True)
class ViewDraws:
    """The random numbers of B views of one index; implements `contracts.Draws`.

    Room for transforms that mix samples: their partners are one more draw, over the rows of a split.
    """

    sample_ids: NDArray[np.uint8]
    """[B, 16]."""
    seed: int
    view: int
    device: torch.device
    scope: str = ""
    """Which transform of the view asks, so that two of a kind draw different numbers."""

    def integers(self, low: int, high: int, *, purpose: str) -> Tensor:
        """[B] int64, uniform in low..high inclusive.

        Multiply-shift on 32 bits (Lemire 2019, without rejection): the chance of a value is off its fair share
        by a factor of at most 1 ± (high - low + 1) / 2^32, one in four million for a thousand values.
        """
        import torch

        span = high - low + 1
        if span == 1:
            return torch.full((len(self.sample_ids),), low, device=self.device)
        assert 1 <= span <= 2**32, f"{purpose}: {low}..{high} holds {span} values"
        words = self._words(stream_key(self.seed, self.view, self.scope + purpose))
        drawn = ((words * np.uint64(span)) >> WORD_BITS).astype(np.int64) + low
        return torch.from_numpy(drawn).to(self.device)

    def _words(self, key: tuple[int, int]) -> NDArray[np.uint32]:
        """[B]: the first of the four words of each sample's block."""
        words = np.empty(len(self.sample_ids), dtype=np.uint32)
        for start in range(0, len(words), COUNTERS_AT_ONCE):
            part = slice(start, start + COUNTERS_AT_ONCE)
            words[part] = philox4x32(_counters(self.sample_ids[part]), key)[:, 0]
        return words

    def within(self, scope: str) -> ViewDraws:
        """The same views' numbers, for another transform."""
        return replace(self, scope=f"{self.scope}{scope}/")


def _counters(sample_ids: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """[B, 16] uint8 -> [B, 4] uint32, the same on little- and big-endian machines."""
    return np.ascontiguousarray(sample_ids).view("<u4").astype(np.uint32, copy=False)


class _ScopedDraws(Draws, Protocol):
    def within(self, scope: str) -> Draws: ...


@dataclass(frozen=True, slots=True)
class _SomeDraws:
    """The numbers of some rows, out of those drawn for all: one call of the generator a view, not one a batch."""

    whole: ViewDraws
    rows: Tensor
    drawn: dict[tuple[str, int, int], Tensor]

    def integers(self, low: int, high: int, *, purpose: str) -> Tensor:
        name = (self.whole.scope + purpose, low, high)
        if name not in self.drawn:
            self.drawn[name] = self.whole.integers(low, high, purpose=purpose)
        return self.drawn[name].index_select(0, self.rows)

    def within(self, scope: str) -> _SomeDraws:
        return replace(self, whole=self.whole.within(scope))


def make_views(samples: Tensor, sample_ids: NDArray[np.uint8], view: int, params: ViewParams) -> Tensor:
    """View *view* (mod params.count) of each sample; uint8 [B, *S], uint8 [B, 16] -> uint8 [B, *S]."""
    view %= params.count
    if _is_identity(view, params):
        return samples
    draws = ViewDraws(sample_ids, params.seed, view, samples.device)
    return _transformed(samples, draws, params, _build(params, tuple(samples.shape[1:])))


def _build(params: ViewParams, sample_shape: tuple[int, ...]) -> tuple[Transform, ...]:
    return tuple(transform.build(sample_shape) for transform in params.transforms)


def _is_identity(view: int, params: ViewParams) -> bool:
    return not params.transforms or (view == 0 and params.first_is_identity)


def _transformed(samples: Tensor, draws: _ScopedDraws, params: ViewParams, transforms: Sequence[Transform]) -> Tensor:
    for position, (named, transform) in enumerate(zip(params.transforms, transforms, strict=True)):
        samples = transform(samples, draws.within(f"{position}:{named.name}"))
    return samples


class ViewBank:
    """All views of N samples, prepared once in memory when they fit, else made when asked for: the same bits.

    A view is prepared when it is first read, so a run that reads one view pays for one.
    """

    def __init__(self, samples: Tensor, sample_ids: NDArray[np.uint8], params: ViewParams, *, limit_bytes: int) -> None:
        """uint8 [N, *S] and uint8 [N, 16]; *limit_bytes* bounds the prepared views, the samples themselves apart."""
        _check_samples(samples, sample_ids)
        self.params = params
        self.samples = samples
        self.sample_ids = sample_ids
        self._transforms = _build(params, tuple(samples.shape[1:]))
        self._prepared: dict[int, Tensor] = {}
        self._drawn_view = -1
        self._drawn: dict[tuple[str, int, int], Tensor] = {}
        self.fits = self.prepared_bytes <= limit_bytes

    @property
    def num_samples(self) -> int:
        return self.samples.shape[0]

    @property
    def prepared_bytes(self) -> int:
        """What all views take once prepared; views that are the samples themselves take nothing."""
        if not self.params.transforms:
            return 0
        return (self.params.count - int(self.params.first_is_identity)) * self.samples.numel()

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """View *view* (mod params.count) of the samples at *rows*; int64 [B] -> uint8 [B, *S], a new tensor."""
        view %= self.params.count
        rows = rows.to(self.samples.device)
        if _is_identity(view, self.params):
            return self.samples.index_select(0, rows)
        if self.fits:
            return self._whole(view).index_select(0, rows)
        return self._some(rows, view)

    def _draws(self, view: int, part: slice = slice(None)) -> ViewDraws:
        return ViewDraws(self.sample_ids[part], self.params.seed, view, self.samples.device)

    def _some(self, rows: Tensor, view: int) -> Tensor:
        if view != self._drawn_view:
            self._drawn_view, self._drawn = view, {}
        draws = _SomeDraws(self._draws(view), rows, self._drawn)
        return _transformed(self.samples.index_select(0, rows), draws, self.params, self._transforms)

    def _whole(self, view: int) -> Tensor:
        if view not in self._prepared:
            self._prepared[view] = self._prepare(view)
        return self._prepared[view]

    def _prepare(self, view: int) -> Tensor:
        import torch

        whole = torch.empty_like(self.samples)
        step = max(1, PIXELS_AT_ONCE // max(1, math.prod(self.samples.shape[1:])))
        for start in range(0, self.num_samples, step):
            part = slice(start, start + step)
            whole[part] = _transformed(self.samples[part], self._draws(view, part), self.params, self._transforms)
        return whole


def _check_samples(samples: Tensor, sample_ids: NDArray[np.uint8]) -> None:
    if str(samples.dtype) != "torch.uint8":
        raise BadInputError(f"views are made of uint8 samples, and these are {samples.dtype}")
    if sample_ids.dtype != np.uint8 or sample_ids.shape != (len(samples), SAMPLE_ID_BYTES):
        raise BadInputError(
            f"{len(samples)} samples need sample ids uint8 [{len(samples)}, {SAMPLE_ID_BYTES}], "
            f"not {sample_ids.dtype} {list(sample_ids.shape)}"
        )
