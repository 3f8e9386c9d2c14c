"""`potstill demo`: the story of a champion on one machine, told as it happens; an act that ends otherwise fails it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.text import Text

from components.contracts import NoProgress
from components.data.example import DAMAGED, add_digits_version
from components.errors import BadInputError, InterruptedRunError, PotstillError, RefusedError
from components.settings import Settings
from flows.console import ConsoleProgress, duration
from flows.run import PROGRESS

if TYPE_CHECKING:
    from rich.console import Console

    from components.registry import RegisteredVersion
    from flows.promotion_commands import Place
    from flows.servers import Endpoints

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.yaml"
POOR = "student.model.hidden=[2]"
DOCS = "Data Docs: "
OF_THE_USER = ("POTSTILL_STORE", "POTSTILL_JOURNAL_URL")
"""Settings that would lead out of the demo's own folder."""
INDENT = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays."""

    folder: Path
    """Data, results, journal and parameters of this demo, and nothing else."""
    params_file: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def place(self) -> Place:
        from flows.promotion_commands import place_of

        return place_of(self.params_file, ())

    def version(self, alias: str) -> RegisteredVersion | None:
        from components import registry

        place = self.place()
        return registry.current(place.tracking_uri, place.model, alias)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an act ended."""

    what: str
    """The flow's final state, or what refused."""
    exit_code: int
    """Of the command."""
    why: str
    links: Sequence[str] = ()

    def told(self) -> Text:
        return Text(self.what, "bold green" if self.exit_code == 0 else "bold yellow")


@dataclass(frozen=True, slots=True)
class Act:
    """One command, and how it must end."""

    title: str
    command: str
    play: Callable[[Stage], Ending]
    ends: str
    champion: str
    """Version, afterwards."""
    teachers: int
    """Trained so far."""


def launch_demo() -> None:
    """Play all acts with the servers that are configured, or the local ones; PotstillError where one ends otherwise."""
    from flows.launch import with_servers

    try:
        with with_servers() as (console, endpoints), _broken_off(), _own_stage(Settings().var_dir / "demo") as stage:
            _tell(console, stage)
            _look_around(console, stage, endpoints)
    except InterruptedRunError as error:
        raise InterruptedRunError("stopped as you asked; `potstill demo` begins the story again") from error


@contextmanager
def _broken_off() -> Iterator[None]:
    """What fails because Ctrl-C ended a process of git or DVC is no failure of its own; runs draw their live lines alone."""
    progress = PROGRESS.get()
    assert isinstance(progress, ConsoleProgress)
    PROGRESS.set(LiveLines(progress))
    try:
        yield
    except PotstillError:
        progress.check()
        raise


class LiveLines(NoProgress):
    """The progress of a run of which the last word alone stays."""

    def __init__(self, progress: ConsoleProgress) -> None:
        self._progress = progress

    def start(self, title: str, *, total: int) -> None:
        if self._progress.live:
            self._progress.start(title, total=total)

    def advance(self, done: int, **values: float) -> None:
        self._progress.advance(done, **values)

    def step_line(self, *_: object, **__: object) -> None:
        self._progress.finish()

    def check(self) -> None:
        self._progress.check()


@contextmanager
def _own_stage(folder: Path) -> Iterator[Stage]:
    """A new one at *folder*, in the place of an earlier demo's.

    Raises BadInputError where no demo left what lies there, BusyError while another demo is running.
    """
    from components.artifacts.lock import BusyError, held
    from components.data.versions import discard

    def busy(holder: str) -> None:
        raise BusyError(f"a demo is running in {folder} (process {holder}): wait for it, or end it")

    lock = folder.with_name(".demo.lock")
    if folder.exists() and not lock.exists():
        raise BadInputError(f"{folder} was not made by a demo, which would replace it: move it away")
    with held(lock, wait_seconds=1, waiting=busy):
        discard(folder)
        folder.mkdir(parents=True)
        os.environ["POTSTILL_VAR_DIR"] = str(folder)
        for name in OF_THE_USER:
            os.environ.pop(name, None)
        yield Stage(folder, _write_params(folder))


def _write_params(folder: Path) -> Path:
    """The recipe with names of this demo alone, by its second, since others may share the registry."""
    names = f"demo-{datetime.now():%m%d-%H%M%S}"
    params = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    params["data"]["repository"] = _shown(folder / "data")
    params["registry"] = {"experiment": names, "student": f"{names}-student", "teacher": f"{names}-teacher"}
    written = folder / "params.yaml"
    written.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return written


def _tell(console: Console, stage: Stage) -> None:
    began = time.monotonic()
    for number, act in enumerate(ACTS, start=1):
        _perform(console, stage, number, act)
    took = duration(time.monotonic() - began)
    console.print(f"\n[bold green]{len(ACTS)} acts, all as told, in {took}.[/]", highlight=False)


def _look_around(console: Console, stage: Stage, endpoints: Endpoints) -> None:
    """What to type; an address that the user has set stays set."""
    tracking = f" MLFLOW_TRACKING_URI={endpoints.tracking_uri}" if "mlflow" in endpoints.local else ""
    console.print("Look around:", highlight=False)
    _print(console, f"export POTSTILL_VAR_DIR={_shown(stage.folder)}{tracking}", whole=True)
    for command in ("history", "lineage champion", "diff 1 2"):
        _print(console, f"potstill {command} --params {_shown(stage.params_file)}", whole=True)


def _perform(console: Console, stage: Stage, number: int, act: Act) -> None:
    """PotstillError where it does not end as it must."""
    if progress := PROGRESS.get():
        progress.check()
    console.print(f"[bold]{number}  {act.title}[/]", highlight=False)
    _print(console, f"$ {act.command}", style="cyan", whole=True)
    began = time.monotonic()
    ending = act.play(stage)
    took = duration(time.monotonic() - began)
    _print(console, Text.assemble(ending.told(), f", exit code {ending.exit_code}, {took}: {ending.why}"))
    for link in filter(None, ending.links):
        _print(console, f"→ {link}", style="dim", whole=True)
    if problems := [*_otherwise(stage, act, ending)]:
        raise PotstillError(f"act {number} went otherwise than the story: {'; '.join(problems)}")


def _otherwise(stage: Stage, act: Act, ending: Ending) -> Iterator[str]:
    if ending.what != act.ends:
        yield f"it ended as {ending.what}, not {act.ends}"
    champion = stage.version("champion")
    if champion is None or champion.version != act.champion:
        yield f"the champion is version {champion.version if champion else 'none'}, not {act.champion}"
    if (teachers := _num_teachers()) != act.teachers:
        yield f"{teachers} teachers were trained so far, not {act.teachers}"


def _num_teachers() -> int:
    from components.artifacts.store import Store

    return sum(1 for _ in Store(Settings()).storage.keys("teacher"))


def _tracking_uri() -> str:
    return os.environ["MLFLOW_TRACKING_URI"]


def _print(console: Console, text: str | Text, *, style: str = "", whole: bool = False) -> None:
    """Indented; broken between words at a terminal's width, unless it is to be copied *whole*."""
    from rich.padding import Padding

    plain = Text(text, style) if isinstance(text, str) else text
    if whole or not console.is_terminal:
        console.print(Text(" " * INDENT) + plain, soft_wrap=True)
    else:
        console.print(Padding(plain, (0, 0, 0, INDENT)))


def _shown(path: Path) -> str:
    """From here, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _arrives(stage: Stage, *, tag: str) -> Ending:
    add_digits_version(stage.data, tag)
    return _refreshed(stage)


def _refreshed(stage: Stage) -> Ending:
    from flows.refresh import refresh

    return _ended(refresh(params_file=str(stage.params_file), return_state=True))


def _tried(stage: Stage) -> Ending:
    from flows.distill import distill

    arguments: dict[str, Any] = {"overrides": [POOR], "data_rev": "v2"}
    return _ended(distill(params_file=str(stage.params_file), **arguments, return_state=True))


def _ended(state: Any) -> Ending:
    """Of a flow."""
    from prefect.utilities.urls import url_for

    from components import registry
    from components.tracking import without_password

    flow_run = without_password(url_for("flow-run", obj_id=state.state_details.flow_run_id) or "")
    try:
        verdict = state.result()
    except RefusedError as refusal:
        return _refused(refusal, flow_run)
    if verdict is None:
        return Ending(state.name, 0, state.message, [flow_run])
    page = registry.version_url(_tracking_uri(), verdict.student)
    why = f"version {verdict.student.version} {state.message}"
    return Ending(state.name, verdict.exit_code, why, [flow_run, page, _shown(Path(verdict.report))])


def _refused(refusal: RefusedError, flow_run: str) -> Ending:
    """In one line, the place of the Data Docs as a link."""
    lines = [" ".join(line.split()) for line in str(refusal).splitlines()]
    docs = [_shown(Path(line.removeprefix(DOCS))) for line in lines if line.startswith(DOCS)]
    why = ". ".join(line for line in lines if not line.startswith(DOCS))
    return Ending(type(refusal).__name__.removesuffix("Error"), refusal.exit_code, why, [flow_run, *docs])


def _rolled_back(stage: Stage) -> Ending:
    from components import registry
    from flows.promotion_commands import roll_back

    line = roll_back(stage.place(), None, "version 2 did badly in production")
    why = f"version {line.version} is champion again (before: version {line.previous_version})"
    champion = stage.version("champion")
    return Ending("RolledBack", 0, why, [registry.version_url(_tracking_uri(), champion)] if champion else [])


def _traced(stage: Stage) -> Ending:
    from components import registry
    from flows.lineage_commands import lineage_of

    found = lineage_of(stage.place(), "champion")
    made_of = (f"{each.step.replace('_', ' ')} {each.digest[:6]}" for each in reversed(found.ancestors))
    data = f"{found.tag('data.revision')}, commit {found.tag('data.commit')[:6]}"
    why = f"version {found.version.version} ← {' ← '.join(made_of)} ({data})"
    return Ending("Traced", 0, why, [registry.version_url(_tracking_uri(), found.version)])


ACTS = (
    Act("The first data version, v1, arrives.", "potstill refresh", partial(_arrives, tag="v1"), "Promoted", "1", 1),
    Act("Nothing new arrives.", "potstill refresh", _refreshed, "NothingNew", "1", 1),
    Act("v2 arrives, with 1,500 digits more.", "potstill refresh", partial(_arrives, tag="v2"), "Promoted", "2", 2),
    Act(
        f"{DAMAGED} arrives, damaged: these 1,500 have lost their labels.",
        "potstill refresh",
        partial(_arrives, tag=DAMAGED),
        "DataRefused",
        "2",
        2,
    ),
    Act("A poor student is tried.", f"potstill run --data-rev v2 --set {POOR}", _tried, "Refused", "2", 2),
    Act("Version 2 does badly in production.", "potstill rollback", _rolled_back, "RolledBack", "1", 2),
    Act("What exactly made the champion?", "potstill lineage champion", _traced, "Traced", "1", 2),
)
