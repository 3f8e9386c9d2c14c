"""The final table: its cells, its widths, its Markdown."""

from io import StringIO

import pytest
from rich.console import Console

from components.report import table


def rendered(report, width: int) -> str:
    console = Console(width=width, file=StringIO(), color_system=None)
    console.print(table.to_rich(table.final_table(report)))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_fits_a_terminal(make_report, width: int) -> None:
    """Nothing is cut off or wrapped at 80 and 100 columns."""
    text = rendered(make_report(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    wanted = len(table.final_table(make_report()).lines)
    assert len([line for line in text.splitlines() if line.strip()]) == wanted + 4, (
        "a title, two lines of heads, a rule"
    )


def test_columns_are_the_arms(make_report) -> None:
    """Teacher, hard labels, distilled, and what distillation changed."""
    found = table.final_table(make_report())
    assert found.columns == ("", "teacher", "hard labels", "distilled", "distilled − hard labels")
    assert all(len(line.values) == 3 for line in found.lines)


def test_cells(make_report) -> None:
    """Accuracy with its interval, sizes and latencies as the artifact has them."""
    report = make_report()
    cells = {line.label: line for line in table.final_table(report).lines if not line.detail}
    share = report.metrics["student"]["accuracy"]
    assert cells["accuracy"].values[2] == f"{100 * share:.2f}{table.SPACE}%"
    assert cells["parameters"].values == ("116,602", "19,090", "19,090")
    assert cells["parameters"].change == "teacher ÷ 6.1"
    assert cells["latency p50, batch 64"].values == ("21.00 ms", "0.21 ms", "0.20 ms")
    assert cells["teacher agreement"].values[0] == table.NOTHING


def test_without_latencies_the_table_is_shorter(make_report) -> None:
    """What was not measured here is left out."""
    report = make_report()
    report.evaluation.measured("latency.json").unlink()
    assert not [line for line in table.final_table(report).lines if "latency" in line.label]


def test_markdown_has_one_row_a_line(make_report) -> None:
    """Five cells each, right-aligned numbers."""
    found = table.final_table(make_report())
    lines = table.to_markdown(found).splitlines()
    assert lines[3] == "|---|---:|---:|---:|---:|"
    assert len(lines) == len(found.lines) + 4
    assert {line.count("|") for line in lines[2:]} == {6}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "+0.50"), (-0.5, "−0.50"), (-0.001, "0.00"), (0.0, "0.00")],
)
def test_signs(value: float, text: str) -> None:
    """A real minus sign; what rounds to zero has no sign."""
    assert table.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(56.7, "56.70"), (1234567.8, "1,234,568"), (0.43268, "0.4327"), (-0.0012345, "−0.001234"), (0, "0.000")],
)
def test_plain_numbers_have_four_digits(value: float, text: str) -> None:
    """Whatever their unit."""
    assert table.plain(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (9.97, "10 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    """In the unit one would say."""
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1023, "1,023 B"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"), (5 * 2**40, "5,120.0 GiB")]
)
def test_bytes(count: int, text: str) -> None:
    """Powers of 1024, named as such."""
    assert table.byte_count(count) == text
