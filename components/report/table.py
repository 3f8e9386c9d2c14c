"""The final table as plain text cells: one line a quantity, one column an arm, and what distillation changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.contracts import Measure, Workload
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
    metrics, workload = report.metrics, report.workload
    quality = (
        line for name, measure in workload.measures.items() for line in _quality(metrics, workload, name, measure)
    )
    fidelity = (_fidelity(metrics, name, measure) for name, measure in workload.fidelity_measures.items())
    lines = (*quality, *fidelity, *_size(metrics), *_latency(report.latency()))
    columns = ("", *(arm.title for arm in ARMS), CHANGE)
    return FinalTable(f"On {metrics['holdout']['num_rows']:,} test samples", columns, lines)


def _quality(metrics: Mapping[str, Any], workload: Workload, name: str, measure: Measure) -> Iterator[Line]:
    """The measure, and its intervals where it has any: of the arms if it is the primary one, and of the difference."""
    values = _each(metrics, name, lambda value: written(measure, value))
    change = metrics["differences"]["student_minus_baseline"].get(name)
    if change is None:
        yield Line(label(measure), values, _change(metrics, name, measure))
        return
    yield Line(label(measure), values, changed(measure, change["difference"]))
    level = f"{100 * metrics['confidence']:g}{SPACE}% interval"
    spans = _spans(metrics, name, measure) if name == workload.primary_metric else ("",) * len(ARMS)
    yield Line(level, spans, change_interval(measure, change["low"], change["high"]), detail=True)


def _spans(metrics: Mapping[str, Any], name: str, measure: Measure) -> tuple[str, ...]:
    return tuple(
        value_interval(measure, metrics[arm.name][f"{name}_low"], metrics[arm.name][f"{name}_high"]) for arm in ARMS
    )


def _fidelity(metrics: Mapping[str, Any], name: str, measure: Measure) -> Line:
    values = _each(metrics, name, lambda value: written(measure, value))
    return Line(measure.title, (NOTHING, *values[1:]), _change(metrics, name, measure))


def _change(metrics: Mapping[str, Any], name: str, measure: Measure) -> str:
    return changed(measure, metrics["student"][name] - metrics["baseline"][name])


def _size(metrics: Mapping[str, Any]) -> Iterator[Line]:
    yield Line(
        "parameters",
        _each(metrics, "num_parameters", lambda value: f"{value:,}" if value else NOTHING),
        _smaller(metrics, "num_parameters"),
    )
    yield Line(
        "weights on disk",
        _each(metrics, "weight_bytes", lambda value: byte_count(value) if value else NOTHING),
        _smaller(metrics, "weight_bytes"),
    )


def _latency(latency: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Line]:
    for size in sorted(latency.get("student", {}), key=int):
        cells = [latency.get(arm.name, {}).get(size) for arm in ARMS]
        yield Line(f"latency p50, batch {size}", tuple(_milliseconds(cell, "latency_p50_ms") for cell in cells))
        yield Line("p95", tuple(_milliseconds(cell, "latency_p95_ms") for cell in cells), detail=True)


def _each(metrics: Mapping[str, Any], name: str, show: Any) -> tuple[str, ...]:
    return tuple(show(metrics[arm.name][name]) for arm in ARMS)


def _smaller(metrics: Mapping[str, Any], name: str) -> str:
    """Nothing of a black box, whose size nobody knows."""
    if not metrics["teacher"][name]:
        return ""
    ratio = metrics["teacher"][name] / max(metrics["student"][name], 1)
    return f"teacher ÷ {ratio:.1f}" if ratio >= 1 else f"teacher × {1 / ratio:.1f}"


def _milliseconds(cell: Mapping[str, float] | None, name: str) -> str:
    return NOTHING if cell is None else milliseconds(cell[name])


def label(measure: Measure) -> str:
    return f"{measure.title} (nats)" if measure.unit == "nats" else measure.title


def written(measure: Measure, value: float) -> str:
    """One value, in the way of its unit."""
    if measure.unit == "share":
        return percent(value)
    return nats(value) if measure.unit == "nats" else plain(value)


def changed(measure: Measure, difference: float) -> str:
    """A difference of two values, with its sign."""
    return f"{_signed_of(measure, difference)}{' points' if measure.unit == 'share' else ''}"


def value_interval(measure: Measure, low: float, high: float) -> str:
    """Without the unit."""
    if measure.unit == "share":
        return interval(100 * low, 100 * high)
    return interval(low, high, 3) if measure.unit == "nats" else f"{plain(low)}–{plain(high)}"


def change_interval(measure: Measure, low: float, high: float) -> str:
    """Of a difference, without the unit."""
    return f"{_signed_of(measure, low)} to {_signed_of(measure, high)}"


def _signed_of(measure: Measure, value: float) -> str:
    if measure.unit == "share":
        return signed(100 * value)
    return signed(value, 3) if measure.unit == "nats" else signed(value, _decimals(value, 3))


def plain(value: float) -> str:
    """Four digits that count."""
    return f"{value:,.{_decimals(value, 4)}f}".replace("-", "−")


def _decimals(value: float, digits: int) -> int:
    """Behind the point, so that so many count; three more at most of what is below 1."""
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return min(max(digits - before, 0), digits + 3)


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
