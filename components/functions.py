"""Functions of the user's own, named as module:function."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from components.errors import BadInputError, PluginNotFoundError

DOTTED = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


def module_of(name: str) -> str:
    """'acme.teachers:make' -> 'acme.teachers'."""
    return name.partition(":")[0]


def function_of(name: str, *, place: str) -> Any:
    """The function; PluginNotFoundError where there is none, with the parameter *place* that named it."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise PluginNotFoundError(f"{place} {name!r}: no module {module_name!r} on the Python path") from error
        raise BadInputError(f"{place} {name!r} needs the package {error.name!r}, which is not installed") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PluginNotFoundError(f"{place} {name!r}: {module_name} has no function {attribute!r}{hint}")
    return found
