"""The choice of a codec: on a sample, within two bounds, and with a way out where nothing keeps both."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydantic import ValidationError

from components.errors import SoftTargetsRefusedError
from components.params import SoftTargetParams
from components.soft_targets.choice import (
    MANY_CLASSES,
    SAMPLE_ROWS,
    beyond,
    bound_of,
    candidates,
    choose,
    sample_chunks,
)
from components.soft_targets.codec import codec_named, round_trip
from components.soft_targets.error import measure
from components.soft_targets.header import Candidate

C = 100


def logits(rows: int = 300, classes: int = C, scale: float = 4) -> np.ndarray:
    return np.random.default_rng(rows + classes).normal(0, scale, (rows, classes)).astype(np.float32)


def chosen(rows: np.ndarray | None = None, **params: object) -> Candidate:
    rows = logits() if rows is None else rows
    return choose([rows], SoftTargetParams.model_validate(params), rows.shape[1])[0]


def worst(candidate: Candidate) -> float:
    return max(row["mean_kl"] for row in (candidate.error or {}).values())


@pytest.mark.parametrize(
    ("num_chunks", "rows_per_chunk", "expected"),
    [(1, 4096, [0]), (2, 4096, [0, 1]), (10, 4096, [0, 5]), (7, 3000, [0, 2, 4]), (5, 10**6, [0]), (3, 1, [0, 1, 2])],
)
def test_the_sample_is_whole_chunks_evenly_spaced(num_chunks: int, rows_per_chunk: int, expected: list[int]) -> None:
    """As many as hold SAMPLE_ROWS rows, the same ones every time."""
    assert sample_chunks(num_chunks, rows_per_chunk) == expected
    assert len(expected) * rows_per_chunk >= min(SAMPLE_ROWS, num_chunks * rows_per_chunk)


def test_the_choice_does_not_hang_on_how_rows_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces or at once, in small blocks or large: the same codec, the same table."""
    rows, params = logits(), SoftTargetParams()

    at_once = choose([rows], params, C)
    monkeypatch.setattr("components.soft_targets.choice.VALUES_AT_ONCE", 7 * C)
    in_pieces = choose([rows[:1], rows[1:120], rows[120:]], params, C)

    assert at_once[0].codec == in_pieces[0].codec
    for one, other in zip(at_once[1], in_pieces[1], strict=True):
        assert one.largest_logit_error == other.largest_logit_error
        for temperature, row in (one.error or {}).items():
            assert (other.error or {})[temperature] == pytest.approx(row)


def test_each_candidate_has_its_own_measurement() -> None:
    """Bytes, the table of a measurement of all rows at once, and the largest error of a logit."""
    rows, params = logits(), SoftTargetParams()

    _, weighed = choose([rows], params, C)

    for candidate in weighed:
        codec = codec_named(candidate.codec)
        stored = round_trip(codec, rows)
        assert candidate.row_stride_bytes == codec.row_stride_bytes(C)
        assert candidate.largest_logit_error == np.abs(stored - rows).max()
        for temperature, row in measure(rows, stored, params.temperatures).items():
            assert (candidate.error or {})[f"{temperature:g}"] == pytest.approx(row)


@pytest.mark.parametrize(("max_kl", "codec"), [(1e-15, "fp32"), (1e-6, "fp16"), (1e-4, "int8"), (1e-1, "int4")])
def test_the_smallest_within_max_kl_is_taken(max_kl: float, codec: str) -> None:
    """From every bit to four of them, as the bound is loosened."""
    found = chosen(max_kl=max_kl)

    assert found.codec == codec
    assert worst(found) <= max_kl


@pytest.mark.parametrize(("max_bytes", "codec"), [(400, "fp32"), (399, "fp16"), (199, "int8"), (105, "int4")])
def test_bytes_alone_give_the_least_error_that_fits(max_bytes: int, codec: str) -> None:
    """With max_kl null, the most exact row of at most so many bytes."""
    assert chosen(max_kl=None, max_bytes_per_row=max_bytes).codec == codec


def test_both_bounds_hold() -> None:
    """The smallest within max_kl, if it fits."""
    assert chosen(max_kl=1e-4, max_bytes_per_row=106).codec == "int8"
    assert chosen(max_kl=1e-4, max_bytes_per_row=400).codec == "int8"


def test_bounds_that_contradict_each_other_are_refused_with_the_nearest_that_do_not() -> None:
    """Both ways out are named, and both work."""
    with pytest.raises(
        SoftTargetsRefusedError, match=r"max_kl = 0\.0001 and max_bytes_per_row = 60 \(int4: "
    ) as refusal:
        chosen(max_kl=1e-4, max_bytes_per_row=60)

    found = re.search(
        r"Set max_bytes_per_row to (\d+) \(int8.*, or max_kl to (\S+) \(int4, 56 bytes", str(refusal.value)
    )
    assert found is not None
    assert chosen(max_kl=1e-4, max_bytes_per_row=int(found[1])).codec == "int8"
    assert chosen(max_kl=float(found[2]), max_bytes_per_row=60).codec == "int4"


def test_a_row_that_nothing_fits_is_refused_with_the_smallest_that_works() -> None:
    """No codec has 3 bytes for 100 classes."""
    with pytest.raises(SoftTargetsRefusedError, match=r"int4: .*56 bytes.*Set max_bytes_per_row to 56 \(int4"):
        chosen(max_kl=None, max_bytes_per_row=3)


@pytest.mark.parametrize("codec", ["auto", "topk"])
def test_a_choice_without_a_bound_is_refused_at_load(codec: str) -> None:
    """There would be nothing to choose by."""
    with pytest.raises(ValidationError, match="both are null: set one"):
        SoftTargetParams.model_validate({"codec": codec, "max_kl": None})
    assert SoftTargetParams.model_validate({"codec": "fp16", "max_kl": None}).codec == "fp16"


@pytest.mark.parametrize("codec", ["fp32", "fp16", "int8", "int4"])
def test_a_codec_asked_for_by_name_is_the_only_candidate(codec: str) -> None:
    """It is taken as it is, or refused."""
    assert [each.name for each in candidates(SoftTargetParams.model_validate({"codec": codec}), C)] == [codec]


def test_a_named_codec_beyond_the_bound_is_refused_with_a_way_out() -> None:
    """The figure, the bound, and what would work."""
    with pytest.raises(
        SoftTargetsRefusedError, match=r"int4: mean KL is .* nats at T=.*, and max_kl is 1e-05\).*auto or"
    ):
        chosen(codec="int4", max_kl=1e-5)


def test_top_k_is_weighed_where_classes_are_many() -> None:
    """From MANY_CLASSES on, or by name; every k is smaller than half precision."""
    few, many = (candidates(SoftTargetParams(), classes) for classes in (MANY_CLASSES - 1, MANY_CLASSES))
    named = candidates(SoftTargetParams(codec="topk"), C)

    assert not [codec.name for codec in few if codec.name.startswith("topk")]
    assert {"topk-1", "topk-256", "int4", "fp32"} <= {codec.name for codec in many}
    assert [codec.name for codec in named] == ["topk-1", "topk-2", "topk-4", "topk-8", "topk-16", "topk-32", "topk-64"]
    assert all(codec.row_stride_bytes(C) < 2 * C for codec in named)


def test_top_k_is_the_smallest_k_within_the_bound() -> None:
    """Rows of which three classes have nearly all of the mass need no fourth."""
    rows = logits(scale=0.001)
    rows[:, :3] += np.array([12, 11, 10], dtype=np.float32)

    assert chosen(rows, codec="topk", max_kl=1e-5, temperatures=[1.0]).codec == "topk-4"
    assert chosen(rows, codec="topk", max_kl=10.0).codec == "topk-1"


def test_top_k_fills_the_bytes_that_are_allowed() -> None:
    """With bytes alone, k is not held to powers of two."""
    found = chosen(codec="topk", max_kl=None, max_bytes_per_row=55)

    assert (found.codec, found.row_stride_bytes) == ("topk-17", 55)


def test_top_k_of_two_classes_is_refused() -> None:
    """No k is smaller than the row itself."""
    with pytest.raises(SoftTargetsRefusedError, match=r"none applies.*soft_targets.codec to auto"):
        chosen(logits(classes=2), codec="topk")


def test_a_codec_that_cannot_hold_a_row_has_no_error() -> None:
    """One row beyond half precision leaves fp32, whatever the bound."""
    rows = logits()
    rows[7, 3] = 1e38

    found, weighed = choose([rows], SoftTargetParams(max_kl=1e9), C)

    assert found.codec == "fp32"
    assert {each.codec for each in weighed if each.error is None} == {"fp16", "int8", "int4"}
    assert all("beyond" in str(each.refused) for each in weighed if each.codec != "fp32")


def test_beyond_names_the_worst_temperature() -> None:
    """The largest mean decides; null bounds nothing."""
    table = {1.0: {"mean_kl": 1e-5}, 4.0: {"mean_kl": 3e-4}}

    assert beyond(table, bound_of(SoftTargetParams(max_kl=3e-4), "classes")) is None
    assert (
        beyond(table, bound_of(SoftTargetParams(max_kl=1e-4), "classes"))
        == "mean KL is 0.0003 nats at T=4, and max_kl is 0.0001"
    )
    assert beyond(table, bound_of(SoftTargetParams(codec="fp16", max_kl=None), "classes")) is None
