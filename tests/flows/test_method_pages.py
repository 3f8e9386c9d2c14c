"""The index of methods and the page of each say what the plugin files are."""

import json
import re
from pathlib import Path

import pytest

from components import plugins
from components.contracts import ClosedForm
from tests.components.objectives.given import built

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
METHODS = tuple(name for name in plugins.available("objectives") if name != "combined")
SECTIONS = ("Parameters", "Search", "Cost", "Traps", "Numbers")


def table(text: str) -> list[list[str]]:
    """Cells of the first table, without its header."""
    lines = [line.strip("|\n ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def section(name: str, title: str) -> str:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def index() -> dict[str, list[str]]:
    rows = table((FOLDER / "README.md").read_text(encoding="utf-8"))
    return {cells[0].strip("[").partition("]")[0]: cells for cells in rows}


def test_index_names_every_method() -> None:
    """All plugin files but the sum of others, each with a link to its own page, and no other name."""
    assert sorted(index()) == sorted(METHODS)
    assert [cells[0] for cells in index().values()] == [f"[{name}]({name}.md)" for name in index()]


@pytest.mark.parametrize("name", METHODS)
def test_index_says_what_the_method_is(name: str) -> None:
    """What it needs, how it reduces, whether it has a closed form, and where it comes from."""
    objective = built(name)
    _, needs, reduction, closed_form, source = index()[name]

    assert needs == ", ".join(sorted(objective.needs))
    assert reduction == objective.reduction
    assert closed_form == ("yes" if isinstance(objective, ClosedForm) else "no")
    assert re.search(r"\b(19|20)\d\d\b", source)


@pytest.mark.parametrize("name", METHODS)
def test_page_has_its_sections(name: str) -> None:
    """None is missing or empty, and the formula comes before them."""
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")

    assert page.startswith(f"# {name}: ")
    assert "\n    " in page.partition("\n## ")[0]
    assert [title for title in SECTIONS if not section(name, title).strip()] == []


@pytest.mark.parametrize("name", METHODS)
def test_page_lists_every_parameter_with_its_default(name: str) -> None:
    """As `potstill params` shows them."""
    fields = plugins.params_class("objectives", name).model_fields
    listed = {cells[0].strip("`"): cells[1].strip("`") for cells in table(section(name, "Parameters"))}
    defaults = {known: field for known, field in fields.items() if known != "name"}

    assert set(listed) == set(defaults)
    for known, field in defaults.items():
        if not field.is_required():
            wanted = field.default if isinstance(field.default, str) else json.dumps(field.default)
            assert listed[known] == wanted, known


@pytest.mark.parametrize("name", METHODS)
def test_search_names_parameters(name: str) -> None:
    """What each row of a page's search table begins with is one of the method's parameters."""
    fields = plugins.params_class("objectives", name).model_fields
    rows = table(section(name, "Search"))

    assert rows
    assert [cells[0] for cells in rows if cells[0].strip("`").partition("`")[0] not in fields] == []
