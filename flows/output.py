"""What the commands that look at something share: their options, tables for people, JSON for programs, progress beside both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from flows.console import ConsoleProgress

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
ParamsFile = Annotated[Path, typer.Option("--params", "-p", help="The file of parameters.", metavar="FILE")]
Overrides = Annotated[
    Optional[list[str]],
    typer.Option("--set", "-s", metavar="SECTION.FIELD=VALUE", help="Override one parameter; may be repeated."),
]
DEFAULT_PARAMS = Path("params.yaml")


@contextmanager
def progress_on_stderr() -> Iterator[ConsoleProgress]:
    """Progress of this command, beside what it prints, so that that can be piped."""
    from rich.console import Console

    from flows.console import ConsoleProgress, interruptible

    progress = ConsoleProgress(Console(stderr=True))
    with interruptible(progress):
        yield progress


def print_all(*renderables: object) -> None:
    """Tables and lines for people; lines are left whole where there is no terminal."""
    from rich.console import Console

    console = Console()
    for renderable in renderables:
        console.print(renderable, highlight=False, soft_wrap=isinstance(renderable, str) and not console.is_terminal)


def print_json(value: Any) -> None:
    """One JSON value for programs."""
    typer.echo(json.dumps(value, indent=1))
