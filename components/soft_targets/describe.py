"""The codecs that were weighed for a set of soft targets, as tables to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from components.soft_targets.header import Candidate, Header

FIGURES = {
    "mean_kl": "Mean KL to the teacher in nats",
    "p99_kl": "99th percentile of the KL in nats",
    "gradient_error": "Error of the KD gradient, as a share of an untrained student's",
    "gradient_bias": "Bias of the KD gradient, as a share of an untrained student's",
}
FIGURES_OF_NUMBERS = {
    "relative_rmse": "RMSE to the teacher, as a share of the outputs' spread",
    "relative_largest": "Largest error, as a share of the output's spread",
}
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class CodecRow:
    """One codec."""

    codec: str
    row_stride_bytes: int
    share_of_fp32: float
    at: tuple[float | None, ...]
    """The figure at each temperature; none if the codec cannot hold the logits."""
    largest_logit_error: float | None
    chosen: bool
    refused: str | None


def temperatures(header: Header) -> tuple[str, ...]:
    """Those at which the error was measured, rising."""
    return tuple(sorted(header.error, key=float))


def codec_rows(header: Header, figure: str) -> tuple[CodecRow, ...]:
    """One row a codec, from small to large, with one of `figures` at each temperature."""
    return tuple(_row(header, candidate, figure) for candidate in header.candidates)


def codec_tables(header: Header) -> Iterator[Table]:
    """One table a figure, for a terminal of 80 columns."""
    return (codec_table(header, figure) for figure in figures(header))


def figures(header: Header) -> Mapping[str, str]:
    """What was measured of the codecs, by name, and what it is."""
    return FIGURES if header.identity.labels == "classes" else FIGURES_OF_NUMBERS


def codec_table(header: Header, figure: str) -> Table:
    """The rows as a rich table; the codec that was chosen stands out."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=figures(header)[figure],
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("codec", no_wrap=True)
    columns = (
        "bytes\na row",
        "of\nfp32",
        *(f"T={temperature}" for temperature in temperatures(header)),
        "largest\nlogit error",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for row in codec_rows(header, figure):
        table.add_row(*_cells(row), style="bold" if row.chosen else "")
    return table


def refusals(header: Header) -> Iterator[str]:
    """Why each of the others could not be chosen, one line a codec."""
    return (f"{each.codec}: {each.refused}" for each in header.candidates if each.refused)


def _row(header: Header, candidate: Candidate, figure: str) -> CodecRow:
    error = candidate.error or {}
    return CodecRow(
        codec=candidate.codec,
        row_stride_bytes=candidate.row_stride_bytes,
        share_of_fp32=candidate.row_stride_bytes / (4 * header.num_classes),
        at=tuple(error.get(temperature, {}).get(figure) for temperature in temperatures(header)),
        largest_logit_error=candidate.largest_logit_error,
        chosen=candidate.codec == header.codec,
        refused=candidate.refused,
    )


def _cells(row: CodecRow) -> Iterator[str]:
    yield f"{row.codec} *" if row.chosen else row.codec
    yield f"{row.row_stride_bytes:,}"
    yield f"{row.share_of_fp32:.3f}"
    for value in row.at:
        yield NOTHING if value is None else f"{value:.1e}" if value else "0"
    yield NOTHING if row.largest_logit_error is None else f"{row.largest_logit_error:.2g}"
