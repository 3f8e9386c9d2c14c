"""The final table as plain text cells: one line a quantity, one column an arm, and what distillation changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.report.data import ReportData
from components.report.style import ARMS, TITLES

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NOTHING = "–"
SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, so that no line ends between them."""
CHANGE = "distilled − hard labels"


@dataclass(frozen=True, slots=True)
class Line:
    """One quantity."""

    label: str
    values: tuple[str, ...]
    """One an arm, in the order of ARMS."""
    change: str = ""
    """Distilled less hard labels."""
    detail: bool = False
    """Belongs to the line above it."""


@dataclass(frozen=True, slots=True)
class FinalTable:
    """What a run ends with; render it with `to_rich`, `to_markdown` or the page's template."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def final_table(report: ReportData) -> FinalTable:
    """All arms on the test split."""
    metrics = report.metrics
    lines = (*_quality(metrics), *_fidelity(metrics), *_size(metrics), *_latency(report.latency()))
    columns = ("", *(arm.title for arm in ARMS), CHANGE)
    return FinalTable(f"On {metrics['holdout']['num_rows']:,} test samples", columns, lines)


def _quality(metrics: Mapping[str, Any]) -> Iterator[Line]:
    level = f"{100 * metrics['confidence']:g}{SPACE}% interval"
    change = metrics["differences"]["student_minus_baseline"]
    points = {key: 100 * change["accuracy"][key] for key in ("difference", "low", "high")}
    yield Line("accuracy", _each(metrics, "accuracy", percent), f"{signed(points['difference'])} points")
    yield Line(
        level,
        tuple(
            interval(100 * metrics[arm.name]["accuracy_low"], 100 * metrics[arm.name]["accuracy_high"]) for arm in ARMS
        ),
        signed_interval(points["low"], points["high"]),
        detail=True,
    )
    nll = change["nll"]
    yield Line("NLL (nats)", _each(metrics, "nll", nats), signed(nll["difference"], 3))
    yield Line(level, ("",) * len(ARMS), signed_interval(nll["low"], nll["high"], 3), detail=True)
    yield Line("calibration, ECE", _each(metrics, "ece", percent), _points(metrics, "ece"))


def _fidelity(metrics: Mapping[str, Any]) -> Iterator[Line]:
    agreement = _each(metrics, "agreement_with_teacher", percent)
    divergence = _each(metrics, "kl_to_teacher", nats)
    change = metrics["student"]["kl_to_teacher"] - metrics["baseline"]["kl_to_teacher"]
    yield Line("teacher agreement", (NOTHING, *agreement[1:]), _points(metrics, "agreement_with_teacher"))
    yield Line("KL from teacher", (NOTHING, *divergence[1:]), signed(change, 3))


def _size(metrics: Mapping[str, Any]) -> Iterator[Line]:
    yield Line(
        "parameters", _each(metrics, "num_parameters", lambda value: f"{value:,}"), _smaller(metrics, "num_parameters")
    )
    yield Line("weights on disk", _each(metrics, "weight_bytes", byte_count), _smaller(metrics, "weight_bytes"))


def _latency(latency: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Line]:
    for size in sorted(latency.get("student", {}), key=int):
        cells = [latency.get(arm.name, {}).get(size) for arm in ARMS]
        yield Line(f"latency p50, batch {size}", tuple(_milliseconds(cell, "latency_p50_ms") for cell in cells))
        yield Line("p95", tuple(_milliseconds(cell, "latency_p95_ms") for cell in cells), detail=True)


def _each(metrics: Mapping[str, Any], name: str, show: Any) -> tuple[str, ...]:
    return tuple(show(metrics[arm.name][name]) for arm in ARMS)


def _points(metrics: Mapping[str, Any], name: str) -> str:
    return f"{signed(100 * (metrics['student'][name] - metrics['baseline'][name]))} points"


def _smaller(metrics: Mapping[str, Any], name: str) -> str:
    ratio = metrics["teacher"][name] / max(metrics["student"][name], 1)
    return f"teacher ÷ {ratio:.1f}" if ratio >= 1 else f"teacher × {1 / ratio:.1f}"


def _milliseconds(cell: Mapping[str, float] | None, name: str) -> str:
    return NOTHING if cell is None else milliseconds(cell[name])


def percent(share: float) -> str:
    return f"{100 * share:.2f}{SPACE}%"


def nats(value: float) -> str:
    return f"{value:.3f}"


def signed(value: float, digits: int = 2) -> str:
    """With a real minus sign; what rounds to zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(f"{value:.{digits}f}") else f"{0:.{digits}f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    return f"{low:.{digits}f}–{high:.{digits}f}"


def signed_interval(low: float, high: float, digits: int = 2) -> str:
    return f"{signed(low, digits)} to {signed(high, digits)}"


def milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 100 else f"{value:,.0f} ms"


def byte_count(value: float) -> str:
    """1,234 B, 4.6 KiB, 1.2 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def to_rich(table: FinalTable) -> RichTable:
    """For a terminal of 80 columns or more."""
    from rich import box
    from rich.table import Table

    rendered = Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    rendered.add_column("", no_wrap=True)
    for column in table.columns[1:-1]:
        rendered.add_column(column, justify="right", no_wrap=True, style="bold" if column == TITLES["student"] else "")
    rendered.add_column(table.columns[-1].replace("− ", "−\n"), justify="right")
    for line in table.lines:
        label = f"  {line.label}" if line.detail else line.label
        rendered.add_row(label, *line.values, line.change, style="dim" if line.detail else "")
    return rendered


def to_markdown(table: FinalTable) -> str:
    """A GitHub-flavoured table, right-aligned but for the labels."""
    head = "| " + " | ".join(table.columns) + " |"
    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    body = ["| " + " | ".join((_markdown_label(line), *line.values, line.change)) + " |" for line in table.lines]
    return "\n".join([f"**{table.title}**", "", head, rule, *body]) + "\n"


def _markdown_label(line: Line) -> str:
    return f"*{line.label}*" if line.detail else line.label
