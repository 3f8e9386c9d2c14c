"""`potstill data …`: which versions of the data there are, what changed between two, a copy of one, how one stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.output import DEFAULT_PARAMS, Json, Overrides, ParamsFile, print_all, print_json, progress_on_stderr

if TYPE_CHECKING:
    from components.artifacts.artifact import Artifact
    from components.data._dvc import Remote
    from components.data.holdings import Holdings
    from components.data.versions import DataVersion
    from components.params import Params
    from components.validation.profile import Drift
    from flows.data_tables import DataStatus, SampleDifferences
    from flows.run import Run

data = typer.Typer(no_args_is_help=True, help="Look at versions of the data: list, compare, copy out.")

Before = Annotated[str, typer.Argument(metavar="BEFORE", help="Tag, branch or commit of the data.")]
After = Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")]
Revision = Annotated[str, typer.Argument(metavar="REV", help="Tag, branch or commit of the data.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or an empty one.")]
FilesOnly = Annotated[
    bool, typer.Option("--files-only", help="Compare the files alone; nothing is fetched or decoded.")
]


@data.command("versions")
def list_versions(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, as_json: Json = False) -> None:
    """List tags, branches and the commits at which the data changed, newest first.

    Rows and classes are those of versions that a run has packed already; nothing is fetched or computed for the list.
    """
    from components.data.history import history
    from flows import data_tables

    run = _open(params, set_)
    section = run.params.data
    named, problem = _named(run)
    found = history(
        section.repository,
        section.path,
        cache=run.settings.data_cache,
        say=_beside,
        also=named.commit if named else None,
    )
    rows = data_tables.version_rows(found, _holdings(run), named)
    if as_json:
        print_json({"named": section.revision, "problem": problem, "versions": [row.as_json() for row in rows]})
    else:
        print_all(*data_tables.version_list(section, rows, problem))


@data.command("diff")
def compare_versions(
    before: Before,
    after: After,
    *,
    files_only: FilesOnly = False,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say what changed between two versions: files, samples, labels, rows of each class, drift of each column.

    Both are packed as a run would pack them, unless the store has them or --files-only is given.
    """
    from components.data.comparison import compare_files
    from components.data.versions import files_of
    from flows import data_tables

    opened = [_open(params, set_, revision) for revision in (before, after)]
    versions = [_version(run) for run in opened]
    files = compare_files(*map(files_of, versions))
    samples = None if files_only else _sample_differences(params, set_, versions)
    if as_json:
        print_json(data_tables.difference_json(versions, files, samples))
    else:
        print_all(*data_tables.difference(versions, files, samples))


@data.command("checkout")
def check_out(revision: Revision, folder: Folder, params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None) -> None:
    """Write a copy of a version into a folder of your own: writable, every byte verified, all of it or nothing.

    The working tree of the repository is left alone.
    """
    from components.data.copies import write_copy
    from flows import data_tables

    with progress_on_stderr() as progress:
        run = _open(params, set_, revision)
        written = write_copy(_version(run), folder, cache=run.settings.data_cache, progress=progress)
    print_all(*data_tables.written_lines(written))


@data.command("status")
def show_status(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, as_json: Json = False) -> None:
    """Say which version the parameters mean now, where its bytes are, who used it last, and whether there is a newer one."""
    from flows import data_tables

    status = _status(_open(params, set_))
    if as_json:
        print_json(status.as_json())
    else:
        print_all(data_tables.status_page(status))


def _open(params_file: Path, overrides: Sequence[str] | None, revision: str | None = None) -> Run:
    """What the parameters say, with another *revision* of the data if one is given."""
    from flows.run import open_run

    chosen = () if revision is None else (f"data.revision={revision!r}",)
    return open_run(params_file, (*(overrides or ()), *chosen), name="data diff")


def _version(run: Run) -> DataVersion:
    from components.data.versions import resolve

    section = run.params.data
    return resolve(section.repository, section.path, section.revision, cache=run.settings.data_cache)


def _named(run: Run) -> tuple[DataVersion | None, str]:
    """The version that the parameters name, or why they name none; a repository that is none is an error."""
    from components.data._git import locate
    from components.errors import DataNotFoundError

    locate(run.params.data.repository)
    try:
        return _version(run), ""
    except DataNotFoundError as error:
        return None, str(error)


def _status(run: Run) -> DataStatus:
    from components.data.history import history
    from components.data.versions import is_checked_out
    from flows.asked_for import keys_asked_for
    from flows.data_tables import DataStatus

    version, holdings = _version(run), _holdings(run)
    found = history(version.repository, version.path, cache=run.settings.data_cache, say=_beside, also=version.commit)
    remote, problem = _remote(version)
    key = next(keys_asked_for(run, "data")).digest
    return DataStatus(
        version=version,
        named=next((each for each in found.listed if each.commit.commit == version.commit), None),
        in_cache=is_checked_out(version, cache=run.settings.data_cache),
        packed=key if run.store.storage.manifest("data", key) else None,
        packed_otherwise=any(each.key != key for each in holdings.of(version)),
        contents=holdings.contents(version),
        last_use=holdings.last_use(version),
        remote=remote,
        remote_problem=problem,
        newer=found.newer_than(version),
    )


def _beside(message: str) -> None:
    typer.echo(message, err=True)


def _remote(version: DataVersion) -> tuple[Remote | None, str]:
    """What the remote has, or why that is not known; the rest of the status is good without it."""
    from components.data.versions import in_remote
    from components.errors import DataNotFoundError, ServerError

    try:
        return in_remote(version), ""
    except (DataNotFoundError, ServerError) as error:
        return None, str(error)


def _holdings(run: Run) -> Holdings:
    from components.data.holdings import holdings
    from components.steps.data import STEP

    return holdings(run.store, STEP.reads(run.params))


def _sample_differences(
    params: Path, overrides: Sequence[str] | None, versions: Sequence[DataVersion]
) -> SampleDifferences:
    """Of the packed versions, which the data step finds or makes."""
    from components.data.comparison import compare_samples
    from components.data.packed import open_packed
    from flows.data_tables import SampleDifferences
    from flows.run import PROGRESS

    with progress_on_stderr() as progress:
        PROGRESS.set(progress)
        # By commit, so that a branch that moves meanwhile is the same for files and samples.
        runs = [_open(params, overrides, version.commit) for version in versions]
        artifacts = [run.step("data").artifact for run in runs]
        before, after = map(open_packed, artifacts)
        progress.check()
        changes = compare_samples(before, after)
        moved = _drifts(artifacts, runs[0].params)
    return SampleDifferences(
        before, after, artifacts[0], artifacts[1], changes, moved, runs[0].params.validation.drift_max
    )


def _drifts(artifacts: Sequence[Artifact], params: Params) -> dict[str, Drift]:
    """Of every column of the samples, as the validate step measures it."""
    from components.steps.validate import read_table
    from components.validation.profile import drifts, plain, profile

    before, after = (plain(read_table(artifact, params.workload.build())) for artifact in artifacts)
    return drifts(profile(before), after)
