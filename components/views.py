"""Counter-based augmentation: a view is the same pixels whatever the batch, order, process or resume point.

Random numbers are Philox4x32-7 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
the fewest rounds that its authors found to pass every test of BigCrush. The sample id is the counter; seed, view index
and the asking step are the key. Nothing is remembered between two views, so a view costs no stored bytes and can be
made again anywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from components.contracts import Draws, Mixing, MixingParams, Mixture, Transform
from components.errors import BadInputError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from components.params import ViewParams

SAMPLE_ID_BYTES = 16
SAMPLE_TYPES = ("torch.uint8", "torch.float32")
MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
ROUNDS = 7
WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
BLOCK_WORDS = 4
BLOCK_BYTES = 16
PARTNER_WORD = 0
COUNTERS_AT_ONCE = 2**14
"""Keeps the generator's temporaries in the processor's cache; any value gives the same numbers."""
PIXELS_AT_ONCE = 2**20
"""Bounds the temporaries of a transform; any value gives the same views."""


def philox4x32(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-7 of B counters under one key; uint32 [4, B] -> uint32 [4, B]."""
    words, round_keys = np.empty_like(counters), _round_keys(key)
    scratch = np.empty((3, 2, min(COUNTERS_AT_ONCE, counters.shape[1])), dtype=np.uint64)
    for start in range(0, counters.shape[1], COUNTERS_AT_ONCE):
        part = slice(start, start + COUNTERS_AT_ONCE)
        _encrypt(counters[:, part], round_keys, words[:, part], scratch)
    return words


def _encrypt(
    counters: NDArray[np.uint32],
    round_keys: NDArray[np.uint64],
    words: NDArray[np.uint32],
    scratch: NDArray[np.uint64],
) -> None:
    """The rounds themselves, without a new array in them; words 0 and 2 of a block go together, and 1 and 3."""
    even, odd, product = scratch[:, :, : counters.shape[1]]
    even[:], odd[:] = counters[0::2], counters[1::2]
    for round_key in round_keys:
        np.multiply(even, MULTIPLIERS, out=product)
        np.right_shift(product[::-1], WORD_BITS, out=even)
        np.bitwise_xor(even, odd, out=even)
        np.bitwise_xor(even, round_key, out=even)
        np.bitwise_and(product[::-1], WORD, out=odd)
    words[0::2], words[1::2] = even, odd


def _round_keys(key: tuple[int, int]) -> NDArray[np.uint64]:
    """[ROUNDS, 2, 1]: the key bumped by the Weyl constants, one pair a round."""
    bumped = np.array(key, dtype=np.uint64) + np.arange(ROUNDS, dtype=np.uint64)[:, None] * WEYL
    return (bumped & WORD)[:, :, None]


def stream_key(seed: int, view: int, scope: str) -> tuple[int, int]:
    """The Philox key of one step in one view: the first 64 bits of a sha256 over all three."""
    digest = hashlib.sha256(f"{seed} {view} {scope}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


@dataclass(frozen=True, slots=True)
class ViewDraws:
    """The random numbers of B views of one index; implements `contracts.Draws`.

    Word w of a sample is word w mod 4 of the block at counter sample id + w div 4. Ids are hashes, so that
    the counters of two samples do not meet.
    """

    counters: NDArray[np.uint32]
    """[4, B]: the sample ids, see `counters_of`."""
    seed: int
    view: int
    device: torch.device
    scope: str = ""
    """Which step of the view asks, so that two of a kind draw different numbers."""
    drawn: dict[tuple[str, int], NDArray[np.uint32]] = field(default_factory=dict)
    """Blocks [4, B] by scope and number: a block serves four words."""

    @property
    def num_views(self) -> int:
        return self.counters.shape[1]

    def integers(self, low: int, high: int, *, word: int) -> Tensor:
        """[B] int64, uniform in low..high inclusive.

        Multiply-shift on 32 bits (Lemire 2019, without rejection): the chance of a value is off its fair share
        by a factor of at most 1 ± (high - low + 1) / 2^32, one in four million for a thousand values.
        """
        import torch

        span = high - low + 1
        if span == 1:
            return torch.full((self.num_views,), low, device=self.device)
        assert 1 <= span <= 2**32, f"{self.scope}: {low}..{high} holds {span} values"
        drawn = self._words(word) * np.uint64(span)
        drawn >>= WORD_BITS
        return torch.from_numpy(drawn.view(np.int64)).add_(low).to(self.device)

    def noise(self, count: int) -> Tensor:
        """[B, count] uint8: the bytes of blocks 0, 1, ... of a stream of their own."""
        import torch

        num_blocks = -(-count // BLOCK_BYTES)
        numbers = np.tile(np.arange(num_blocks, dtype=np.uint32), self.num_views)
        counters = _behind(self.counters.repeat(num_blocks, axis=1), numbers)
        words = philox4x32(counters, stream_key(self.seed, self.view, f"{self.scope}noise"))
        in_order = np.ascontiguousarray(words.T, dtype="<u4").view(np.uint8)
        return torch.from_numpy(in_order.reshape(self.num_views, num_blocks * BLOCK_BYTES)[:, :count]).to(self.device)

    def _words(self, word: int) -> NDArray[np.uint32]:
        """[B]."""
        number, place = divmod(word, BLOCK_WORDS)
        name = (self.scope, number)
        if name not in self.drawn:
            counters = _behind(self.counters, number) if number else self.counters
            self.drawn[name] = philox4x32(counters, stream_key(self.seed, self.view, self.scope))
        return self.drawn[name][place]

    def within(self, scope: str) -> ViewDraws:
        """The same views' numbers, for another step."""
        return replace(self, scope=self.scope + scope)


def counters_of(sample_ids: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """[B, 16] uint8 -> [4, B] uint32, the same on little- and big-endian machines."""
    return np.ascontiguousarray(sample_ids).view("<u4").T.astype(np.uint32, order="C")


def _behind(counters: NDArray[np.uint32], number: NDArray[np.uint32] | int) -> NDArray[np.uint32]:
    """The counters of blocks that come so many behind; [4, B]."""
    moved = counters.copy()
    moved[0] += np.asarray(number, dtype=np.uint32)
    return moved


class _ScopedDraws(Draws, Protocol):
    def within(self, scope: str) -> Draws: ...


@dataclass(slots=True)
class _SomeDraws:
    """The numbers of some rows, out of those drawn for all: one call of the generator a view, not one a batch."""

    whole: ViewDraws
    places: Tensor
    """[B] int64, into the rows of *whole*."""
    drawn: dict[tuple[str, int, int, int], Tensor]
    scope: str = ""

    def integers(self, low: int, high: int, *, word: int) -> Tensor:
        name = (self.scope, word, low, high)
        if name not in self.drawn:
            self.drawn[name] = self.whole.within(self.scope).integers(low, high, word=word)
        return self.drawn[name].index_select(0, self.places)

    def noise(self, count: int) -> Tensor:
        """For these rows alone: nobody could keep that of all."""
        counters = self.whole.counters[:, self.places.cpu().numpy()]
        return replace(self.whole, counters=counters, scope=self.scope, drawn={}).noise(count)

    def within(self, scope: str) -> _SomeDraws:
        return _SomeDraws(self.whole, self.places, self.drawn, self.scope + scope)


class _Steps:
    """The steps of a view, built for samples of one shape."""

    def __init__(self, params: ViewParams, sample_shape: tuple[int, ...], *, whole_numbers: bool) -> None:
        _refuse_other_numbers(params, whole_numbers)
        built = [step.build(sample_shape) for step in params.transforms]
        scopes = [f"{position}:{step.name}/" for position, step in enumerate(params.transforms)]
        self.mixes = bool(built) and isinstance(params.transforms[-1], MixingParams)
        self.alone = list(zip(scopes, cast("Sequence[Transform]", built), strict=True))[: len(built) - self.mixes]
        if self.mixes:
            self.mixing, self.mixing_scope = cast("Mixing", built[-1]), scopes[-1]

    def transform(self, samples: Tensor, draws: _ScopedDraws) -> Tensor:
        """All steps on the samples alone; [B, *S] -> [B, *S]."""
        for scope, transform in self.alone:
            samples = transform(samples, draws.within(scope))
        return samples


def make_views(samples: Tensor, sample_ids: NDArray[np.uint8], view: int, params: ViewParams) -> Tensor:
    """View *view* (mod params.count) of each sample; [B, *S], uint8 [B, 16] -> [B, *S].

    Where views mix samples, partners are drawn among these.
    """
    import torch

    return ViewBank(samples, sample_ids, params, limit_bytes=0).batch(torch.arange(len(samples)), view)


class ViewBank:
    """All views of N samples, prepared once in memory when they fit, else made when asked for: the same bits.

    A view is prepared when it is first read, so a run that reads one view pays for one.
    """

    def __init__(
        self,
        samples: Tensor,
        sample_ids: NDArray[np.uint8],
        params: ViewParams,
        *,
        limit_bytes: int,
        rows: NDArray[np.int64] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        """uint8 or float32 [N, *S], and uint8 [*, 16] of the whole data set; *limit_bytes* bounds the prepared views.

        *rows* [N] are the samples' rows in the data set; the samples are the whole set if they are not given.
        Partners are drawn among the samples, so two banks give the same mixed views only if they hold the same ones;
        with *groups* [N] among those of the same number.
        """
        _check_samples(samples, sample_ids, len(samples) if rows is None else len(rows))
        self.params = params
        self.samples = samples
        self.sample_ids = sample_ids
        self._rows, self._places = _both_ways(rows, samples.device)
        self._groups = None if groups is None else _Groups.of(groups, samples.device)
        self._steps = _Steps(params, tuple(samples.shape[1:]), whole_numbers=not samples.is_floating_point())
        self._prepared: dict[int, Tensor] = {}
        self._whole_draws: ViewDraws | None = None
        self._drawn: dict[tuple[str, int, int, int], Tensor] = {}
        self.fits = self.prepared_bytes <= limit_bytes

    @property
    def num_samples(self) -> int:
        return self.samples.shape[0]

    @property
    def mixes(self) -> bool:
        """Whether a view also shows another sample: then it depends on which samples the bank holds."""
        return self._steps.mixes

    @property
    def prepared_bytes(self) -> int:
        """What all views take once prepared; views that are the samples themselves take nothing."""
        if not self.params.transforms:
            return 0
        return (self.params.count - int(self.params.first_is_identity)) * self.samples.nbytes

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """View *view* (mod params.count) of the samples at *rows*; int64 [B] -> [B, *S], a new tensor."""
        view %= self.params.count
        places = self._places_of(rows)
        if self._is_identity(view):
            return self.samples.index_select(0, places)
        if self.fits:
            return self._whole(view).index_select(0, places)
        return self._some(places, view)

    def mixture(self, rows: Tensor, view: int) -> Mixture | None:
        """What view *view* of *rows* is made of; int64 [B]. None where it is made of its own sample alone."""
        view %= self.params.count
        if not self.mixes or self._is_identity(view):
            return None
        places = self._places_of(rows)
        draws = self._draws(places, view).within(self._steps.mixing_scope)
        partners = self._partners(places, draws)
        rows_of_partners = partners if self._rows is None else self._rows.index_select(0, partners)
        return Mixture(rows_of_partners, self._steps.mixing.shares(draws))

    def _is_identity(self, view: int) -> bool:
        return not self.params.transforms or (view == 0 and self.params.first_is_identity)

    def _places_of(self, rows: Tensor) -> Tensor:
        rows = rows.to(self.samples.device)
        return rows if self._places is None else self._places.index_select(0, rows)

    @cached_property
    def _counters(self) -> NDArray[np.uint32]:
        """Made when the first view is: samples that are seen as they are need none."""
        return counters_of(self.sample_ids if self._rows is None else self.sample_ids[self._rows.cpu().numpy()])

    def _draws(self, places: Tensor, view: int) -> _SomeDraws:
        if self._whole_draws is None or view != self._whole_draws.view:
            self._whole_draws = ViewDraws(self._counters, self.params.seed, view, self.samples.device)
            self._drawn = {}
        return _SomeDraws(self._whole_draws, places, self._drawn)

    def _partners(self, places: Tensor, draws: Draws) -> Tensor:
        """Places of the partners of the samples at *places*; [B] -> [B]."""
        if self._groups is None:
            return draws.integers(0, self.num_samples - 1, word=PARTNER_WORD)
        return self._groups.partners(places, draws.integers(0, 2**32 - 1, word=PARTNER_WORD))

    def _some(self, places: Tensor, view: int) -> Tensor:
        draws = self._draws(places, view)
        samples = self._alone(places, draws)
        if not self.mixes:
            return samples
        mixing = draws.within(self._steps.mixing_scope)
        partners = self._partners(places, mixing)
        return self._steps.mixing(samples, self._alone(partners, self._draws(partners, view)), mixing)

    def _alone(self, places: Tensor, draws: _SomeDraws) -> Tensor:
        """As the steps before mixing leave the samples."""
        return self._steps.transform(self.samples.index_select(0, places), draws)

    def _whole(self, view: int) -> Tensor:
        if view not in self._prepared:
            self._prepared[view] = self._prepare(view)
        return self._prepared[view]

    def _prepare(self, view: int) -> Tensor:
        alone = self._in_parts(lambda places: self._alone(places, self._draws(places, view)))
        if not self.mixes:
            return alone

        def mixed(places: Tensor) -> Tensor:
            draws = self._draws(places, view).within(self._steps.mixing_scope)
            partners = alone.index_select(0, self._partners(places, draws))
            return self._steps.mixing(alone.index_select(0, places), partners, draws)

        return self._in_parts(mixed)

    def _in_parts(self, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What *make* says of all places [N], a part at a time."""
        import torch

        whole = torch.empty_like(self.samples)
        step = max(1, PIXELS_AT_ONCE // max(1, math.prod(self.samples.shape[1:])))
        for places in torch.arange(self.num_samples, device=self.samples.device).split(step):
            whole[places[0] : places[-1] + 1] = make(places)
        return whole


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which samples may be mixed with which."""

    members: Tensor
    """[N]: places, group after group."""
    first: Tensor
    """[N]: where in *members* the group of the sample at each place begins."""
    size: Tensor
    """[N]: of that group."""

    @classmethod
    def of(cls, groups: NDArray[np.int64], device: torch.device) -> _Groups:
        import torch

        _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        firsts = np.cumsum(sizes) - sizes
        arrays = (np.argsort(inverse, kind="stable"), firsts[inverse], sizes[inverse])
        return cls(*(torch.from_numpy(array.astype(np.int64)).to(device) for array in arrays))

    def partners(self, places: Tensor, words: Tensor) -> Tensor:
        """One of the same group, by multiply-shift as in `ViewDraws.integers`; int64 [B] twice -> [B]."""
        drawn = (words * self.size.index_select(0, places)) >> int(WORD_BITS)
        return self.members.index_select(0, self.first.index_select(0, places) + drawn)


def _both_ways(rows: NDArray[np.int64] | None, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Row of each place, and place of each row (-1 where the bank has none); None twice where they are equal."""
    import torch

    if rows is None:
        return None, None
    of_places = torch.from_numpy(rows.astype(np.int64))
    places = torch.full((int(rows.max(initial=-1)) + 1,), -1)
    places[of_places] = torch.arange(len(rows))
    return of_places.to(device), places.to(device)


def pixel_hashes(bank: ViewBank, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """The sha256 over the pixels of each (row, view), as any bank of the same samples and params must make them."""
    import torch

    made = (bank.batch(torch.tensor([row]), view) for row, view in pairs)
    return [hashlib.sha256(pixels.contiguous().cpu().numpy().tobytes()).hexdigest() for pixels in made]


def _refuse_other_numbers(params: ViewParams, whole_numbers: bool) -> None:
    alone = [step.name for step in params.transforms if not isinstance(step, MixingParams)]
    if alone and not whole_numbers:
        raise BadInputError(
            f"{alone[0]} changes samples of whole numbers, such as pictures, and these are rows of real ones: only mixing "
            "(mixup) makes views of them; correct views.transforms"
        )


def _check_samples(samples: Tensor, sample_ids: NDArray[np.uint8], num_rows: int) -> None:
    if str(samples.dtype) not in SAMPLE_TYPES:
        raise BadInputError(f"views are made of uint8 or float32 samples, and these are {samples.dtype}")
    if len(samples) != num_rows:
        raise BadInputError(f"{len(samples)} samples cannot stand at {num_rows} rows of the data set")
    if sample_ids.dtype != np.uint8 or sample_ids.ndim != 2 or sample_ids.shape[1] != SAMPLE_ID_BYTES:
        raise BadInputError(f"sample ids must be uint8 [N, {SAMPLE_ID_BYTES}], not {_described(sample_ids)}")
    if len(sample_ids) < num_rows:
        raise BadInputError(
            f"{num_rows} samples need sample ids uint8 [{num_rows}, {SAMPLE_ID_BYTES}], not {_described(sample_ids)}"
        )


def _described(array: NDArray[np.uint8]) -> str:
    return f"{array.dtype} {list(array.shape)}"
