"""How artifacts look in a terminal of 80 columns, and as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from components.artifacts.key import flat
from components.errors import some_of
from flows.console import duration, saved_text

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from components.artifacts.artifact import Manifest
    from components.artifacts.collection import Collected, Leftover, Pin
    from components.artifacts.inventory import Checked, Entry
    from components.artifacts.ledger import Saved
    from components.soft_targets.header import Header
    from components.soft_targets.recheck import Rechecked
    from flows.repair import MadeAgain, Repaired

SHORT = 8
LISTED_PROBLEMS = 10
LISTED_CHUNKS = 10
TARGETS = "soft_targets"
UNITS = ("KiB", "MiB", "GiB", "TiB")
LARGEST_BEFORE_NEXT = 1023.95
"""Beyond it a value would be written as 1024.0."""
AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def listing(where: str, found: Sequence[Entry], saved: Saved) -> Iterator[RenderableType]:
    """A row an artifact, and the sums; *saved* is what these kinds saved so far."""
    if not found:
        yield f"nothing in {where} yet"
        return
    table = _table("kind", "key", "digest", "size", "age", "made by", "cost", right=("size", "age", "cost"))
    for entry in found:
        table.add_row(*_row(entry))
    yield table
    yield f"\n{counted(len(found), 'artifact')}, {size(sum(entry.num_bytes for entry in found))} in {where}"
    if saved:
        yield f"{saved_text(saved)}: {counted(saved.hits, 'hit')}, {size(saved.num_bytes)} reused"


def row_of(entry: Entry) -> dict[str, Any]:
    """What `ls` shows of one artifact, for programs."""
    return {
        "kind": entry.kind,
        "key": entry.key,
        "digest": entry.digest,
        "bytes": entry.num_bytes,
        "created": entry.created.isoformat() if entry.created else None,
        "producer": entry.manifest.producer if entry.manifest else None,
        "cost_seconds": entry.cost_seconds,
    }


def described(entry: Entry, checked: Checked) -> dict[str, Any]:
    """What `show` tells, for programs."""
    manifest = asdict(entry.manifest) if entry.manifest else None
    return {"manifest": manifest, "problems": list(checked.problems), "folder": str(checked.folder or "")}


def page(entry: Entry, checked: Checked, found: Sequence[Entry]) -> Iterator[RenderableType]:
    """All of one artifact; *found* are those that it may have been made from."""
    if checked.problems:
        yield f"[bold red]damaged[/]: {escape('; '.join(checked.problems[:LISTED_PROBLEMS]))}"
    yield facts(_about(entry, checked))
    if entry.inputs:
        yield from ("", "[bold]made from[/]", facts(_inputs(entry, found)))
    if entry.manifest and entry.manifest.fields.get("params"):
        yield from ("", "[bold]made with[/]", facts(_parameters(entry.manifest)))
    if entry.manifest:
        yield from ("", "[bold]files[/]", _files(entry))
    if entry.kind == TARGETS and checked.folder and not checked.problems:
        yield from _soft_targets(checked.folder)


def verdicts(chosen: Sequence[Entry], checked: Sequence[Checked]) -> Iterator[RenderableType]:
    """What is damaged, and how much was looked at."""
    damaged = [each for each in checked if each.problems]
    for each in damaged:
        yield f"[red]damaged[/] {each.kind} {each.key[:12]}"
        yield from (f"  {escape(problem)}" for problem in each.problems[:LISTED_PROBLEMS])
        yield from (f"  {line}" for line in _chunks(each))
    looked_at = f"{counted(len(checked), 'artifact')}, {size(sum(entry.num_bytes for entry in chosen))}"
    if damaged:
        yield (
            f"{len(damaged)} of {looked_at} damaged; the next run that needs one makes it again, and so does "
            f"`potstill {'targets' if all(each.kind == TARGETS for each in damaged) else 'artifacts'} repair`"
        )
    else:
        yield f"[green]whole[/]: {looked_at}, every file as its manifest says"


def pinned(where: str, found: Sequence[Pin], there: Sequence[Entry]) -> Iterator[RenderableType]:
    """A row a pin; *there* is all that the store holds."""
    if not found:
        yield f"nothing in {where} is pinned"
        return
    entries = {(entry.kind, entry.key): entry for entry in there}
    table = _table("kind", "key", "size", "pinned", "note", right=("size", "pinned"), wrapped="note")
    for pin in found:
        entry = entries.get((pin.kind, pin.key))
        held = size(entry.num_bytes) if entry else "[red]gone[/]"
        table.add_row(pin.kind, pin.key[:SHORT], held, age(pin.since), escape(pin.note))
    yield table


def repaired(done: Repaired, chosen: Sequence[Entry]) -> Iterator[RenderableType]:
    """What was made again, and what was not and why; *chosen* are all that were looked at."""
    for made in done.made:
        yield f"[green]made again[/] {made.entry.name}{_kept(made)}{_compared(made)}"
    for left in done.left:
        yield f"[red]{'set aside' if left.set_aside else 'damaged'}[/] {left.entry.name}"
        yield f"  {escape(left.why)}"
    looked_at = f"{counted(len(chosen), 'artifact')}, {size(sum(entry.num_bytes for entry in chosen))}"
    if not done.made and not done.left:
        yield f"[green]whole[/]: {looked_at}, nothing to repair"
        return
    remaining = [left for left in done.left if not left.set_aside]
    yield f"of {looked_at}: {len(done.made)} made again, {len(done.left) - len(remaining)} set aside, {len(remaining)} damaged"
    if remaining:
        yield "What is damaged cannot be computed again with these parameters: `potstill artifacts show KEY` tells those that"
        yield "made it. Repair with them (--params, --set), or move it out of everybody's way (--set-aside)."


def _kept(made: MadeAgain) -> str:
    return f", {made.rows_kept:,} rows kept" if made.rows_kept else ""


def _compared(made: MadeAgain) -> str:
    if not made.entry.digest:
        return ""
    return ", the same bytes" if made.digest == made.entry.digest else f", other bytes than before: {made.digest[:12]}"


def repaired_row(done: Repaired) -> dict[str, Any]:
    """What a repair did, for programs."""
    made = [
        {"kind": each.entry.kind, "key": each.entry.key, "digest": each.digest, "rows_kept": each.rows_kept}
        for each in done.made
    ]
    left = [
        {"kind": each.entry.kind, "key": each.entry.key, "why": each.why, "set_aside": each.set_aside}
        for each in done.left
    ]
    return {"made": made, "left": left}


def to_free(chosen: Sequence[Entry], left: Sequence[Leftover], num_found: int) -> Iterator[RenderableType]:
    """What a collection would remove, a row each, and how much that is."""
    if not chosen and not left:
        yield f"nothing to free: all of {counted(num_found, 'artifact')} are needed, young or pinned"
        return
    table = _table("kind", "key", "digest", "size", "age", "made by", "cost", right=("size", "age", "cost"))
    for entry in chosen:
        table.add_row(*_row(entry))
    for leftover in left:
        (kind, key), what = leftover.kind_and_key, "damaged copy" if leftover.quarantined else "unfinished work"
        table.add_row(kind, key[:SHORT], "", size(leftover.num_bytes), age(leftover.changed), f"[dim]{what}[/]", "")
    yield table
    yield (
        f"\n{counted(len(chosen), 'artifact')} of {num_found:,} and {counted(len(left), 'leftover')}: "
        f"{size(_bytes_of(chosen, left))} to free"
    )


def freed(done: Collected, left: Sequence[Leftover]) -> str:
    """What a collection did remove."""
    spared = f"; {len(done.spared)} spared, since a run has just used them" if done.spared else ""
    return f"freed {size(_bytes_of(done.removed, left))}{spared}"


def _bytes_of(chosen: Sequence[Entry], left: Sequence[Leftover]) -> int:
    return sum(entry.num_bytes for entry in chosen) + sum(leftover.num_bytes for leftover in left)


def live_line(entry: Entry, result: Rechecked, seed: int, changed: Sequence[str] = ()) -> str:
    """How the teacher's answer compares with what is stored; *changed* is code that may explain a difference."""
    verdict = "[green]as the teacher says[/]" if result.ok else "[red]not what the teacher says[/]"
    text = (
        f"{verdict}: {entry.key[:12]}, {counted(result.num_rows, 'random row')} (seed {seed}), {result.num_identical} of "
        f"them the same bytes; largest logit difference {result.largest_logit_difference:.3g}, "
        f"{result.said}"
    )
    if result.beyond_bound:
        text += f", above max_kl by more than chance, which allows {result.largest_mean_kl:.2e}"
    if result.wrong:
        listed = "".join(f"\n  {row}" for row in result.wrong[:LISTED_PROBLEMS])
        text += f"; {counted(len(result.wrong), 'row')} beyond what their codec loses:{listed}"
    return f"{text}\nmade by other code than this: {some_of(changed)}" if changed and not result.ok else text


def size(num_bytes: int) -> str:
    """'4.9 MiB', '812 B'."""
    if num_bytes < 2**10:
        return f"{num_bytes} B"
    power = next(
        (power for power in range(1, len(UNITS)) if num_bytes / 2 ** (10 * power) < LARGEST_BEFORE_NEXT), len(UNITS)
    )
    return f"{num_bytes / 2 ** (10 * power):.1f} {UNITS[power - 1]}"


def age(moment: datetime | None) -> str:
    """'3 d', '5 min', in whole units that have passed."""
    if moment is None:
        return "?"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, name in AGES:
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{int(seconds)} s"


def _row(entry: Entry) -> tuple[str, ...]:
    if entry.manifest is None:
        return (entry.kind, entry.key[:SHORT], "[red]manifest unreadable[/]")
    return (
        entry.kind,
        entry.key[:SHORT],
        entry.digest[:SHORT],
        size(entry.num_bytes),
        age(entry.created),
        f"[yellow]{_older(entry)}[/]" if entry.older_schema else escape(entry.manifest.producer),
        _seconds(entry.cost_seconds),
    )


def _older(entry: Entry) -> str:
    return f"older version (schema {entry.older_schema})"


def _about(entry: Entry, checked: Checked) -> Iterator[tuple[str, str]]:
    yield "kind", entry.kind
    yield "key", entry.key
    yield "digest", entry.digest or "?"
    yield "folder", str(checked.folder or "?")
    if entry.manifest is None:
        return
    yield "made by", f"{entry.manifest.producer}, {_older(entry)}" if entry.older_schema else entry.manifest.producer
    yield "made", f"{entry.manifest.created}, {age(entry.created)} ago"
    yield "cost", ", ".join(_costs(entry.manifest.cost))
    yield "on", ", ".join(f"{name} {value}" for name, value in entry.manifest.fingerprint.items())


def _costs(cost: Any) -> Iterator[str]:
    yield _seconds(cost.get("seconds")) or "?"
    if "cpu_seconds" in cost:
        yield f"{_seconds(cost['cpu_seconds'])} of processor time"
    if "peak_memory_bytes" in cost:
        yield f"at most {size(cost['peak_memory_bytes'])} of memory"


def _inputs(entry: Entry, found: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    there = {(each.kind, each.digest): each for each in found}
    for kind, digest in entry.inputs.items():
        other = there.get((kind, digest))
        yield (
            kind,
            f"key {other.key[:12]}, digest {digest[:12]}" if other else f"digest {digest[:12]}, gone from the store",
        )


def _parameters(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name, value in flat(manifest.fields["params"]).items():
        yield name, json.dumps(value)


def _files(entry: Entry) -> Table:
    assert entry.manifest is not None
    table = _table("name", "bytes", "sha256", right=("bytes",))
    for file in (*entry.manifest.files, *entry.manifest.measured):
        table.add_row(escape(file.path), f"{file.bytes:,}", file.sha256[:12])
    return table


def _soft_targets(folder: Path) -> Iterator[RenderableType]:
    """Codecs side by side at each temperature."""
    from components.soft_targets.describe import codec_tables, refusals
    from components.soft_targets.header import read_header

    header = read_header(folder)
    yield from ("", "[bold]soft targets[/]", facts(_layout(header)), "")
    yield from codec_tables(header)
    yield from refusals(header)


def _layout(header: Header) -> Iterator[tuple[str, str]]:
    identity = header.identity
    transforms = ", ".join(each["name"] for each in identity.view_spec.get("transforms", ())) or "none: clean samples"
    rows = header.num_views * header.num_rows
    yield "teacher", f"digest {identity.teacher_digest[:12]}, {header.precision}, batches of {header.batch_size}"
    if identity.fold_teachers_digest:
        yield "folds", f"digest {identity.fold_teachers_digest[:12]}: of training samples, each one's own teacher"
    if header.says == "log_probabilities":
        yield "rows", "log-probabilities, as the teacher's raw logits are not known"
    yield "data", f"digest {identity.data_digest[:12]}"
    yield (
        "classes" if identity.labels == "classes" else "targets",
        f"{header.num_classes}: {', '.join(identity.class_names[:10])}",
    )
    yield "views", f"{header.num_views} of each of {header.num_rows:,} samples (transforms: {transforms})"
    yield "codec", f"{header.codec}, {header.row_stride_bytes} bytes a row, {size(header.num_bytes)} in all"
    yield "chunks", f"{len(header.chunk_sha256)} of {header.rows_per_chunk:,} rows, {rows:,} in all"
    yield "errors below", f"measured on {header.rows_measured:,} rows against the teacher"


def _chunks(checked: Checked) -> Iterator[str]:
    """Which chunks of damaged soft targets; the others need not be computed again."""
    from components.errors import PotstillError
    from components.soft_targets.header import read_header
    from components.soft_targets.integrity import damaged_chunks

    if checked.kind != TARGETS or checked.folder is None:
        return
    try:
        damaged, total = damaged_chunks(checked.folder), len(read_header(checked.folder).chunk_sha256)
    except PotstillError:
        yield "nothing says which chunks are whole: all of it is made again"
        return
    listed = ", ".join(map(str, damaged[:LISTED_CHUNKS])) + (", …" if len(damaged) > LISTED_CHUNKS else "")
    yield f"{len(damaged)} of {total} chunks damaged{f': {listed}' if damaged else ''}"


def _seconds(value: float | None) -> str:
    return "" if value is None else duration(value)


def counted(number: int, what: str) -> str:
    """'1 file', '2,000 files'."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def facts(pairs: Iterator[tuple[str, str]]) -> Table:
    """Names and what there is to say of each, folded to the width."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, escape(value))
    return table


def _table(*titles: str, right: tuple[str, ...], wrapped: str = "made by") -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(
            title, justify="right" if title in right else "left", no_wrap=title != wrapped, overflow="fold"
        )
    return table
