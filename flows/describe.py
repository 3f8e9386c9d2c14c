"""Every parameter and every plugin in words: as a tree for the terminal and as a page for the docs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components import plugins
from components.contracts import (
    FormatParams,
    GateTestParams,
    ModelParams,
    ObjectiveParams,
    PluginParams,
    TransformParams,
    WorkloadParams,
)
from components.errors import ParamsError
from components.params import Params, load_params
from components.schedules import Knots

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

FAMILIES: dict[type[BaseModel], str] = {
    FormatParams: "formats",
    GateTestParams: "gate_tests",
    ModelParams: "models",
    ObjectiveParams: "objectives",
    TransformParams: "transforms",
    WorkloadParams: "workloads",
}
TYPES: dict[Any, str] = {
    str: "text",
    int: "int",
    float: "float",
    bool: "true or false",
    Path: "path",
    Any: "anything",
    Knots: "schedule",
}
PAGE = """# Parameters

Every choice that changes a number stands in `params.yaml`; an unknown key is an error, and all problems are reported
at once. `potstill run --set section.field=value` overrides one for a run. A schedule is a list of two or more
[share of the training done, value] pairs with straight lines between them: `[[0, 0], [0.2, 0.9]]` rises from 0 to 0.9
during the first fifth and stays there. This page is written by
`potstill params --markdown`.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter, section or choice."""

    name: str
    type: str = ""
    bounds: str = ""
    default: str = ""
    """As YAML; empty where there is none."""
    required: bool = False
    about: str = ""
    value: str | None = None
    """In the user's file, as YAML, empty for a section; None where there is no file or this choice is not taken."""
    family: str = ""
    """Of plugins, where the children are choices of one."""
    choices: bool = False
    """Whether the children exclude each other."""
    chosen: bool = False
    children: tuple[Entry, ...] = ()


def describe(current: Params | None = None) -> tuple[Entry, ...]:
    """The sections of params.yaml with all they hold, and the values of *current* beside the defaults."""
    return _fields(Params, current)


def _fields(model: type[BaseModel], current: Any, *, tags: Sequence[str] = (), inside: str = "") -> tuple[Entry, ...]:
    """*inside* is the family whose plugin *model* is; a plugin made of others of its family does not unfold them."""
    return tuple(
        _entry(name, field, getattr(current, name, None), known=current is not None, inside=inside)
        for name, field in model.model_fields.items()
        if name not in tags
    )


def _entry(name: str, field: FieldInfo, value: Any, *, known: bool, inside: str) -> Entry:
    parts = tuple(_models(field.annotation))
    is_list = get_origin(field.annotation) is tuple
    entry = Entry(
        name=name,
        type=_type(field.annotation),
        bounds=_bounds(field.metadata),
        required=field.is_required(),
        value="" if known else None,
        about=field.description or (_first_line(parts[0]) if len(parts) == 1 else ""),
    )
    if not parts or is_list:
        default = "" if field.is_required() else _yaml(field.get_default(call_default_factory=True))
        entry = replace(entry, default=default, value=_yaml(value) if known else None)
    items = () if value is None else value if is_list else (value,)
    family = FAMILIES.get(parts[0], "") if parts else ""
    if family:
        children = () if family == inside else tuple(_plugins(family, items))
        return replace(entry, family=family, choices=True, children=children)
    if len(parts) > 1 and is_list:
        return replace(entry, choices=True, children=tuple(_variant(field, part, None) for part in parts))
    if len(parts) > 1:
        default = "" if field.is_required() else _tag(field, field.get_default(call_default_factory=True))
        variants = tuple(_variant(field, part, value) for part in parts)
        taken = _tag(field, value) if known else None
        return replace(entry, default=default, value=taken, choices=True, children=variants)
    return replace(entry, children=_fields(parts[0], None if is_list else value)) if parts else entry


def _plugins(family: str, chosen: Sequence[PluginParams] = ()) -> Iterator[Entry]:
    """Every plugin of *family*, and the user's own modules among the *chosen* ones."""
    current = {params.name: params for params in chosen}
    for name in (*plugins.available(family), *(name for name in current if "." in name)):
        fields = _fields(plugins.params_class(family, name), current.get(name), tags=("name",), inside=family)
        about = f"a module of your own: {name}" if "." in name else plugins.summary(family, name)
        yield Entry(name=name, about=about, chosen=name in current, children=fields)


def _variant(field: FieldInfo, part: type[BaseModel], value: Any) -> Entry:
    tag = _discriminator(field)
    (word,) = get_args(part.model_fields[tag].annotation)  # the one value of its Literal
    current = value if isinstance(value, part) else None
    return Entry(
        name=f"{tag}: {word}",
        about=_first_line(part),
        chosen=current is not None,
        children=_fields(part, current, tags=(tag,)),
    )


def _tag(field: FieldInfo, value: BaseModel) -> str:
    return f"{_discriminator(field)}: {getattr(value, _discriminator(field))}"


def _discriminator(field: FieldInfo) -> str:
    """What tells the sections of a union apart; of a list, it stands with the items."""
    if field.discriminator:
        return str(field.discriminator)
    inner = get_args(get_args(field.annotation)[0])
    return next(str(each.discriminator) for each in inner if isinstance(each, FieldInfo))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that *annotation* is made of: one, a union of several, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, tuple, Annotated):
        arguments = get_args(annotation)
        for argument in arguments[:1] if get_origin(annotation) is Annotated else arguments:
            yield from _models(argument)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def _type(annotation: Any) -> str:
    """For people: 'float', 'int or null', 'list of text', 'fp32 | bf16'; sections and choices need no word."""
    if annotation in TYPES:
        return TYPES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        return f"list of {_type(arguments[0])}" if _type(arguments[0]) else "list"
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        words = [_type(argument) for argument in arguments if argument is not NoneType]
        return " or ".join(filter(None, (*words, "null" if NoneType in arguments else "")))
    return "mapping" if origin is not None else ""


def _bounds(metadata: Sequence[Any]) -> str:
    found = {
        name: getattr(item, name)
        for item in metadata
        for name in ("ge", "gt", "le", "lt", "min_length", "pattern")
        if getattr(item, name, None) is not None
    }
    return ", ".join(_bound_words(found))


def _bound_words(found: dict[str, Any]) -> Iterator[str]:
    if "ge" in found and "le" in found:
        yield f"{found['ge']:,} to {found['le']:,}"
    else:
        signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        yield from (f"{sign} {found[name]:,}" for name, sign in signs.items() if name in found)
    if "min_length" in found:
        yield "not empty"
    if "pattern" in found:
        yield f"like `{found['pattern']}`"


def _yaml(value: Any) -> str:
    """As it would stand in params.yaml, in one line."""
    if isinstance(value, PluginParams):
        return value.name
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, BaseModel):
        return _yaml(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, str | Path):
        return str(value) or '""'
    return json.dumps(value, default=str)


def params_tree(params_file: Path | None = None, section: str | None = None) -> Tree:
    """Every parameter, or those of one *section* such as 'student.train', for the terminal.

    Without a section, only the chosen plugins are unfolded. Raises ParamsError for a section that does not exist.
    """
    from rich.tree import Tree

    current, title = _current(params_file)
    shown = Entry(name=title, children=describe(current))
    for name in section.split(".") if section else ():
        shown = _child(shown, name, section or "")
    root = Tree(_label(replace(shown, name=section)) if section else title, guide_style="dim")
    _grow(root, shown, unfold=section is not None or current is None)
    return root


def _current(params_file: Path | None) -> tuple[Params | None, str]:
    """The user's parameters, where the file can be used, and what to say about it."""
    if params_file is None:
        return None, "parameters (defaults)"
    if not params_file.exists():
        return None, f"parameters (defaults; {params_file} does not exist)"
    try:
        return load_params(params_file), f"parameters, with the values of {params_file}"
    except ParamsError as error:
        return None, f"parameters (defaults only: {str(error).partition(':')[0]})"


def _child(entry: Entry, name: str, section: str) -> Entry:
    """The child called *name*; within choices also one of a choice's own, of the chosen one first."""
    below = list(entry.children)
    if entry.choices:
        ranked = sorted(entry.children, key=lambda child: not child.chosen)
        below += [grandchild for child in ranked for grandchild in child.children]
    found = next((child for child in below if child.name == name), None)
    if found is None:
        known = list(dict.fromkeys(child.name for child in below))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known) or 'nothing below it'}"
        raise ParamsError(f"no parameter {section!r}: {name!r} does not exist; {hint}")
    return found


def _grow(tree: Tree, entry: Entry, *, unfold: bool) -> None:
    for child in entry.children:
        branch = tree.add(_label(child))
        if unfold or child.chosen or not entry.choices:
            _grow(branch, child, unfold=unfold)


def _label(entry: Entry) -> Text:
    from rich.text import Text

    kind = ", ".join(filter(None, (entry.type, entry.bounds)))
    return Text("  ").join(filter(None, (_head(entry), Text(kind, style="cyan"), Text(entry.about, style="dim"))))


def _head(entry: Entry) -> Text:
    """Name and value; what differs from the default stands out, with the default beside it."""
    from rich.text import Text

    head = Text(entry.name, style="bold green" if entry.chosen else "bold")
    if entry.chosen:
        head.append(" (chosen)", style="green")
    if entry.value is None:
        head.append(f" = {entry.default}" if entry.default else " (required)" if entry.required else "", style="dim")
    elif entry.required or entry.value == entry.default:
        head.append(f" = {entry.value}" if entry.value else "")
    else:
        head.append(f" = {entry.value}", style="yellow").append(f" (default {entry.default})", style="dim")
    return head


def params_markdown() -> str:
    """The page docs/params.md: a table a section, then the parameters of every plugin."""
    entries = describe()
    chapters = [f"## {entry.name}\n\n{entry.about}\n\n{_chapter(entry)}" for entry in entries]
    families = [_family_chapter(family) for family in FAMILIES.values()]
    return "\n".join((PAGE, *chapters, "## Plugins\n\nA name is a file: `potstill plugins` lists them.\n", *families))


def _chapter(entry: Entry) -> str:
    return f"{_capital(_kind(entry))}.\n" if entry.family else _table(_rows(entry))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _family_chapter(family: str) -> str:
    choices = [
        f"#### {choice.name}\n\n{choice.about}\n\n{_table(_rows(choice)) if choice.children else ''}"
        for choice in _plugins(family)
    ]
    return "\n".join((f"### {family}\n", *choices))


def _rows(entry: Entry, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Every parameter under *entry* with its dotted name; plugins stand in their own chapters."""
    for child in entry.children:
        name = f"{prefix}{child.name}"
        if entry.choices:
            yield from _rows(child, f"{prefix.removesuffix('.')} ({child.name}).")
            continue
        if not child.children or child.choices or child.type:
            yield name, child
        if not child.family:
            yield from _rows(child, f"{name}{'[]' if child.type == 'list' else ''}.")


def _table(rows: Iterator[tuple[str, Entry]]) -> str:
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {_kind(entry)} | {_default(entry)} | {_cell(entry.about)} |" for name, entry in rows]
    return "\n".join(lines) + "\n"


def _kind(entry: Entry) -> str:
    if entry.family:
        plugin = f"[{entry.family}](#{entry.family})"
        return f"list of {plugin}" if entry.type == "list" else f"one of {plugin}"
    if entry.choices:
        each = ", ".join(f"`{child.name}`" for child in entry.children)
        return f"list, each one of: {each}" if entry.type.startswith("list") else f"one of: {each}"
    return _cell(", ".join(filter(None, (entry.type, entry.bounds))))


def _default(entry: Entry) -> str:
    if entry.required:
        return "required"
    return f"`{entry.default}`" if entry.default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def plugins_table() -> Table:
    """Every plugin file, one line each, read without importing any."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("family", no_wrap=True)
    table.add_column("name", no_wrap=True, style="bold")
    table.add_column("what it is", overflow="fold")
    for family in plugins.FAMILIES:
        for index, name in enumerate(plugins.available(family)):
            table.add_row("" if index else family, name, plugins.summary(family, name))
    return table
