"""A plugin is a file: a name in params.yaml is a module in its family's package, or a dotted name of the user's own."""

import ast
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from components.contracts import PluginParams
from components.errors import BadInputError, PluginNotFoundError

FAMILIES = {
    "formats": "components.data.formats",
    "gate_tests": "components.gate_tests",
    "models": "components.models",
    "objectives": "components.objectives",
    "storage": "components.artifacts.storage",
    "transforms": "components.transforms",
    "workloads": "components.workloads",
    "export": "components.export",
}


def available(family: str) -> tuple[str, ...]:
    """Names of the plugin files in *family*; modules that begin with an underscore are their helpers."""
    package = importlib.import_module(FAMILIES[family])
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"))


def module_name(family: str, name: str) -> str:
    """The module behind *name*: `kd` -> `components.objectives.kd`; a dotted name is a module already."""
    if "." in name:
        return name
    known = available(family)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PluginNotFoundError(f"no {name!r} among the {family} (found: {', '.join(known)}).{hint}")
    return f"{FAMILIES[family]}.{name}"


def load(family: str, name: str) -> Any:
    """Import the one module that *name* stands for."""
    module = module_name(family, name)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise PluginNotFoundError(
                f"no module {module!r} on the Python path, needed for {family} {name!r}"
            ) from error
        raise BadInputError(f"{module} needs the package {error.name!r}, which is not installed") from error


def libraries(modules: Iterable[str]) -> tuple[str, ...]:
    """Distributions that these plugin files name in LIBRARIES, because their versions can change a number."""
    files = [module for module in modules if not module.rpartition(".")[2].startswith("_")]
    named = {name for module in files for name in getattr(importlib.import_module(module), "LIBRARIES", ())}
    return tuple(sorted(named))


def params_class(family: str, name: str) -> type[PluginParams]:
    """The class that types the parameters of plugin *name*."""
    module = load(family, name)
    try:
        return module.Params
    except AttributeError as error:
        raise PluginNotFoundError(f"{module.__name__} has no class Params, so it is no plugin") from error


def parse(family: str) -> Callable[[Any], Any]:
    """A pydantic validator that turns {'name': ..., ...} into the plugin's own Params."""

    def from_mapping(value: Any) -> Any:
        if isinstance(value, PluginParams):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(  # noqa: TRY004 (pydantic turns only ValueError into a problem of the file)
                f"must be a mapping with a name, one of: {', '.join(available(family))}"
            )
        try:
            return params_class(family, value["name"]).model_validate(value)
        except PluginNotFoundError as error:
            raise ValueError(str(error)) from error

    return from_mapping


def summary(family: str, name: str) -> str:
    """The first line of the plugin file's docstring, read without importing it."""
    package = importlib.import_module(FAMILIES[family])
    source = Path(package.__path__[0]) / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
