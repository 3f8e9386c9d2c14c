"""The tables of codecs say what was measured, and fit a terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from components.params import SoftTargetParams
from components.soft_targets.choice import choose
from components.soft_targets.describe import FIGURES, codec_rows, codec_tables, refusals, temperatures
from components.soft_targets.header import Header, Identity

C = 100


@pytest.fixture
def header() -> Header:
    """Of rows of which one is beyond half precision at C = 100."""
    logits = np.random.default_rng(0).normal(0, 4, (200, C)).astype(np.float32)
    chosen, weighed = choose([logits], SoftTargetParams(max_kl=1e-3), C)
    too_large = weighed[2].model_copy(update={"error": None, "largest_logit_error": None, "refused": "too large"})
    return Header(
        identity=Identity(teacher_digest="t", data_digest="d", view_spec={}, class_names=tuple(map(str, range(C)))),
        codec=chosen.codec,
        num_views=1,
        num_rows=200,
        num_classes=C,
        row_stride_bytes=chosen.row_stride_bytes,
        rows_per_chunk=200,
        chunk_sha256=(),
        batch_size=8,
        precision="fp32",
        error=chosen.error or {},
        candidates=(*weighed[:2], too_large, *weighed[3:]),
    )


def printed(header: Header) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in codec_tables(header):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("figure", FIGURES)
def test_rows_hold_what_the_header_holds(header: Header, figure: str) -> None:
    """One a codec, from small to large, the figure at each temperature, one chosen."""
    rows = codec_rows(header, figure)

    assert temperatures(header) == ("1", "2", "4", "8", "20")
    assert [row.codec for row in rows] == ["int4", "int8", "fp16", "fp32"]
    assert [row.share_of_fp32 for row in rows] == [0.14, 0.265, 0.5, 1.0]
    assert [row.codec for row in rows if row.chosen] == [header.codec] == ["int8"]
    assert rows[1].at == tuple((header.candidates[1].error or {})[t][figure] for t in ("1", "2", "4", "8", "20"))
    assert rows[2].at == (None,) * 5


def test_tables_fit_80_columns_and_name_every_codec(header: Header) -> None:
    """No cell is cut; what could not be measured is a dash, the chosen codec is marked."""
    text = printed(header)

    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("int8 *") == len(FIGURES) == text.count("fp16  ")
    assert "–" in text


def test_refusals_are_lines(header: Header) -> None:
    """The reasons stand beside the tables, one a codec that was refused."""
    lines = list(refusals(header))

    assert lines[0].startswith("int4: mean KL is ")
    assert lines[1] == "fp16: too large"
    assert len(lines) == 2
