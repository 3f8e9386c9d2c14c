"""Facts about the text-classification workload: what it sees in a text, and what it expects of a data version."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import DataSpec
from components.params import ValidationParams
from components.workloads.text_classification import Params

LENGTH = 64
CLASSES = ("cards", "money", "travel")
SPEC = DataSpec((LENGTH,), CLASSES, (0.0,), (0.0,), num_train=100)


def stored(*texts: str | bytes) -> np.ndarray:
    samples = np.zeros((len(texts), LENGTH), dtype=np.uint8)
    for row, text in enumerate(texts):
        content = text.encode() if isinstance(text, str) else text
        samples[row, : len(content)] = np.frombuffer(content, dtype=np.uint8)
    return samples


def seen(*texts: str | bytes) -> dict[str, list[object]]:
    return {name: values.tolist() for name, values in Params().build().describe(stored(*texts)).items()}


def test_lengths_by_hand() -> None:
    """Bytes, characters and words; é takes two bytes."""
    found = seen("où est ma carte?", "", "  a\tb ")

    assert found["num_bytes"] == [17, 0, 6]
    assert found["num_characters"] == [16, 0, 6]
    assert found["num_words"] == [4, 0, 2]


def test_characters_by_hand() -> None:
    """Letters among what is no space, ASCII among all, and the script of most letters."""
    found = seen("ab 1!", "где карта", "カード card xy", "123")

    assert found["letter_share"] == [0.5, 1.0, 1.0, 0.0]
    assert found["ascii_share"] == pytest.approx([1.0, 1 / 9, 8 / 11, 1.0])
    assert found["script"] == ["LATIN", "CYRILLIC", "LATIN", "none"]


def test_bad_bytes_are_counted() -> None:
    """Half a character, and a zero in the middle of a text; the zeros behind it are none."""
    assert seen("fine", b"caf\xc3", b"a\0b", b"\xff\xfe")["bad_bytes"] == [0, 1, 1, 2]


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_near_copies_have_one_normal_id(text: str) -> None:
    """Case, spaces and punctuation do not count; a letter more does, and texts of punctuation alone differ."""
    text = text.replace("\0", "")
    own, other, longer = seen(text, f" {text.upper()} ", f"{text}x")["normal_id"]

    assert own != longer
    assert own == other or not any(character.isalnum() for character in text)


WORDS = [
    "card",
    "cash",
    "train",
    "please",
    "where",
    "my",
    "the",
    "is",
    "lost",
    "new",
    "help",
    "with",
    "bank",
    "number",
    "change",
]


def texts_of(draw: np.random.Generator, count: int) -> list[str]:
    return [f"{' '.join(draw.choice(WORDS, 6))} {draw.integers(10_000)}" for _ in range(count)]


def table_of(texts: list[str | bytes], *, cut: int = 0) -> pd.DataFrame:
    """As the validate step sees a data version: 100 texts or more, three balanced classes."""
    rows, samples = len(texts), stored(*texts)
    labels = np.arange(rows) % 3
    known = {
        "sample_index": np.arange(rows),
        "source": [f"a.csv:{row}" for row in range(rows)],
        "sample_id": [f"{row:032x}" for row in range(rows)],
        "label": labels,
        "class_name": [CLASSES[label] for label in labels],
        "split": ["train", "validation", "test", "train"] * (rows // 4),
    }
    return pd.DataFrame({**known, **Params().build().describe(samples), "cut": [True] * cut + [False] * (rows - cut)})


def failures(table: pd.DataFrame, **params: object) -> set[tuple[str, str]]:
    """Column and severity of every expectation that fails."""
    from components.validation import gx, suite
    from components.validation.profile import plain

    workload = Params.model_validate({"name": "text_classification", **params}).build()
    expected = suite.sample_expectations(
        ValidationParams(),
        workload.expectations(SPEC),
        described=workload.columns,
        columns=list(table.columns),
        reference=None,
    )
    report = gx.validate_tables([gx.Inspection("samples", plain(table), expected)], docs_dir=None)
    return {(failure.column, failure.severity) for failure in report.failures}


@pytest.fixture(scope="module")
def clean() -> list[str]:
    return texts_of(np.random.default_rng(0), 120)


@pytest.mark.slow
def test_clean_texts_pass(clean) -> None:
    """Also when a script and a number of words are asked for."""
    assert failures(table_of(clean), script="LATIN", max_words=8) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "params", "failure"),
    [
        ([b"half a charact\xc3"], {}, ("bad_bytes", "critical")),
        ([""], {}, ("num_bytes", "critical")),
        (["  \t "], {}, ("num_words", "critical")),
        (["one two"], {"min_words": 3}, ("num_words", "critical")),
        (["a " * 20], {"max_words": 10}, ("num_words", "critical")),
        ([f"где моя карта {number}" for number in range(8)], {"script": "LATIN"}, ("script", "critical")),
        ([f"{number} - {number}" for number in range(8)], {}, ("letter_share", "warning")),
        (["Where is it", "where is it?", "WHERE IS IT"], {}, ("normal_id", "warning")),
    ],
    ids=["no UTF-8", "empty", "only spaces", "too short", "too long", "other script", "no letters", "near copies"],
)
def test_spoilt_texts_are_caught(clean, texts, params, failure) -> None:
    """By the expectation that names what is wrong."""
    assert failure in failures(table_of([*texts, *clean[len(texts) :]]), **params)


@pytest.mark.slow
def test_too_many_cut_texts_are_refused(clean) -> None:
    """Up to the share that is allowed they pass."""
    assert failures(table_of(clean, cut=6)) == set()
    assert failures(table_of(clean, cut=7)) == {("cut", "critical")}


def test_tiny_has_valid_texts() -> None:
    """The same seed gives the same rows, every class is there eight times, and nothing is odd about any text."""
    workload = Params().build()
    first, again, other = workload.tiny(seed=1), workload.tiny(seed=1), workload.tiny(seed=2)
    found = workload.describe(first.samples)

    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
    assert np.bincount(first.labels).tolist() == [8, 8, 8]
    assert len({sample.tobytes() for sample in first.samples}) == 24
    assert not found["bad_bytes"].any()
    assert set(found["script"]) == {"LATIN"}
