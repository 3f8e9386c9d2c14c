"""What a text looks like, in figures: its length, its characters and its script."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_SCRIPT = "none"


def describe_texts(samples: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
    """uint8 [N, L], UTF-8 with zeros behind it -> [N] each.

    num_bytes, num_characters and num_words; bad_bytes: of no character, or zeros inside the text; letter_share: of the
    characters that are no space; ascii_share: of all; script: that of most letters, as Unicode names them, or none;
    normal_id: equal for texts with the same letters and digits, whatever their case, spaces and punctuation.
    """
    rows = [_figures(sample.tobytes().rstrip(b"\0")) for sample in samples]
    kinds = {"letter_share": np.float64, "ascii_share": np.float64, "script": object, "normal_id": object}
    names = ("num_bytes", "num_characters", "num_words", "bad_bytes", *kinds)
    return {
        name: np.array([row[place] for row in rows], dtype=kinds.get(name, np.int64))
        for place, name in enumerate(names)
    }


def _figures(content: bytes) -> tuple[Any, ...]:
    text = content.decode(errors="surrogateescape")
    seen = [character for character in text if not character.isspace()]
    letters = [character for character in seen if character.isalpha()]
    normal = "".join(character for character in text.casefold() if character.isalnum()) or text
    return (
        len(content),
        len(text),
        len(text.split()),
        sum(character == "\0" or "\udc80" <= character <= "\udcff" for character in text),
        len(letters) / max(1, len(seen)),
        sum(character.isascii() for character in text) / max(1, len(text)),
        _script(letters),
        hashlib.sha256(normal.encode(errors="surrogateescape")).hexdigest()[:16],
    )


def _script(letters: list[str]) -> str:
    """The commonest first word of the letters' names, such as LATIN, CYRILLIC or CJK; the first in a tie."""
    counts = Counter(map(_script_of, letters))
    return min(counts, key=lambda script: (-counts[script], script)) if counts else NO_SCRIPT


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "UNNAMED").partition(" ")[0]
