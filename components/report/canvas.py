"""What every figure has in common: matplotlib's object interface on the Agg and SVG canvases, same input same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import Measure
from components.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDE, NARROW = (4.8, 3.1), (3.2, 3.1)
"""Inches. Narrow enough that 9 points stay readable when a phone shows a figure at its full width."""
FONT_POINTS = 9
PNG_DOTS_PER_INCH = 200


def axis_label(measure: Measure) -> str:
    unit = {"share": " (%)", "nats": " (nats)", "": ""}[measure.unit]
    return f"{measure.title}{unit}"


def scale_of(measure: Measure) -> float:
    return 100.0 if measure.unit == "share" else 1.0


def apart(places: Sequence[float], step: float = 1.12) -> list[float]:
    """Move equal places a little apart (on a log axis), so that two students of one size do not hide each other."""
    moved: list[float] = []
    for place in places:
        free = place
        while any(1 / step < free / other < step for other in moved):
            free *= step
        moved.append(free)
    return moved


def room_beside(axes: Axes, places: Sequence[float]) -> None:
    axes.set_xlim(min(places) / 2, max(places) * 2.5)
    plain_numbers(axes.xaxis)


def plain_numbers(axis: Axis) -> None:
    """Of a log axis: 0.5, 20, 10k instead of powers of ten; every decade alone where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_minor_formatter(NullFormatter())


def new_figure(
    size: tuple[float, float], title: str, x_label: str, y_label: str, *, grid: bool = True
) -> tuple[Figure, Axes]:
    figure = canvas(size)
    axes = figure.add_subplot()
    dress(axes, title, x_label, y_label, grid=grid)
    return figure, axes


def canvas(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", facecolor="none")


def dress(axes: Axes, title: str, x_label: str, y_label: str, *, grid: bool) -> None:
    axes.set_facecolor("none")
    axes.set_title(title, fontsize=FONT_POINTS + 1, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x_label, fontsize=FONT_POINTS, color=INK)
    axes.set_ylabel(y_label, fontsize=FONT_POINTS, color=INK)
    axes.tick_params(labelsize=FONT_POINTS, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    if grid:
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)
        axes.set_axisbelow(True)


def legend(axes: Axes, **options: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=FONT_POINTS - 1, labelcolor=INK, **options)


def mark_if_short(points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """A line of one or two points cannot be seen."""
    return {"marker": "o", "markersize": 4} if len(points) <= 3 else {}


def log_if_wide(axes: Axes) -> None:
    import numpy as np

    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()])
    positive = values[values > 0]
    if len(positive) and positive.max() > 30 * positive.min():
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)


def whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def short_number(value: float) -> str:
    """950, 12k, 1.5M; small values as they are."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):g}{unit}"
    return f"{value:g}"


def shortened(name: str, limit: int) -> str:
    """Cut in the middle: names of classes tend to share how they begin."""
    head = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[:head]}…{name[-(limit - 1 - head) :]}"


def png(figure: Figure, path: Path) -> Path:
    """On white, for viewers that show pictures on their own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set(dpi=PNG_DOTS_PER_INCH, facecolor="white")
    with _drawing():
        # The canvas's own method lays out and draws once; Figure.savefig does both twice.
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return path


def inline_svg(figure: Figure, description: str) -> str:
    """An <svg> element to put inside a page: its ink is the page's own text colour, and it names no other address."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with _drawing():
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    body = stream.getvalue()[stream.getvalue().index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'\s(width|height)="[\d.]+pt"', "", body, count=2).replace(INK, "currentColor")
    return body.replace("<svg", f'<svg role="img" aria-label="{_attribute(description)}"', 1)


@contextmanager
def _drawing() -> Iterator[None]:
    """Reproducible ids, text as outlines; a class name in a script that the font lacks shows boxes, not warnings."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "potstill", "svg.fonttype": "path"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _attribute(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
