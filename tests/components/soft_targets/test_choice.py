"""The choice of a codec: on a sample, by the bound, and corrected by what every row shows."""

from __future__ import annotations

import numpy as np
import pytest

from components.errors import SoftTargetsRefusedError
from components.params import SoftTargetParams
from components.soft_targets.choice import SAMPLE_ROWS, Scale, choose, replace, sample_chunks, smallest
from components.soft_targets.codec import CODECS, measure, round_trip


def logits(rows: int = 300, classes: int = 10, scale: float = 4) -> np.ndarray:
    return np.random.default_rng(rows + classes).normal(0, scale, (rows, classes)).astype(np.float32)


@pytest.mark.parametrize(
    ("num_chunks", "rows_per_chunk", "expected"),
    [(1, 4096, [0]), (2, 4096, [0, 1]), (10, 4096, [0, 5]), (7, 3000, [0, 2, 4]), (5, 10**6, [0]), (3, 1, [0, 1, 2])],
)
def test_the_sample_is_whole_chunks_evenly_spaced(num_chunks: int, rows_per_chunk: int, expected: list[int]) -> None:
    """As many as hold SAMPLE_ROWS rows, the same ones every time."""
    assert sample_chunks(num_chunks, rows_per_chunk) == expected
    assert len(expected) * rows_per_chunk >= min(SAMPLE_ROWS, num_chunks * rows_per_chunk)


def test_the_choice_does_not_hang_on_how_rows_come_in() -> None:
    """In pieces or at once: the same codec, the same table."""
    rows, params = logits(), SoftTargetParams()

    at_once = choose([rows], params, 10)
    in_pieces = choose([rows[:1], rows[1:120], rows[120:]], params, 10)

    assert at_once[0].codec == in_pieces[0].codec
    for one, other in zip(at_once[1], in_pieces[1], strict=True):
        for temperature, row in (one.error or {}).items():
            assert (other.error or {})[temperature] == pytest.approx(row)


def test_what_every_row_shows_takes_the_place_of_the_sample() -> None:
    """A codec that cannot hold a row outside the sample is refused, and the next larger one is taken."""
    rows, params = logits(), SoftTargetParams(codec="auto")
    chosen, weighed = choose([rows], params, 10)
    scale = Scale(CODECS["fp16"], 10, params)
    scale.add(rows)

    assert scale.add(rows * 1e6) is None
    corrected = replace(weighed, scale.candidate())

    assert chosen.codec != "fp32"
    assert [candidate.codec for candidate in corrected] == [candidate.codec for candidate in weighed]
    assert "beyond its largest value" in str(next(c.refused for c in corrected if c.codec == "fp16"))


def test_a_scale_encodes_and_measures_the_same_rows() -> None:
    """What it returns is the codec's encoding, and its table that of a measurement of all rows at once."""
    rows, params = logits(), SoftTargetParams()
    scale = Scale(CODECS["fp16"], 10, params)

    encoded = [scale.add(rows[:100]), scale.add(rows[100:])]

    assert np.array_equal(np.concatenate(encoded), CODECS["fp16"].encode(rows))
    expected = measure(rows, round_trip(CODECS["fp16"], rows), params.temperatures)
    assert (scale.candidate().error or {})["4"] == pytest.approx(expected[4.0])


def test_all_refused_is_a_refusal_with_every_reason() -> None:
    """The message has each codec's figure."""
    _, weighed = choose([logits()], SoftTargetParams(codec="fp32"), 10)

    with pytest.raises(SoftTargetsRefusedError, match="fp32: for a test"):
        smallest([weighed[0].model_copy(update={"refused": "for a test"})])
