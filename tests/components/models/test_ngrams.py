"""Words and n-grams as hashed numbers, held against plain Python."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.models._ngrams import BASE, PRIME, Buckets, Words, mean_of_known, normalised

LENGTH = 24
TEXTS = st.text("abZ9' ?é", max_size=12)


def stored(*texts: str) -> torch.Tensor:
    samples = np.zeros((len(texts), LENGTH), dtype=np.uint8)
    for row, text in enumerate(texts):
        content = text.encode()[:LENGTH]
        samples[row, : len(content)] = np.frombuffer(content, dtype=np.uint8)
    return torch.from_numpy(samples)


def words_of(text: str) -> list[bytes]:
    """By a regular expression, instead of running sums."""
    return re.findall(rb"[a-z0-9'\x80-\xff]+", text.encode()[:LENGTH].lower())


def hash_of(word: bytes) -> int:
    return sum(byte * pow(BASE, place, PRIME) for place, byte in enumerate(word)) % PRIME + 1


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_words_are_those_of_a_regular_expression(texts):
    """Hash by hash, in order, zeros behind."""
    found = Words(LENGTH, max_words=5)(stored(*texts))

    wanted = [[hash_of(word) for word in words_of(text)][:5] for text in texts]
    assert found.tolist() == [hashes + [0] * (5 - len(hashes)) for hashes in wanted]


@given(TEXTS)
def test_case_and_punctuation_do_not_count(text):
    """Between words any run of spaces and signs is the same."""
    words = [word.decode() for word in words_of(text)]
    buckets = Buckets(LENGTH, num_buckets=50_000, max_words=12, words=(1, 2), characters=())

    assert torch.equal(buckets(stored(text)), buckets(stored(" ".join(words))))


def test_ngrams_of_characters_by_hand():
    """'card?' has ' ca', 'car', 'ard', 'rd ' and nothing else of size 3; a word of one letter has one."""
    buckets = Buckets(LENGTH, num_buckets=1_000_003, max_words=8, words=(), characters=(3,))
    found = [set(row[row > 0].tolist()) for row in buckets(stored("card?", "ca", "card", "a", "ard"))]

    assert [len(each) for each in found] == [4, 2, 4, 1, 3]
    assert found[0] == found[2]
    assert len(found[0] & found[4]) == 2


def test_pairs_of_words_know_their_order():
    """The same words the other way round share the words and no pair."""
    one, two = (Buckets(LENGTH, num_buckets=1_000_003, max_words=8, words=(n,), characters=()) for n in (1, 2))
    there, back = stored("lost card"), stored("card lost")

    assert set(one(there)[0].tolist()) == set(one(back)[0].tolist())
    assert set(two(there)[0].tolist()) & set(two(back)[0].tolist()) == {0}


@pytest.mark.parametrize("num_buckets", [2, 1000])
def test_buckets_are_in_range_and_evenly_used(num_buckets):
    """Bucket 0 is for nothing; 4,000 words spread over the others as chance would have it."""
    texts = [f"w{number}" for number in range(4000)]
    found = Buckets(LENGTH, num_buckets=num_buckets, max_words=1, words=(1,), characters=())(stored(*texts))
    counts = torch.bincount(found.flatten(), minlength=num_buckets)

    assert counts[0] == 0
    assert len(counts) == num_buckets
    assert (counts[1:] > 0).float().mean() > 0.95


def test_a_text_without_words_is_all_zero():
    """Nothing, spaces, signs."""
    buckets = Buckets(LENGTH, num_buckets=100, max_words=8, words=(1, 2), characters=(2, 3))

    assert not buckets(stored("", "   ", "?!...")).any()
    assert normalised(stored("Ab?"))[0, :4].tolist() == [97, 98, 32, 32]


def test_the_mean_leaves_out_what_is_not_there():
    """Of no vector at all it is zero."""
    vectors = torch.tensor([[[2.0], [4.0], [9.0]], [[1.0], [1.0], [1.0]]])
    known = torch.tensor([[True, True, False], [False, False, False]])

    assert mean_of_known(vectors, known).tolist() == [[3.0], [0.0]]
