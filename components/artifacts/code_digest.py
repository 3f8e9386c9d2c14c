"""Which code computes a step: digests over the syntax trees of the modules it reaches by import.

Docstrings, comments and layout do not count; a changed helper does. Modules that carry results
around without computing them (INFRASTRUCTURE) are left out, so that a new setting or error class
does not retrain every teacher.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from components.errors import PluginNotFoundError

PROJECT = "components"
INFRASTRUCTURE = (
    "components.artifacts",
    "components.contracts",
    "components.errors",
    "components.params",
    "components.plugins",
    "components.registry",
    "components.settings",
    "components.steps.execute",
    "components.steps.pipeline",
    "components.steps.step",
    "components.tracking",
)


def code_digests(entries: Iterable[str]) -> Mapping[str, str]:
    """Module name -> digest of its code, for every module that *entries* reach; the user's own packages by one digest.

    What these import of the project is reached too.
    """
    named = tuple(entries)
    foreign = {name.partition(".")[0]: name for name in named if not _is_project(name)}
    own = [name for name in named if _is_project(name)]
    used = [found for package, module in foreign.items() for found in _used_by(package, module)]
    digests = {name: _module_digest(_source(name)) for name in reached([*own, *used])}
    return digests | {package: _foreign_digest(package, module) for package, module in sorted(foreign.items())}


def reached(entries: Iterable[str]) -> tuple[str, ...]:
    """Every project module that importing *entries* and running their functions can import, without infrastructure."""
    seen: set[str] = set()
    waiting = [name for name in entries if not _is_infrastructure(name)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [found for found in _imports(name) if found not in seen and not _is_infrastructure(found)]
    return tuple(sorted(seen))


def _is_project(name: str) -> bool:
    return name == PROJECT or name.startswith(f"{PROJECT}.")


def _is_infrastructure(name: str) -> bool:
    return name == PROJECT or any(name == listed or name.startswith(f"{listed}.") for listed in INFRASTRUCTURE)


def _project_root() -> Path:
    return Path(__file__).resolve().parents[2]


def _source(name: str) -> Path:
    path = _project_root().joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(path: Path, _mtime_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(name: str) -> tuple[str, ...]:
    """Project modules that *name* imports anywhere but under TYPE_CHECKING, and the packages around it."""
    path = _source(name)
    return (*_parents(name), *_imported_in(path, path.stat().st_mtime_ns))


@cache
def _imported_in(path: Path, mtime_ns: int) -> tuple[str, ...]:
    return tuple(_find_imports(_tree(path, mtime_ns)))


def _find_imports(tree: ast.Module) -> Iterator[str]:
    for node in _running_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _exists(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from _imported_from(node.module, [alias.name for alias in node.names])


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:end]) for end in range(2, len(parts)))


def _imported_from(module: str, names: list[str]) -> Iterator[str]:
    if _exists(module):
        yield module
        yield from (f"{module}.{name}" for name in names if _exists(f"{module}.{name}"))


def _exists(name: str) -> bool:
    return _is_project(name) and _source(name).exists()


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _running_nodes(node)


def _module_digest(path: Path) -> str:
    return _text_digest(path, path.stat().st_mtime_ns)


@cache
def _text_digest(path: Path, _mtime_ns: int) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_bare_string(statement)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_bare_string(statement: ast.stmt) -> bool:
    """A docstring, of a function or of the attribute above it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _foreign_digest(package: str, module: str) -> str:
    """An installed package by its version and RECORD, one under development by its sources."""
    for distribution in importlib.metadata.packages_distributions().get(package, ()):
        record = importlib.metadata.distribution(distribution).read_text("RECORD") or ""
        if f"{package}/" in record:
            version = importlib.metadata.version(distribution)
            return hashlib.sha256(f"{distribution} {version}\n{record}".encode()).hexdigest()
    lines = [f"{source.name} {_module_digest(source)}\n" for source in _foreign_sources(package, module)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _foreign_sources(package: str, module: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise PluginNotFoundError(f"no module {module!r} on the Python path")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return sorted(source for folder in folders for source in folder.rglob("*.py")) or [Path(str(spec.origin))]


def _used_by(package: str, module: str) -> Iterator[str]:
    """Project modules that a user's own package imports."""
    for source in _foreign_sources(package, module):
        yield from _imported_in(source, source.stat().st_mtime_ns)
