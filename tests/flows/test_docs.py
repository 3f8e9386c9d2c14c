"""What the pages promise exists: parameters as generated, folders of the map, commands and links that work."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from components import plugins
from components.settings import Settings
from flows.cli import app
from flows.describe import params_markdown

ROOT = Path(__file__).parents[2]
METHODS = ROOT / "docs" / "methods"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def names_in_map() -> list[str]:
    """Folders and files that the map names; a pattern such as <format>.py is none."""
    text = section("Map").partition("```\n")[2].partition("```")[0]
    return re.findall(r"(?<![\w<>/.])(?:\w+/|\w+\.(?:py|yaml))(?=\s|$)", text, flags=re.MULTILINE)


def test_parameters_page_is_the_generated_one() -> None:
    """docs/params.md is what `potstill params --markdown` prints."""
    committed = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")

    assert committed.rstrip("\n") == params_markdown().rstrip("\n"), "run: potstill params --markdown > docs/params.md"


def test_map_names_what_exists() -> None:
    """Every folder and file in the README's map is there."""
    names = names_in_map()
    places = [ROOT, ROOT / "flows", ROOT / "components", ROOT / "components" / "steps"]

    assert len(names) > 30
    assert [name for name in names if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("name", [name for name in plugins.available("objectives") if name != "combined"])
def test_every_method_has_a_page(name: str) -> None:
    """With each of its parameters and its default, and a row in the table of methods that says what it needs."""
    page = (METHODS / f"{name}.md").read_text(encoding="utf-8")
    params = plugins.params_class("objectives", name).model_validate({"name": name})
    defaults = params.model_dump(mode="json", exclude={"name"})
    rows = [
        f"| `{field}` | `{value if isinstance(value, str) else json.dumps(value)}` |"
        for field, value in defaults.items()
    ]
    row = f"| [{name}]({name}.md) | {', '.join(sorted(params.needs))} |"  # type: ignore[attr-defined]

    missing = [row for row in rows if row not in page]
    assert missing == []
    assert row in (METHODS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """Every `potstill ...` in a page is a command, and its options are that command's own."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    quoted = re.findall(r"`potstill ([^`]+)`", page.read_text(encoding="utf-8"))
    wrong = []
    for name, *words in (line.split() for line in quoted if not line.startswith("-")):
        known = {option for param in commands[name].params for option in param.opts} if name in commands else None
        wrong += (
            [name] if known is None else [f"{name} {word}" for word in words if word[:2] == "--" and word not in known]
        )

    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file or a folder."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_are_settings(page: Path) -> None:
    """Every POTSTILL_ variable that a page names is a setting."""
    known = {f"POTSTILL_{name.upper()}" for name in Settings.model_fields}

    assert set(re.findall(r"POTSTILL_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("number", range(1, 1 + len(list((ROOT / "docs" / "decisions").glob("*.md")))))
def test_decisions_are_numbered(number: int) -> None:
    """Decisions are numbered without gaps, and file name and title agree."""
    (page,) = (ROOT / "docs" / "decisions").glob(f"{number:04d}-*.md")

    assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")
