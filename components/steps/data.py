"""The data step: one data version, checked out, decoded, split and packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components import plugins
from components.contracts import DecodedSamples, Progress, Resolved
from components.data import versions
from components.data._git import without_credentials
from components.errors import DataDamagedError, SplitError, some_of
from components.params import IndexSplit, Params
from components.settings import find_local
from components.steps.step import Step, StepContext, World


def _reads(params: Params) -> Mapping[str, Any]:
    """Where the data lies is no part of the key, since its content hash is; so with the index file."""
    section = params.data.model_dump(mode="json", exclude={"repository", "path", "revision"})
    if params.data.split.by == "index":
        del section["split"]["file"]
    return section


def _plugins(params: Params) -> Sequence[str]:
    return (plugins.module_name("formats", params.data.format.name),)


def _resolve(world: World) -> Resolved:
    data = world.params.data
    version = versions.resolve(data.repository, data.path, data.revision, cache=world.settings.data_cache)
    facts: dict[str, Any] = {"md5": version.md5}
    if not version.is_directory:
        # The formats read the name of a lone file too: its ending, its split.
        facts["file"] = Path(version.path).name
    if isinstance(data.split, IndexSplit):
        facts["index_sha256"] = _index_sha256(data.split)
    notes = {
        "repository": without_credentials(version.repository),
        "path": version.path,
        "revision": version.revision,
        "commit": version.commit,
    }
    return Resolved(facts, notes)


def _index_file(split: IndexSplit) -> Path:
    found = find_local(split.file)
    if found is None:
        raise SplitError(f"data.split.file {split.file} does not exist (looked from {Path.cwd()})")
    return found


def _index_sha256(split: IndexSplit) -> str:
    from components.artifacts.artifact import sha256_of

    try:
        return sha256_of(_index_file(split))
    except OSError as error:
        raise SplitError(f"data.split.file {split.file} cannot be read: {error}") from error


def _run(ctx: StepContext) -> None:
    from components.data.packing import check_decoded, write_packed
    from components.data.splits import split_samples
    from components.sample_ids import sample_ids

    data = ctx.params.data
    notes = ctx.resolved.notes
    version = versions.DataVersion(
        data.repository, notes["path"], notes["revision"], notes["commit"], ctx.resolved.facts["md5"]
    )
    ctx.progress.say(f"data {version}")
    folder = versions.checkout(version, cache=ctx.settings.data_cache, say=ctx.progress.say)
    ctx.progress.check()
    decoded = data.format.read(folder)
    for note in decoded.notes:
        ctx.progress.say(note)
    _judge_damage(decoded, data.on_damaged, ctx.progress)
    check_decoded(decoded)
    ids = sample_ids(decoded.samples)
    splits = split_samples(
        decoded,
        ids,
        data.split,
        on_duplicate=data.on_duplicate,
        min_per_class=data.min_per_class,
        index_file=_index_file(data.split) if isinstance(data.split, IndexSplit) else None,
    )
    _say_copies(splits.dropped, splits.conflicting, ctx.progress)
    ctx.progress.check()
    write_packed(ctx.out, decoded, ids, splits)


def _judge_damage(decoded: DecodedSamples, on_damaged: str, progress: Progress) -> None:
    if not decoded.damaged:
        return
    message = f"{len(decoded.damaged)} of {len(decoded.damaged) + len(decoded.samples)} samples cannot be decoded: "
    if on_damaged == "refuse":
        raise DataDamagedError(f"{message}{some_of(decoded.damaged)}. Repair them, or set data.on_damaged=skip")
    progress.say(f"{message}{some_of(decoded.damaged)}; skipped, and listed in data.json")


def _say_copies(dropped: Sequence[str], conflicting: Sequence[str], progress: Progress) -> None:
    if dropped:
        progress.say(f"{len(dropped)} copies of other samples left out: {some_of(dropped)}")
    if conflicting:
        progress.say(f"{len(conflicting)} copies have another label than the one that was kept: {some_of(conflicting)}")


STEP = Step(
    name="data",
    title="check out, decode and split the data",
    inputs=(),
    reads=_reads,
    run=_run,
    libraries=("numpy", "pillow", "pyarrow"),
    plugins=_plugins,
    resolve=_resolve,
)
