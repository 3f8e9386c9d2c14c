"""Words and n-grams of UTF-8 bytes as hashed numbers, by tensor operations alone: they export with the model.

Rolling hashes are sums of byte * BASE^place modulo a prime below 2^31 (Karp and Rabin 1987), taken as differences of
running sums: exact integers, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PRIME = 2**31 - 1
BASE = 1_000_003
NEXT_WORD = 1_327_217_885
"""Factor of a word's hash in that of a pair of words."""
SALTS = (0x9E3779B1, 0x85EBCA6B)
SPACE, FIRST_OF_MANY = 32, 128


class Words(nn.Module):
    """uint8 [B, L] -> the hashes of the first *max_words* words, int64 [B, max_words], 0 where there is none.

    A word is a run of ASCII letters, digits and apostrophes, and of all bytes beyond ASCII; capitals of ASCII
    count as small letters.
    """

    powers: Tensor

    def __init__(self, max_bytes: int, max_words: int) -> None:
        super().__init__()
        self.max_words = min(max_words, max_bytes)
        self.register_buffer("powers", _powers(max_bytes), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        content = normalised(samples)
        inside = content != SPACE
        starts = inside & ~_shifted(inside)
        ends = inside & ~_shifted(inside, back=True)
        place = torch.arange(content.shape[1], device=content.device).expand_as(content)
        first = torch.where(starts, place, 0).cummax(dim=1).values
        terms = torch.where(inside, content * self.powers[place - first] % PRIME, 0)
        sums = terms.cumsum(dim=1)
        before = torch.where(first > 0, sums.gather(1, (first - 1).clamp(min=0)), 0)
        hashes = (sums - before) % PRIME + 1
        last = torch.where(ends, place, content.shape[1]).sort(dim=1).values[:, : self.max_words]
        known = last < content.shape[1]
        return torch.where(known, hashes.gather(1, last.clamp(max=content.shape[1] - 1)), 0)


class Buckets(nn.Module):
    """uint8 [B, L] -> the bucket of every n-gram, int64 [B, F] in 1..*num_buckets* - 1; 0 where there is none.

    *words* are the n of n-grams of words, 1 or 2; *characters* the n of those of characters (bytes), which reach over
    a space at their first or last place only, so that they know where words begin and end.
    """

    powers: Tensor

    def __init__(
        self, max_bytes: int, *, num_buckets: int, max_words: int, words: Sequence[int], characters: Sequence[int]
    ) -> None:
        super().__init__()
        self.num_buckets, self.word_sizes, self.character_sizes = num_buckets, tuple(words), tuple(characters)
        self.words = Words(max_bytes, max_words)
        self.register_buffer("powers", _powers(max(self.character_sizes, default=1)), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        found = [self._of_words(samples)] if self.word_sizes else []
        found += [self._of_characters(samples)] if self.character_sizes else []
        return torch.cat(found, dim=1)

    def _of_words(self, samples: Tensor) -> Tensor:
        one = self.words(samples)
        following = torch.cat((one[:, 1:], torch.zeros_like(one[:, :1])), dim=1)
        pairs = torch.where(following > 0, (one * NEXT_WORD + following) % PRIME + 1, 0)
        by_size = {1: one, 2: pairs}
        return torch.cat([self._bucket(by_size[size], size) for size in self.word_sizes], dim=1)

    def _of_characters(self, samples: Tensor) -> Tensor:
        content = normalised(samples)
        content = torch.cat(
            (torch.full_like(content[:, :1], SPACE), content, torch.full_like(content[:, :1], SPACE)), 1
        )
        return torch.cat([self._bucket(self._grams(content, size), size + 8) for size in self.character_sizes], dim=1)

    def _grams(self, content: Tensor, size: int) -> Tensor:
        """Hashes of all places where *size* bytes stand with no space between the first and the last; 0 elsewhere."""
        count = content.shape[1] - size + 1
        following = [content[:, place : place + count] for place in range(size)]
        hashes = sum(each * self.powers[place] for place, each in enumerate(following)) % PRIME + 1
        seen = [each != SPACE for each in following]
        whole = torch.stack(seen[1:-1]).all(dim=0) if size > 2 else seen[0] | seen[1]
        return torch.where(whole, hashes, 0)

    def _bucket(self, hashes: Tensor, kind: int) -> Tensor:
        """Another place for the same hash in every kind of n-gram."""
        mixed = (hashes * (SALTS[0] >> 1) + kind * SALTS[1]) % PRIME
        mixed = (mixed ^ (mixed >> 15)) * (SALTS[1] >> 1) % PRIME
        return torch.where(hashes > 0, (mixed ^ (mixed >> 13)) % (self.num_buckets - 1) + 1, 0)


def normalised(samples: Tensor) -> Tensor:
    """uint8 [B, L] -> int64 [B, L]: small letters, and a space for whatever is in no word."""
    content = samples.to(torch.int64)
    capital = (content >= ord("A")) & (content <= ord("Z"))
    content = torch.where(capital, content + SPACE, content)
    small = (content >= ord("a")) & (content <= ord("z"))
    digit = (content >= ord("0")) & (content <= ord("9"))
    inside = small | digit | (content == ord("'")) | (content >= FIRST_OF_MANY)
    return torch.where(inside, content, SPACE)


def _shifted(inside: Tensor, *, back: bool = False) -> Tensor:
    """What stands one place before, or with *back* one behind; nothing stands outside."""
    edge = torch.zeros_like(inside[:, :1])
    return torch.cat((inside[:, 1:], edge), dim=1) if back else torch.cat((edge, inside[:, :-1]), dim=1)


def _powers(count: int) -> Tensor:
    """int64 [count]: BASE^0, BASE^1, ... modulo the prime."""
    powers = [1]
    while len(powers) < count:
        powers.append(powers[-1] * BASE % PRIME)
    return torch.tensor(powers)


def mean_of_known(vectors: Tensor, known: Tensor) -> Tensor:
    """The mean over the places that are *known*; [B, T, D], bool [B, T] -> [B, D], zeros where none is."""
    weights = known.to(vectors.dtype).unsqueeze(2)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
