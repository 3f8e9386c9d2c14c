"""Transforms of words: which bytes are a word, what goes, and what never does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import BadInputError
from components.params import ViewParams
from components.transforms import span_mask, token_dropout
from components.transforms._chances import CHANCES
from components.transforms._words import count_words, with_space_behind, without, word_numbers
from components.views import make_views

LENGTH = 48
TEXTS = st.text("abé \t\n", max_size=20)


def stored(*texts: str) -> torch.Tensor:
    samples = np.zeros((len(texts), LENGTH), dtype=np.uint8)
    for row, text in enumerate(texts):
        samples[row, : len(text.encode())] = np.frombuffer(text.encode(), dtype=np.uint8)
    return torch.from_numpy(samples)


def texts_of(samples: torch.Tensor) -> list[str]:
    """Raises where a text has a hole or is no UTF-8."""
    contents = [sample.numpy().tobytes().rstrip(b"\0") for sample in samples]
    assert not any(b"\0" in content for content in contents)
    return [content.decode() for content in contents]


def words_of(text: str) -> list[str]:
    return [word for word in text.replace("\t", " ").replace("\n", " ").split(" ") if word]


def views(texts: list[str], step: token_dropout.Params | span_mask.Params, *, view: int) -> list[str]:
    ids = np.random.default_rng(1).integers(0, 256, (len(texts), 16), dtype=np.uint8)
    params = ViewParams(count=9, transforms=(step,), first_is_identity=False)
    return texts_of(make_views(stored(*texts), ids, view, params))


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_words_are_numbered_as_split_does_it(texts):
    """-1 on what is none; a word's bytes share its number."""
    numbers = word_numbers(stored(*texts))

    assert count_words(numbers).tolist() == [len(words_of(text)) for text in texts]
    for row, text in zip(numbers.tolist(), texts, strict=True):
        content = text.encode()
        found = [
            "".join(chr(b) for b, n in zip(content, row, strict=False) if n == word) for word in range(max(row) + 1)
        ]
        assert [word.encode("latin-1").decode() for word in found] == words_of(text)


def test_what_goes_takes_the_space_behind_it():
    """The others move up."""
    samples = stored("one  two three", "é a")
    chosen = word_numbers(samples) == 0

    assert texts_of(without(samples, with_space_behind(chosen, word_numbers(samples)))) == ["two three", "a"]


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 8), st.sampled_from([0.1, 0.5, 0.99]))
def test_dropout_leaves_words_in_their_order(texts, view, probability):
    """Never none of several, never another one, never half a character."""
    made = views(texts, token_dropout.Params(probability=probability), view=view)

    for before, after in zip(texts, made, strict=True):
        left, there = words_of(after), iter(words_of(before))
        assert all(word in there for word in left)
        assert bool(left) == bool(words_of(before))


@given(
    st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 8), st.sampled_from([0.1, 0.9]), st.sampled_from(["_", ""])
)
def test_spans_leave_a_word_at_least(texts, view, share_max, mask):
    """A text of one word is left alone; of several some are masked, side by side, and not all."""
    made = views(texts, span_mask.Params(share_max=share_max, mask=mask), view=view)

    for before, after in zip(texts, made, strict=True):
        words, left = words_of(before), words_of(after)
        if len(words) < 2:
            assert left == words
            continue
        masked = [place for place, word in enumerate(left) if word == "_"] if mask else []
        assert 1 <= len(words) - len(left) + len(masked) <= max(1, int(share_max * len(words)))
        assert masked == list(range(masked[0], masked[-1] + 1) if masked else [])
        if mask:
            assert [word for place, word in enumerate(words) if place not in masked] == [w for w in left if w != "_"]
        else:
            cut = next((n for n, word in enumerate(left) if word != words[n]), len(left))
            assert left == words[:cut] + words[cut + len(words) - len(left) :]


def test_a_mask_is_cut_to_the_word():
    """One byte for each of the word's, as many as there are."""
    (made,) = views(["a bb cccccc"], span_mask.Params(share_max=0.99, mask="[MASK]"), view=0)

    assert all(word in ("[", "[M", "[MASK]", "a", "bb", "cccccc") for word in made.split())
    assert made != "a bb cccccc"


def test_words_go_as_often_as_asked(many):
    """A third of five words, but for the one that stays: 4/15 of all, to four standard deviations."""
    step = token_dropout.Params(probability=1 / 3).build((LENGTH,))
    made = step(stored("a b c d e").expand(20_000, LENGTH), many)
    counts = count_words(word_numbers(made)).double()

    assert counts.mean() == pytest.approx(5 - 4 / 3, abs=0.04)
    assert counts.min() >= 1


def test_which_word_stays_is_drawn_evenly(many):
    """Where nearly all go, each of five is the one that is left in a fifth of the views."""
    step = token_dropout.Params(probability=0.9999).build((LENGTH,))
    made = step(stored("a b c d e").expand(20_000, LENGTH), many)

    shares = torch.bincount(made[:, 0].long() - ord("a"), minlength=5).double() / 20_000
    assert (shares - 0.2).abs().max() < 0.015


def test_dropout_by_hand(chosen: Callable[..., object]):
    """Word 0 of the draws chooses who stays, the others who goes."""
    step = token_dropout.Params(probability=0.5).build((LENGTH,))
    draws = chosen(1, {0: CHANCES // 2, 1: CHANCES - 1, 2: 0, 3: 0, 4: 0})

    assert texts_of(step(stored("a b c d"), draws)) == ["a c "]


def test_only_the_first_words_may_go(chosen: Callable[..., object]):
    """max_words bounds the draws."""
    step = token_dropout.Params(probability=0.5, max_words=2).build((LENGTH,))

    assert texts_of(step(stored("a b c d"), chosen(1, {0: CHANCES - 1}))) == ["b c d"]


@pytest.mark.parametrize("step", [token_dropout.Params(), span_mask.Params()])
def test_pictures_are_refused(step):
    """They have no words."""
    with pytest.raises(BadInputError, match=r"needs texts .* samples are \[1, 8, 8\]"):
        step.build((1, 8, 8))


@pytest.mark.parametrize("mask", ["two words", "é", "\0"])
def test_a_mask_is_one_word_of_ascii(mask):
    """Cut anywhere, it is still valid UTF-8."""
    with pytest.raises(ValueError, match="printable ASCII"):
        span_mask.Params(mask=mask)
