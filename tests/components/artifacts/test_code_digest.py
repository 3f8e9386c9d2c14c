"""Which edits count as another code: helpers do, words do not."""

import ast
from pathlib import Path

import pytest

from components.artifacts import code_digest
from components.artifacts.code_digest import code_digests, reached
from components.steps.pipeline import ORDER

STEP = '''
"""A step."""
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from components.only_types import Thing

def run(context):
    """Do it."""
    from components.helpers.maths import double
    return double(2)
'''
HELPER = '''
"""Maths."""
LIMIT = 3
"""How far."""

def double(x: int) -> int:
    """Twice *x*."""
    # a comment
    return 2 * x
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of a step, the helper it imports inside a function, and a stranger."""
    for name, text in {
        "components/__init__.py": "",
        "components/step.py": STEP,
        "components/helpers/__init__.py": "",
        "components/helpers/maths.py": HELPER,
        "components/only_types.py": "class Thing: ...",
        "components/stranger.py": "x = 1",
        "components/errors.py": "class E(Exception): ...",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code_digest, "_project_root", lambda: tmp_path)
    return tmp_path


def edit(project: Path, name: str, old: str, new: str) -> None:
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_step_reaches_what_its_functions_import(project):
    """Function-level imports count; imports for types only, and strangers, do not."""
    assert reached(["components.step"]) == ("components.helpers", "components.helpers.maths", "components.step")


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("components/step.py", "Do it.", "Do it now.", False),
        ("components/helpers/maths.py", "# a comment", "# another", False),
        ("components/helpers/maths.py", "How far.", "How very far.", False),
        ("components/helpers/maths.py", "    return 2 * x", "\n    return (2 * x)", False),
        ("components/helpers/maths.py", "2 * x", "2 * x + 0", True),
        ("components/helpers/maths.py", "LIMIT = 3", "LIMIT = 4", True),
        ("components/stranger.py", "x = 1", "x = 2", False),
        ("components/errors.py", "class E", "class F", False),
        ("components/helpers/__init__.py", "", "import os", True),
    ],
)
def test_an_edit_counts_exactly_when_it_can_change_a_number(project, name, old, new, counts):
    """The digests differ for code that is reached, and only for code."""
    before = dict(code_digests(["components.step"]))
    edit(project, name, old, new)

    assert (dict(code_digests(["components.step"])) != before) == counts


def test_a_package_of_the_users_own_counts_by_its_sources(tmp_path, monkeypatch):
    """A dotted plugin outside the project changes the digest when any of its files does."""
    package = tmp_path / "acme_kd_digest_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text("def loss(): return 1")
    (package / "helper.py").write_text("a = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(code_digests(["acme_kd_digest_test.losses"]))
    (package / "helper.py").write_text("a = 22")

    assert before.keys() == {"acme_kd_digest_test"}
    assert dict(code_digests(["acme_kd_digest_test.losses"])) != before


def test_what_a_package_of_the_users_own_imports_counts_too(project, tmp_path, monkeypatch):
    """A plugin that builds on a module of the project follows that module, imported at the top or in a function."""
    package = tmp_path / "acme_kd_imports_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(
        "def loss():\n    from components.helpers.maths import double\n    return double(1)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(code_digests(["acme_kd_imports_test.losses"]))
    edit(project, "components/helpers/maths.py", "2 * x", "2 * x + 0")

    assert before.keys() == {"acme_kd_imports_test", "components.helpers", "components.helpers.maths"}
    assert dict(code_digests(["acme_kd_imports_test.losses"])) != before


def _modules() -> list[str]:
    root = Path(code_digest.__file__).parents[2]
    files = sorted((root / "components").rglob("*.py"))
    return [path.relative_to(root).with_suffix("").as_posix().replace("/", ".") for path in files]


@pytest.mark.parametrize("module", [name for name in _modules() if not name.endswith("__init__")])
def test_a_mutation_of_any_module_is_seen_by_every_step_that_reaches_it(module, monkeypatch):
    """Adding one statement to a module changes the digests of exactly the steps that reach it."""
    path = code_digest._source(module)
    mutated = ast.parse(path.read_text(encoding="utf-8") + "\nMUTATED = 1\n")
    entries = {name: [f"components.steps.{name}"] for name in ORDER}
    before = {name: dict(code_digests(entry)) for name, entry in entries.items()}
    real = code_digest._module_digest

    def digest(source: Path) -> str:
        return "mutated" + ast.dump(mutated)[:0] if source == path else real(source)

    monkeypatch.setattr(code_digest, "_module_digest", digest)
    for name, entry in entries.items():
        changed = dict(code_digests(entry)) != before[name]

        assert changed == (module in before[name])
