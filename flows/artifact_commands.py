"""`potstill artifacts …` and `potstill targets …`: look at what the store holds, and check it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from components.errors import BadInputError
from flows.output import DEFAULT_PARAMS, Json, Overrides, ParamsFile, print_all, print_json, progress_on_stderr

if TYPE_CHECKING:
    from components.artifacts.inventory import Checked, Entry
    from components.artifacts.ledger import Saved
    from components.artifacts.store import Store
    from components.soft_targets.recheck import Rechecked
    from flows.console import ConsoleProgress

TARGETS = "soft_targets"
DAMAGED = 1
"""Exit code of a check that found something."""

artifacts = typer.Typer(no_args_is_help=True, help="Look after everything in the store: list, show, check.")
targets = typer.Typer(no_args_is_help=True, help="Look after soft targets: list, show, check against the teacher.")

Key = Annotated[str, typer.Argument(metavar="KEY", help="The first digits of a key or digest.")]
OptionalKey = Annotated[
    Optional[str], typer.Argument(metavar="[KEY]", help="The first digits of a key or digest; all without it.")
]
Kind = Annotated[Optional[str], typer.Option("--kind", help="Only artifacts of this step, such as teacher.")]
KeepDays = Annotated[int, typer.Option("--keep-days", min=0, help="Keep what a run made or used within so many days.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove without asking.")]
WithoutRegistry = Annotated[
    bool, typer.Option("--without-registry", help="Do not ask MLflow: models registered there keep nothing.")
]
SetAside = Annotated[
    bool, typer.Option("--set-aside", help="Move what cannot be made again to .quarantine/, out of everybody's way.")
]


@artifacts.command("ls")
def list_artifacts(kind: Kind = None, as_json: Json = False) -> None:
    """List what the store holds: size, age, who made it, what it cost."""
    store = _store()
    _list(store, _kinds(store, kind), as_json=as_json)


@targets.command("ls")
def list_targets(as_json: Json = False) -> None:
    """List the soft targets: size, age, who made them, what they cost."""
    _list(_store(), (TARGETS,), as_json=as_json)


@artifacts.command("show")
def show_artifact(key: Key, as_json: Json = False) -> None:
    """Tell where an artifact comes from, what is in it and what it cost."""
    store = _store()
    _show(store, _entry(store, store.storage.kinds(), key), as_json=as_json)


@targets.command("show")
def show_targets(
    key: Annotated[
        Optional[str],
        typer.Argument(metavar="[KEY]", help="The first digits of a key or digest; those of params.yaml without it."),
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Tell whose soft targets these are, of which views of which data, and what each codec would have lost."""
    store = _store()
    _show(store, _entry(store, (TARGETS,), key or _asked_for(params, set_)), as_json=as_json)


@artifacts.command("verify")
def verify_artifacts(key: OptionalKey = None, as_json: Json = False) -> None:
    """Hash every file and compare it with its manifest; exit code 1 if any differs."""
    store = _store()
    raise typer.Exit(_verify(store, _chosen(store, store.storage.kinds(), key), as_json=as_json))


@targets.command("verify")
def verify_targets(
    key: OptionalKey = None,
    live: Annotated[int, typer.Option("--live", min=0, help="Also ask the teacher again about so many rows.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which random rows those are.")] = 0,
    as_json: Json = False,
) -> None:
    """Hash every chunk, and on request ask the teacher again; exit code 1 if anything differs."""
    store = _store()
    chosen = _chosen(store, (TARGETS,), key)
    raise typer.Exit(_verify(store, chosen, num_rows=live, seed=seed, as_json=as_json))


@artifacts.command("repair")
def repair_artifacts(
    key: OptionalKey = None,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    set_aside: SetAside = False,
    as_json: Json = False,
) -> None:
    """Make what is damaged again, as far as params.yaml asks for it; exit code 1 if anything stays damaged."""
    raise typer.Exit(_repair(None, key, params, set_, set_aside=set_aside, as_json=as_json))


@targets.command("repair")
def repair_targets(
    key: OptionalKey = None,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    set_aside: SetAside = False,
    as_json: Json = False,
) -> None:
    """Ask the teacher again about damaged chunks, as far as params.yaml asks for them; 1 if any stay damaged."""
    raise typer.Exit(_repair(TARGETS, key, params, set_, set_aside=set_aside, as_json=as_json))


@artifacts.command("gc")
def collect_artifacts(keep_days: KeepDays = 14, yes: Yes = False, without_registry: WithoutRegistry = False) -> None:
    """Free what no registered model, young run or pin stands on; shows it first, and removes it after a yes."""
    _collect(None, keep_days=keep_days, yes=yes, without_registry=without_registry)


@targets.command("gc")
def collect_targets(keep_days: KeepDays = 14, yes: Yes = False, without_registry: WithoutRegistry = False) -> None:
    """The same for soft targets alone, and the verdicts on them."""
    _collect((TARGETS, "soft_targets_checks"), keep_days=keep_days, yes=yes, without_registry=without_registry)


@artifacts.command("pin")
def pin_artifact(key: Key, note: Annotated[str, typer.Option("--note", help="What for.")] = "") -> None:
    """Keep an artifact, and what it was made from, until it is unpinned."""
    from components.artifacts.collection import pin

    store = _store()
    entry = _entry(store, _kinds(store), key)
    pin(store, entry, note)
    typer.echo(f"pinned {entry.name}")


@artifacts.command("unpin")
def unpin_artifact(key: Key) -> None:
    """Let a pinned artifact go once nothing else needs it."""
    from components.artifacts.collection import unpin

    store = _store()
    entry = _entry(store, _kinds(store), key)
    unpin(store, entry)
    typer.echo(f"unpinned {entry.name}")


@artifacts.command("pins")
def list_pins(as_json: Json = False) -> None:
    """List what is pinned, since when and what for."""
    from components.artifacts.collection import pins
    from components.artifacts.inventory import entries
    from flows import artifact_tables

    store = _store()
    found = pins(store)
    if as_json:
        print_json([{**asdict(pin), "since": pin.since.isoformat() if pin.since else None} for pin in found])
    else:
        print_all(*artifact_tables.pinned(store.storage.where, found, entries(store, {pin.kind for pin in found})))


def _store() -> Store:
    from components.artifacts.store import Store
    from components.settings import Settings

    return Store(Settings())


def _kinds(store: Store, kind: str | None = None) -> tuple[str, ...]:
    """BadInputError for a kind that there is none of."""
    from components.artifacts.inventory import step_kinds

    known = step_kinds(store)
    if kind is not None and kind not in known:
        raise BadInputError(f"the store holds no {kind!r}, only: {', '.join(known) or 'nothing yet'}")
    return (kind,) if kind else known


def _entry(store: Store, kinds: tuple[str, ...], key: str) -> Entry:
    from components.artifacts.inventory import entries, find_entry

    return find_entry(entries(store, kinds), key)


def _chosen(store: Store, kinds: tuple[str, ...], key: str | None) -> list[Entry]:
    from components.artifacts.inventory import entries, find_entry

    found = entries(store, kinds)
    return [find_entry(found, key)] if key else found


def _asked_for(params_file: Path, overrides: list[str] | None) -> str:
    """Key of the soft targets that params.yaml asks for; BadInputError if nobody has made them."""
    from flows.asked_for import keys_asked_for
    from flows.run import open_run

    run = open_run(params_file, overrides or (), name="targets")
    key = next((key.digest for key in keys_asked_for(run, TARGETS) if key.kind == TARGETS), None)
    if key is None or run.store.storage.manifest(TARGETS, key) is None:
        raise BadInputError(
            f"nobody has made the soft targets of {params_file} yet: `potstill run` does, and "
            "`potstill targets ls` lists those of other parameters"
        )
    return key


def _list(store: Store, kinds: tuple[str, ...], *, as_json: bool) -> None:
    from components.artifacts.inventory import entries
    from flows import artifact_tables

    found = entries(store, kinds)
    if as_json:
        print_json([artifact_tables.row_of(entry) for entry in found])
    else:
        print_all(*artifact_tables.listing(store.storage.where, found, _saved(store, kinds)))


def _saved(store: Store, kinds: tuple[str, ...]) -> Saved:
    from components.artifacts.ledger import savings, total

    return total(saving for saving in savings(store.storage.root) if saving.kind in kinds)


def _show(store: Store, entry: Entry, *, as_json: bool) -> None:
    from components.artifacts.inventory import check, entries
    from flows import artifact_tables

    checked = check(store, entry)
    if as_json:
        print_json(artifact_tables.described(entry, checked))
    else:
        print_all(*artifact_tables.page(entry, checked, entries(store, tuple(entry.inputs))))
    raise typer.Exit(DAMAGED if checked.problems else 0)


def _verify(store: Store, chosen: list[Entry], *, num_rows: int = 0, seed: int = 0, as_json: bool) -> int:
    """Exit code. The teacher is asked again about *num_rows* rows of each, unless files are damaged already."""
    from flows import artifact_tables

    with progress_on_stderr() as progress:
        checked = _check_all(store, chosen, progress)
    damaged = any(each.problems for each in checked)
    live = _ask_again(store, chosen, num_rows, seed) if num_rows and not damaged else []
    if as_json:
        files = [{**asdict(each), "folder": str(each.folder or "")} for each in checked]
        print_json(
            {"artifacts": files, "live": [{"key": entry.key, "seed": seed, **asdict(said)} for entry, said in live]}
        )
    else:
        print_all(*artifact_tables.verdicts(chosen, checked))
        print_all(*(artifact_tables.live_line(entry, said, seed, _changed(entry, said)) for entry, said in live))
    return DAMAGED if damaged or not all(said.ok for _, said in live) else 0


def _repair(
    kind: str | None, key: str | None, params: Path, overrides: list[str] | None, *, set_aside: bool, as_json: bool
) -> int:
    """Exit code. The parameters are read first: nothing is set aside for a mistake in them."""
    from flows import artifact_tables
    from flows.repair import repair
    from flows.run import PROGRESS, open_run

    with progress_on_stderr() as progress:
        PROGRESS.set(progress)
        run = open_run(params, overrides or (), name="repair")
        chosen = _chosen(run.store, (kind,) if kind else run.store.storage.kinds(), key)
        checked = _check_all(run.store, chosen, progress)
        damaged = [entry for entry, each in zip(chosen, checked, strict=True) if each.problems]
        done = repair(run, damaged, steps=(kind,) if kind else (), set_aside=set_aside)
    if as_json:
        print_json(artifact_tables.repaired_row(done))
    else:
        print_all(*artifact_tables.repaired(done, chosen))
    return 0 if all(left.set_aside for left in done.left) else DAMAGED


def _collect(kinds: tuple[str, ...] | None, *, keep_days: int, yes: bool, without_registry: bool) -> None:
    """Only artifacts of *kinds*, or all and what runs left behind."""
    from datetime import UTC, datetime, timedelta

    from components.artifacts.collection import collect, discard_leftovers, last_used, leftovers, plan_collection
    from components.artifacts.inventory import entries
    from flows import artifact_tables

    store, before = _store(), datetime.now(UTC) - timedelta(days=keep_days)
    if timedelta(days=keep_days) < 2 * (renewed := timedelta(seconds=store.storage.mark_seconds)):
        raise BadInputError(
            f"in {store.storage.where}, uses are marked only once in {renewed / timedelta(hours=1):.0f} hours, so that what a "
            f"run has just used could look unused: --keep-days must be {2 * renewed / timedelta(days=1):.0f} or more"
        )
    registered = frozenset() if without_registry else _registered()
    used = last_used(store, store.storage.kinds())
    found = entries(store, store.storage.kinds())
    going = plan_collection(found, registered=registered, used=used, before=before)
    chosen = [entry for entry in going if kinds is None or entry.kind in kinds]
    left = leftovers(store, before) if kinds is None else ()
    print_all(*artifact_tables.to_free(chosen, left, len(found)))
    if not (chosen or left) or not (yes or _confirmed()):
        return
    done = collect(store, chosen, used)
    discard_leftovers(store, left)
    print_all(artifact_tables.freed(done, left))


def _registered() -> frozenset[str]:
    """Digests that registered models stand on; ServerError with the way out if MLflow does not answer."""
    from components import registry, tracking
    from components.errors import ServerError
    from components.settings import Settings
    from flows.servers import running_tracking_uri

    try:
        uri = running_tracking_uri(Settings())
        tracking.probe(uri)
        return registry.registered_digests(uri)
    except ServerError as error:
        raise ServerError(
            f"nothing is removed, since what registered models stand on is not known: {error}; "
            "--without-registry collects all the same"
        ) from error


def _confirmed() -> bool:
    """Whether the person at the terminal says yes; where there is none, nobody does."""
    if not sys.stdin.isatty():
        typer.echo("nothing is removed without --yes")
        return False
    typer.echo("Remove these? [y/N]: ", nl=False)
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not agreed:
        typer.echo("nothing is removed")
    return agreed


def _check_all(store: Store, chosen: list[Entry], progress: ConsoleProgress) -> list[Checked]:
    from components.artifacts.inventory import check

    checked, done = [], 0
    progress.start("hash every file", total=sum(entry.num_bytes for entry in chosen))
    for entry in chosen:
        checked.append(check(store, entry))
        progress.check()
        done += entry.num_bytes
        progress.advance(done)
    return checked


def _ask_again(store: Store, chosen: list[Entry], num_rows: int, seed: int) -> list[tuple[Entry, Rechecked]]:
    from components.artifacts.inventory import entries
    from components.steps.soft_targets_check import check_live

    found = entries(store, {kind for entry in chosen for kind in entry.inputs})
    asked = []
    with progress_on_stderr() as progress:
        for entry in chosen:
            progress.start(f"ask the teacher of {entry.key[:12]}", total=num_rows)
            asked.append((entry, check_live(store, found, entry, num_rows=num_rows, seed=seed, progress=progress)))
    return asked


def _changed(entry: Entry, said: Rechecked) -> tuple[str, ...]:
    from components.steps.soft_targets_check import changed_code

    return () if said.ok else changed_code(entry)
