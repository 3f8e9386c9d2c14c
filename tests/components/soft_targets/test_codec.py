"""Codecs keep what they promise, on every row that a teacher could give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.errors import SoftTargetsRefusedError
from components.soft_targets.codec import CODECS, Codec, codec_named, decode, round_trip
from components.soft_targets.codecs.topk import TopK
from components.soft_targets.error import kl_rows

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
NAMES = [*CODECS, "topk-1", "topk-3"]
HALF_STEP = 2.0**-11
"""Relative rounding of half precision."""
FLOAT_STEP = 2.0**-22


def shapes(min_classes: int = 1) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, 9), st.integers(min_classes, 13))


def logits_within(largest: float, *, min_classes: int = 1) -> st.SearchStrategy[np.ndarray]:
    values = st.floats(-largest, largest, width=32, allow_subnormal=True)
    return hnp.arrays(np.float32, shapes(min_classes), elements=values)


def spread(logits: np.ndarray) -> np.ndarray:
    """[N, 1] float64: largest less smallest."""
    return np.ptp(logits.astype(np.float64), axis=1, keepdims=True)


def peak(logits: np.ndarray) -> np.ndarray:
    return np.abs(logits.astype(np.float64)).max(axis=1, keepdims=True)


def off(codec: Codec, logits: np.ndarray) -> np.ndarray:
    return np.abs(round_trip(codec, logits).astype(np.float64) - logits)


# --- every codec ---


@pytest.mark.parametrize("name", NAMES)
@given(logits=logits_within(1000, min_classes=4))
def test_rows_have_the_stride_that_is_promised(name: str, logits: np.ndarray) -> None:
    """Encoded rows are uint8 [N, stride]."""
    codec = codec_named(name)

    encoded = codec.encode(logits)

    assert (encoded.dtype, encoded.shape) == (np.uint8, (len(logits), codec.row_stride_bytes(logits.shape[1])))


@pytest.mark.parametrize("name", NAMES)
@given(logits=logits_within(3e4, min_classes=4), picks=st.data())
def test_a_row_is_encoded_by_itself(name: str, logits: np.ndarray, picks: st.DataObject) -> None:
    """Some of the rows, in any order, have the bytes that they have among all: they can be taken over by others."""
    codec = codec_named(name)
    some = np.array(picks.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1)))

    assert np.array_equal(codec.encode(logits[some]), codec.encode(logits)[some])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [4, 5, 100, 256, 257, 1000])
def test_a_row_is_encoded_by_itself_at_real_sizes(name: str, classes: int) -> None:
    """One row at a time gives the bytes of 300 at once, where arithmetic is vectorised."""
    codec = codec_named(name)
    logits = np.random.default_rng(classes).normal(0, 5, (300, classes)).astype(np.float32)

    one_by_one = np.concatenate([codec.encode(logits[row : row + 1]) for row in range(300)])

    assert np.array_equal(codec.encode(logits), one_by_one)


@pytest.mark.parametrize("name", NAMES)
def test_strided_logits_are_encoded_too(name: str) -> None:
    """A transposed array is encoded by value, not by memory."""
    logits = np.arange(20, dtype=np.float32).reshape(5, 4).T

    assert np.array_equal(round_trip(codec_named(name), logits.copy()), round_trip(codec_named(name), logits))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(name: str, value: float) -> None:
    """why_not speaks before anything is encoded."""
    logits = np.zeros((3, 5), dtype=np.float32)
    logits[1, 2] = value

    assert codec_named(name).why_not(logits) == "a logit is not a finite number"


@pytest.mark.parametrize("name", NAMES)
@given(logits=logits_within(200, min_classes=4))
def test_what_was_decoded_is_stored_again_without_loss(name: str, logits: np.ndarray) -> None:
    """A second round trip changes nothing beyond rounding: of float32 for whole rows."""
    codec = codec_named(name)
    once = round_trip(codec, logits)

    again = round_trip(codec, once)

    # Where the least of the kept and the rest lie within the rounding of half precision, top-k may change their places.
    step = spread(once) * (2 * HALF_STEP if "topk" in name else FLOAT_STEP) + peak(once) * FLOAT_STEP + 1e-5
    assert (np.abs(again.astype(np.float64) - once) <= step).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_reads_its_rows_anew_at_each_call(name: str) -> None:
    """The same memory is filled with other rows, as a reader does."""
    codec = codec_named(name)
    draw = np.random.default_rng(0)
    first, second = (draw.normal(0, 3, (16, 9)).astype(np.float32) for _ in range(2))
    rows, out = codec.encode(first), np.empty((16, 9), dtype=np.float32)
    call = codec.decoder(rows, out)

    for logits in (first, second, first):
        rows[:] = codec.encode(logits)
        call()
        assert np.array_equal(out, round_trip(codec, logits))


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_fills_part_of_a_larger_array(name: str) -> None:
    """Rows of *out* may lie apart in memory; what is beside them stays."""
    codec = codec_named(name)
    logits = np.random.default_rng(0).normal(0, 3, (6, 8)).astype(np.float32)
    wide = np.full((6, 11), 7, dtype=np.float32)

    codec.decoder(codec.encode(logits), wide[:, 1:9])()

    assert np.array_equal(wide[:, 1:9], round_trip(codec, logits))
    assert (wide[:, [0, 9, 10]] == 7).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_are_no_bytes(name: str) -> None:
    """An empty piece is encoded and decoded as such."""
    codec, none = codec_named(name), np.empty((0, 6), dtype=np.float32)

    assert codec.encode(none).shape == (0, codec.row_stride_bytes(6))
    assert decode(codec, codec.encode(none), 6).shape == (0, 6)


@pytest.mark.parametrize("name", ["fp16", "int8", "int4"])
@given(logits=logits_within(50, min_classes=2), shift=st.integers(-500, 500))
def test_an_offset_moves_what_is_read_and_nothing_else(name: str, logits: np.ndarray, shift: int) -> None:
    """Adding a constant to a row adds it to the decoded row, within the rounding of the constant."""
    codec = codec_named(name)

    moved = round_trip(codec, logits + np.float32(shift)).astype(np.float64) - shift

    allowed = off(codec, logits) + off(codec, logits + np.float32(shift)) + 1e-3
    assert (np.abs(moved - round_trip(codec, logits)) <= allowed).all()


@pytest.mark.parametrize("name", ["int8", "int4", "topk-3"])
@pytest.mark.parametrize("shift", [-500, 500])
def test_the_distribution_hardly_sees_an_offset(name: str, shift: int) -> None:
    """The offset's own rounding shifts the row as a whole: the KL is that of the row without it."""
    codec = codec_named(name)
    logits = np.random.default_rng(0).normal(0, 4, (200, 20)).astype(np.float32)
    moved = logits + np.float32(shift)

    for temperature in TEMPERATURES:
        plain, shifted = (kl_rows(x, round_trip(codec, x), temperature).mean() for x in (logits, moved))
        assert shifted == pytest.approx(plain, rel=0.05)


def test_more_bits_lose_less() -> None:
    """fp32, fp16, int8, int4: the error grows at every T as rows become shorter."""
    logits = np.random.default_rng(0).normal(0, 5, (500, 100)).astype(np.float32)

    for temperature in TEMPERATURES:
        lost = [kl_rows(logits, round_trip(codec, logits), temperature).mean() for codec in CODECS.values()]
        assert lost == sorted(lost)
        assert lost[0] == pytest.approx(0.0, abs=1e-15)
    strides = [codec.row_stride_bytes(100) for codec in CODECS.values()]
    assert strides == sorted(strides, reverse=True)


def test_larger_k_loses_less() -> None:
    """At T = 1, where the mass of the rest is exact, each doubling of k helps."""
    logits = np.random.default_rng(0).normal(0, 3, (500, 100)).astype(np.float32)

    lost = [kl_rows(logits, round_trip(TopK(k), logits), 1.0).mean() for k in (1, 2, 4, 8, 16, 32, 64)]

    assert lost == sorted(lost, reverse=True)


EXTREME = {
    "all equal": np.full((2, 5), 3.25),
    "all zero": np.zeros((2, 5)),
    "one huge": np.array([[60000.0, 0, 0, 0, 1], [-60000.0, 0, 0, 0, 1]]),
    "ten thousand wide": np.linspace(-5000, 5000, 15).reshape(1, 15),
    "subnormal": np.array([[1e-40, 0, -1e-41, 3e-45, 0]]),
    "barely apart": np.array([[1, 1 + 1e-6, 1 - 1e-6, 1, 1.0000001]]),
    "a tie at the top": np.array([[5.0, 5, 1, 0, -2]]),
    "far from zero": np.array([[30000.0, 29999, 29990, 29995, 29980]]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", EXTREME, ids=lambda name: name.replace(" ", "-"))
def test_extreme_rows_come_back_as_finite_numbers(name: str, row: str) -> None:
    """Zero ranges, huge ones, subnormal numbers and ties: finite, with the largest logit the largest."""
    logits = EXTREME[row].astype(np.float32)
    codec = codec_named(name)
    assert codec.why_not(logits) is None

    stored = round_trip(codec, logits)

    first = logits.argmax(axis=1)[:, None]
    assert np.isfinite(stored).all()
    assert np.array_equal(np.take_along_axis(stored, first, 1), stored.max(axis=1, keepdims=True))


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "int4", "topk-1"])
def test_two_classes_are_kept(name: str) -> None:
    """C = 2 is the smallest row: the gap between both survives."""
    logits = np.array([[1.5, -2.5], [-4, 4], [0, 0]], dtype=np.float32)

    stored = round_trip(codec_named(name), logits)

    assert np.diff(stored, axis=1) == pytest.approx(np.diff(logits, axis=1), abs=5e-3)


@pytest.mark.parametrize("name", ["fp16", "int4", "topk-1"])
def test_half_precision_bounds_what_can_be_held(name: str) -> None:
    """65504 is its largest value; beyond it the codec says why it cannot."""
    codec = codec_named(name)
    fits, does_not = (
        np.array([[0.0, sign * value]], dtype=np.float32) for sign, value in ((1, 65504.0), (-1, 65505.0))
    )

    assert codec.why_not(fits) is None
    assert "65504" in str(codec.why_not(does_not))


@pytest.mark.parametrize("name", ["int4", "topk-1"])
def test_a_row_that_spans_too_much_is_refused(name: str) -> None:
    """Each logit fits and the distance from the top does not."""
    assert "a row spans 80000" in str(codec_named(name).why_not(np.array([[4e4, -4e4]], dtype=np.float32)))


def test_a_name_that_is_no_codec_is_refused() -> None:
    """SoftTargetsRefusedError says what there is."""
    for name in ("int2", "topk", "topk-0", "topk-x", ""):
        with pytest.raises(SoftTargetsRefusedError, match=r"none of fp32, fp16, int8, int4, topk-K"):
            codec_named(name)
    assert codec_named("topk-12").name == "topk-12"


# --- fp32, fp16 ---


@given(logits=logits_within(float(np.finfo(np.float32).max)))
def test_fp32_keeps_every_bit(logits: np.ndarray) -> None:
    """What is decoded has the very bits that were encoded, subnormal numbers and signed zeros included."""
    assert round_trip(CODECS["fp32"], logits).tobytes() == logits.tobytes()


@given(logits=logits_within(65504))
def test_fp16_rounds_to_nearest(logits: np.ndarray) -> None:
    """Half precision is off by at most 2^-11 of the value, or half of its smallest step."""
    assert (off(CODECS["fp16"], logits) <= np.maximum(np.abs(logits.astype(np.float64)) * HALF_STEP, 2.0**-25)).all()


# --- int8, int4 ---


@given(logits=logits_within(2.0**100))
def test_int8_is_off_by_one_step(logits: np.ndarray) -> None:
    """range / 255, and 1 / 32512 of a largest logit that is beyond 127 times the range."""
    top = np.abs(logits.astype(np.float64).max(axis=1, keepdims=True))
    step = np.maximum(spread(logits) / 255, top / 32512)

    assert (off(CODECS["int8"], logits) <= step + (spread(logits) + peak(logits)) * FLOAT_STEP + 1e-35).all()


@given(logits=logits_within(1000, min_classes=2))
def test_int8_keeps_differences_within_half_a_step(logits: np.ndarray) -> None:
    """How far a class lies below the largest, which is all that the softmax sees, is rounded once."""
    step = np.maximum(spread(logits) / 255, np.abs(logits.astype(np.float64).max(axis=1, keepdims=True)) / 32512)
    below = [x.max(axis=1, keepdims=True) - x.astype(np.float64) for x in (logits, round_trip(CODECS["int8"], logits))]

    assert (np.abs(below[1] - below[0]) <= step / 2 + (spread(logits) + peak(logits)) * FLOAT_STEP + 1e-35).all()


@given(logits=logits_within(1000))
def test_int8_decodes_few_and_many_classes_to_the_same_bits(logits: np.ndarray) -> None:
    """Which library does the arithmetic does not show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.soft_targets.codecs.scaled.FEW_CLASSES", 0)
        many = round_trip(CODECS["int8"], logits)

    assert many.tobytes() == round_trip(CODECS["int8"], logits).tobytes()


@given(logits=logits_within(32000, min_classes=2))
def test_int4_is_off_by_half_its_widest_step_and_the_roundings(logits: np.ndarray) -> None:
    """0.052 of the range below the second largest logit, and 2^-11 of offset and gap."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    below, gap = ordered[:, -2:-1] - ordered[:, :1], ordered[:, -1:] - ordered[:, -2:-1]
    allowed = below * (21.5 / 420) * (1 + 3 * HALF_STEP) + (np.abs(ordered[:, -1:]) + gap) * HALF_STEP
    rounding = (spread(logits) + peak(logits)) * FLOAT_STEP + 1e-4

    assert (off(CODECS["int4"], logits) <= allowed + rounding).all()


@given(logits=logits_within(100, min_classes=2))
def test_int4_keeps_the_gap_below_the_largest(logits: np.ndarray) -> None:
    """However wide it is, the distance of the two largest is off by no more than half precision."""
    stored = np.sort(round_trip(CODECS["int4"], logits).astype(np.float64), axis=1)
    ordered = np.sort(logits.astype(np.float64), axis=1)
    gaps = [rows[:, -1] - rows[:, -2] for rows in (ordered, stored)]

    assert (np.abs(gaps[1] - gaps[0]) <= gaps[0] * HALF_STEP + 1e-4).all()


@given(logits=logits_within(100, min_classes=3))
def test_scaled_rows_keep_the_order_of_classes(logits: np.ndarray) -> None:
    """A class above another never falls below it."""
    order = np.argsort(logits, axis=1, kind="stable")
    for name in ("int8", "int4"):
        assert (np.diff(np.take_along_axis(round_trip(CODECS[name], logits), order, 1), axis=1) >= 0).all()


def test_int4_packs_two_classes_a_byte_also_when_they_are_odd() -> None:
    """Six bytes and half a byte a class, the last half empty."""
    assert [CODECS["int4"].row_stride_bytes(classes) for classes in (2, 3, 10, 77, 100)] == [7, 8, 11, 45, 56]
    logits = np.arange(7, dtype=np.float32)[None] ** 2

    assert np.array_equal(round_trip(CODECS["int4"], logits), round_trip(CODECS["int4"], logits[:, ::-1])[:, ::-1])
    assert CODECS["int4"].encode(logits)[0, -1] >> 4 == 0


@given(
    step=st.sampled_from([0.0625, 0.5, 4.0]), top=st.integers(-8, 8), steps=st.lists(st.integers(0, 255), max_size=9)
)
def test_int8_keeps_rows_on_its_own_grid(step: float, top: int, steps: list[int]) -> None:
    """A row of whole steps of a power of two comes back to the bit."""
    logits = (step * (top - np.array([[0, 255, *steps]]))).astype(np.float32)

    assert np.array_equal(round_trip(CODECS["int8"], logits), logits)


# --- top-k ---


@pytest.mark.parametrize("k", [1, 2, 5])
@given(logits=logits_within(60, min_classes=6))
def test_top_k_keeps_the_mass_of_the_rest_at_t_1(k: int, logits: np.ndarray) -> None:
    """The probability of the classes that are not kept is the teacher's, whatever the rounding of those that are."""
    codec = TopK(k)
    rows = codec.encode(logits)
    kept = rows[:, 4 + 2 * k :].astype(np.int64)

    def rest(of: np.ndarray) -> np.ndarray:
        p = np.exp(of.astype(np.float64) - of.max(axis=1, keepdims=True))
        others = p.copy()
        np.put_along_axis(others, kept, 0.0, axis=1)
        return others.sum(axis=1) / p.sum(axis=1)

    assert rest(decode(codec, rows, logits.shape[1])) == pytest.approx(rest(logits), rel=1e-4, abs=1e-12)


@given(logits=logits_within(100, min_classes=4))
def test_top_k_keeps_the_largest_and_levels_the_rest(logits: np.ndarray) -> None:
    """The k largest are right within half precision; all others are one number."""
    stored, k = round_trip(TopK(3), logits), 3

    largest, found = (-np.sort(-rows.astype(np.float64), axis=1)[:, :k] for rows in (logits, stored))

    assert (np.abs(found - largest) <= (peak(logits) + spread(logits)) * HALF_STEP + 1e-5).all()
    assert all(len(np.unique(row)) <= k + 1 for row in stored)


def test_top_k_is_not_renormalised() -> None:
    """Where the kept classes have half of the mass, they are read as having half of it."""
    logits = np.zeros((1, 11), dtype=np.float32)
    logits[0, 4] = np.log(10)

    p = np.exp(round_trip(TopK(1), logits).astype(np.float64))

    assert p[0, 4] / p.sum() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("classes", "bytes_a_class"), [(256, 3), (257, 4), (65536, 4), (65537, 6)])
def test_top_k_names_classes_in_as_few_bytes_as_will_do(classes: int, bytes_a_class: int) -> None:
    """One, two or four bytes; the last class can be named."""
    codec = TopK(2)
    logits = np.zeros((1, classes), dtype=np.float32)
    logits[0, [0, classes - 1]] = 5, 9

    assert codec.row_stride_bytes(classes) == 4 + 2 * bytes_a_class
    assert round_trip(codec, logits)[0, [0, classes - 1]] == pytest.approx([5, 9], rel=1e-3)


def test_top_k_of_too_few_classes_is_refused() -> None:
    """k classes leave no rest."""
    assert TopK(4).why_not(np.zeros((1, 4), dtype=np.float32)) == "there are only 4 classes"
    assert TopK(3).why_not(np.zeros((1, 4), dtype=np.float32)) is None
