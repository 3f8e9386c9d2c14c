"""How data versions look in a terminal of 80 columns, and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from components.data._git import without_credentials
from components.errors import some_of
from flows.artifact_tables import age, counted, facts, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from components.artifacts.artifact import Artifact
    from components.data._dvc import Remote
    from components.data.comparison import FileChanges, SampleChanges
    from components.data.copies import Written
    from components.data.history import History, Listed
    from components.data.holdings import Contents, Holdings, Use
    from components.data.packed import PackedData
    from components.data.versions import DataVersion
    from components.params import DataParams
    from components.validation.profile import Drift

SHORT = 8
LISTED = 10
LISTED_CLASSES = 30
NO_NUMBER = "–"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version as it is listed."""

    listed: Listed
    contents: Contents | None
    """None where no run has packed it yet."""
    named: bool
    """Whether the parameters name it now."""

    def as_json(self) -> dict[str, Any]:
        version, commit = self.listed.version, self.listed.commit
        return {
            "revisions": list(self.listed.names),
            "commit": commit.commit,
            "when": commit.when.isoformat(),
            "who": commit.who,
            "message": commit.message,
            "md5": version.md5 if version else None,
            "files": version.num_files if version else None,
            "bytes": version.num_bytes if version else None,
            "rows": self.contents.num_rows if self.contents else None,
            "classes": self.contents.num_classes if self.contents else None,
            "named": self.named,
            "problem": self.listed.problem,
        }


@dataclass(frozen=True, slots=True)
class SampleDifferences:
    """What differs between the packed samples of two versions."""

    before: PackedData
    after: PackedData
    before_artifact: Artifact
    after_artifact: Artifact
    changes: SampleChanges
    drifts: Mapping[str, Drift]
    """By column, of the earlier version's own bins."""
    drift_max: float
    """Of the parameters; what chance explains is allowed beyond it."""

    def moved(self, name: str) -> bool:
        """Whether a column drifted further than validation would let pass."""
        drift = self.drifts[name]
        return drift.psi > max(self.drift_max, drift.by_chance)


@dataclass(frozen=True, slots=True)
class DataStatus:
    """How the version that the parameters name stands."""

    version: DataVersion
    named: Listed | None
    in_cache: bool
    packed: str | None
    """Key of the data artifact that these parameters ask for; None if the store lacks it."""
    packed_otherwise: bool
    """Whether the store has it as other parameters, code or libraries packed it."""
    contents: Contents | None
    last_use: Use | None
    remote: Remote | None
    remote_problem: str
    """Why nothing is known of the remote; '' if it was asked or there is none."""
    newer: Sequence[Listed]

    def as_json(self) -> dict[str, Any]:
        version = {**asdict(self.version), "repository": without_credentials(self.version.repository)}
        return {
            **version,
            "in_data_cache": self.in_cache,
            "packed_key": self.packed,
            "packed_otherwise": self.packed_otherwise,
            "rows": self.contents.num_rows if self.contents else None,
            "classes": self.contents.num_classes if self.contents else None,
            "last_used": self.last_use.at.isoformat() if self.last_use else None,
            "last_used_by": self.last_use.run if self.last_use else None,
            "remote": asdict(self.remote) if self.remote else None,
            "remote_problem": self.remote_problem,
            "newer": [{"revisions": list(each.names), "commit": each.commit.commit} for each in self.newer],
        }


def version_rows(history: History, holdings: Holdings, named: DataVersion | None) -> list[VersionRow]:
    """A row for each version of *history*, with what *holdings* know of it; *named* is the parameters' own."""
    return [
        VersionRow(
            each,
            contents=holdings.contents(each.version) if each.version else None,
            named=named is not None and each.commit.commit == named.commit,
        )
        for each in history.listed
    ]


def version_list(section: DataParams, rows: Sequence[VersionRow], problem: str) -> Iterator[RenderableType]:
    """All versions, newest first; *problem* is why the parameters name none of them."""
    table = _table("", "revision", "content", "files", "size", "rows", "classes", left=("", "revision", "content"))
    table.columns[1].ratio = 1
    for row in rows:
        table.add_row(*_version_cells(row))
    yield table
    where = f"{section.path} of {without_credentials(section.repository)}"
    yield f"\n{counted(len(rows), 'version')} of {escape(where)}; → is data.revision {escape(repr(section.revision))}"
    if any(row.contents is None for row in rows):
        yield "[dim]rows and classes are known of versions that a run has packed[/]"
    if problem:
        yield f"[red]the parameters name none of them:[/] {escape(problem)}"


def _version_cells(row: VersionRow) -> tuple[str, ...]:
    version, contents, commit = row.listed.version, row.contents, row.listed.commit
    names = f"[bold]{escape(', '.join(row.listed.names))}[/]\n" if row.listed.names else ""
    about = (
        f"{names}{commit.commit[:SHORT]} {commit.when:%Y-%m-%d} {escape(commit.who)}\n[dim]{escape(commit.message)}[/]"
    )
    mark = "[green]→[/]" if row.named else ""
    if version is None:
        return (mark, about, "[yellow]none[/]")
    return (
        mark,
        about,
        version.md5[:SHORT],
        _number(version.num_files),
        NO_NUMBER if version.num_bytes is None else size(version.num_bytes),
        _number(contents.num_rows if contents else None),
        _number(contents.num_classes if contents else None),
    )


def difference(
    versions: Sequence[DataVersion], files: FileChanges, samples: SampleDifferences | None
) -> Iterator[RenderableType]:
    """What changed from the first of *versions* to the second."""
    yield facts(iter([*_both(versions), ("files", _file_counts(files)), *(_sample_counts(samples) if samples else ())]))
    for title, names in (("added", files.added), ("removed", files.removed), ("changed", files.changed)):
        if names:
            yield f"  {title}: {escape(some_of(names, limit=LISTED))}"
    if samples is not None:
        yield from _relabelled(samples)
        yield from _classes(versions, samples)
        yield from _drift_table(samples)


def _both(versions: Sequence[DataVersion]) -> Iterator[tuple[str, str]]:
    for name, version in zip(("before", "after"), versions, strict=True):
        yield name, f"{version.revision}  commit {version.commit[:SHORT]}  content {version.md5[:SHORT]}"


def _file_counts(files: FileChanges) -> str:
    return (
        f"{len(files.added):,} added, {len(files.removed):,} removed, {len(files.changed):,} changed, "
        f"{files.num_same:,} the same"
    )


def _sample_counts(samples: SampleDifferences) -> Iterator[tuple[str, str]]:
    changes = samples.changes
    yield (
        "samples",
        f"{len(changes.added):,} added, {len(changes.removed):,} removed, {len(changes.relabelled):,} relabelled, "
        f"{changes.num_same:,} the same",
    )
    yield "rows", f"{len(samples.before):,} → {len(samples.after):,} (copies of samples included)"


def _relabelled(samples: SampleDifferences) -> Iterator[RenderableType]:
    rows = relabelled_rows(samples, limit=LISTED)
    if not rows:
        return
    table = _table("relabelled sample", "before", "after", left=("relabelled sample", "before", "after"))
    for row in rows:
        table.add_row(escape(row["source"]), escape(row["before"]), escape(row["after"]))
    yield from ("", table)
    if len(samples.changes.relabelled) > len(rows):
        yield f"and {len(samples.changes.relabelled) - len(rows):,} more: --json lists all"


def _classes(versions: Sequence[DataVersion], samples: SampleDifferences) -> Iterator[RenderableType]:
    rows = class_rows(samples)
    if not rows:
        return
    most_changed = sorted(rows, key=lambda row: -abs(row["after"] - row["before"]))[:LISTED_CLASSES]
    shown = most_changed if len(rows) > LISTED_CLASSES else rows
    before, after = (version.revision[:16] for version in versions)
    table = _table("rows per class", escape(before), escape(after), "difference", left=("rows per class",))
    for row in shown:
        table.add_row(
            escape(row["class_name"]), f"{row['before']:,}", f"{row['after']:,}", f"{row['after'] - row['before']:+,}"
        )
    yield from ("", table)
    if len(rows) > LISTED_CLASSES:
        yield f"the {LISTED_CLASSES} of {len(rows):,} classes that changed most: --json lists all"


def _drift_table(samples: SampleDifferences) -> Iterator[RenderableType]:
    if not samples.drifts:
        return
    table = _table("drift of column", "PSI", "by chance", "", left=("drift of column", ""))
    for name, drift in sorted(samples.drifts.items(), key=lambda each: -each[1].psi):
        verdict = "[yellow]moved[/]" if samples.moved(name) else "stable"
        table.add_row(escape(name), f"{drift.psi:.4f}", f"{drift.by_chance:.4f}", verdict)
    yield from ("", table)
    yield (
        f"[dim]population stability index; moved: above {samples.drift_max:g} (validation.drift_max) and above what two "
        "samples of one population exceed once in a thousand times[/]"
    )


def difference_json(
    versions: Sequence[DataVersion], files: FileChanges, samples: SampleDifferences | None
) -> dict[str, Any]:
    """All of what changed, for programs."""
    before, after = (
        {"revision": version.revision, "commit": version.commit, "md5": version.md5} for version in versions
    )
    return {
        "before": before,
        "after": after,
        "files": {
            "added": files.added,
            "removed": files.removed,
            "changed": files.changed,
            "same": files.num_same,
        },
        "samples": _samples_json(samples) if samples else None,
    }


def _samples_json(samples: SampleDifferences) -> dict[str, Any]:
    changes = samples.changes
    return {
        "rows": {"before": len(samples.before), "after": len(samples.after)},
        "added": _sample_rows(samples.after, samples.after_artifact, changes.added),
        "removed": _sample_rows(samples.before, samples.before_artifact, changes.removed),
        "relabelled": relabelled_rows(samples),
        "same": changes.num_same,
        "classes": class_rows(samples),
        "drift": [
            {"column": name, **asdict(drift), "moved": samples.moved(name)} for name, drift in samples.drifts.items()
        ],
    }


def _sample_rows(packed: PackedData, artifact: Artifact, rows: Any) -> list[dict[str, str]]:
    from components.data.comparison import label_name

    sources = _sources(artifact) if len(rows) else []
    return [
        {
            "sample_id": packed.sample_ids[row].tobytes().hex(),
            "source": sources[row],
            "label": label_name(packed, row),
        }
        for row in rows.tolist()
    ]


def relabelled_rows(samples: SampleDifferences, limit: int | None = None) -> list[dict[str, str]]:
    """At most *limit* relabelled samples: id, where it lies now, label before and after."""
    from components.data.comparison import label_name

    pairs = samples.changes.relabelled[:limit].tolist()
    sources = _sources(samples.after_artifact) if pairs else []
    return [
        {
            "sample_id": samples.after.sample_ids[after].tobytes().hex(),
            "source": sources[after],
            "before": label_name(samples.before, before),
            "after": label_name(samples.after, after),
        }
        for before, after in pairs
    ]


def class_rows(samples: SampleDifferences) -> list[dict[str, Any]]:
    """Rows of each class before and after; nothing where labels are numbers."""
    from components.data.comparison import rows_per_class

    if "numbers" in (samples.before.spec.label_kind, samples.after.spec.label_kind):
        return []
    before, after = rows_per_class(samples.before), rows_per_class(samples.after)
    return [
        {"class_name": name, "before": before.get(name, 0), "after": after.get(name, 0)}
        for name in dict.fromkeys((*before, *after))
    ]


def _sources(artifact: Artifact) -> list[str]:
    import pyarrow.parquet as pq

    from components.data.packed import TABLE

    table = pq.read_table(artifact.file(TABLE), columns=["source"])
    return [str(source) for source in table.column("source").to_pylist()]


def written_lines(written: Written) -> Iterator[RenderableType]:
    """What a checkout wrote."""
    version = written.version
    yield (
        f"[green]written[/] {counted(written.num_files, 'file')}, {size(written.num_bytes)}, to {escape(str(written.folder))}"
    )
    yield f"  {escape(str(version))}, content {version.md5[:SHORT]}: every byte as DVC recorded it"


def status_page(status: DataStatus) -> Table:
    """How the version that the parameters name stands."""
    return facts(_status_facts(status))


def _status_facts(status: DataStatus) -> Iterator[tuple[str, str]]:
    version = status.version
    yield "data", f"{version.path} of {without_credentials(version.repository)}"
    yield "revision", version.revision
    yield "commit", f"{version.commit[:12]}{_commit_text(status.named)}"
    yield "content", ", ".join(_content_texts(status))
    yield "data cache", "a copy is there; its bytes are hashed when it is used" if status.in_cache else "not there yet"
    yield "store", _packed_text(status)
    yield "last used", _use_text(status.last_use)
    yield "remote", _remote_text(status)
    yield "newer", some_of([_newer_text(each) for each in status.newer], limit=LISTED) or "nothing"


def _commit_text(named: Listed | None) -> str:
    if named is None:
        return ""
    names = f"; {', '.join(named.names)}" if named.names else ""
    return f" of {_day(named.commit.when)} by {named.commit.who}{names}"


def _content_texts(status: DataStatus) -> Iterator[str]:
    version, contents = status.version, status.contents
    yield version.md5
    if version.num_files is not None:
        yield counted(version.num_files, "file")
    if version.num_bytes is not None:
        yield size(version.num_bytes)
    if contents:
        yield counted(contents.num_rows, "row")
        if contents.num_classes is not None:
            yield f"{contents.num_classes:,} classes"


def _packed_text(status: DataStatus) -> str:
    if status.packed:
        return f"packed, key {status.packed[:12]}"
    if status.packed_otherwise:
        return "packed by other parameters, code or libraries only; a run packs it again"
    return "not packed yet"


def _use_text(use: Use | None) -> str:
    if use is None:
        return "by no run that this store knows of"
    return f"{age(use.at)} ago{f' by {use.run}' if use.run else ''}"


def _remote_text(status: DataStatus) -> str:
    remote = status.remote
    if remote is None:
        return status.remote_problem or "the repository has none: these bytes lie on this machine alone"
    if remote.whole:
        return f"{remote.name}: has everything ({counted(remote.num_files, 'file')})"
    listing = ", and the list of all files" if remote.listing_missing else ""
    named = f" ({some_of(remote.missing)})" if remote.missing else ""
    return (
        f"{remote.name}: {len(remote.missing):,} of {counted(remote.num_files, 'file')} missing{named}{listing}; run "
        "`dvc push` where the data was added"
    )


def _newer_text(listed: Listed) -> str:
    return f"{'/'.join(listed.names) or listed.commit.commit[:SHORT]} of {_day(listed.commit.when)}"


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _number(value: int | None) -> str:
    return NO_NUMBER if value is None else f"{value:,}"


def _table(*titles: str, left: tuple[str, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(
            title, justify="left" if title in left else "right", overflow="fold", no_wrap=title not in left
        )
    return table
