"""`potstill lineage`, `diff` and `reproduce`: what exactly made a model, and whether it can be had again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from components import registry
from components.ancestry import Ancestry, ancestry_of, changed
from components.artifacts.store import Store
from components.errors import BadInputError, PotstillError
from components.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS
from components.settings import Settings
from flows.promotion_commands import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from rich.tree import Tree

    from components.registry import RegisteredVersion

SHORT = 12
COMPARED = ("data", "teacher", "soft_targets", "student", "evaluate")
"""Steps whose results a reproduction compares; what was measured of time and place is outside their digests."""
PATHS = frozenset({"repository", "file", "folder"})
"""Parameters that may say where something lies on this machine."""
REMAKE = """\
import json, sys
from pathlib import Path
from flows.run import open_run
from components.steps.pipeline import ORDER
run = open_run(Path("params.yaml"), (), name="reproduction")
for name in ORDER:
    if name != "export":
        run.step(name)
artifacts = run.artifacts()
found = {name: artifact.digest for name, artifact in artifacts.items()}
print(json.dumps({"digests": found, "metrics": artifacts["evaluate"].read_json("metrics.json")["student"]}))
"""


def version_of(place: Place, named: str) -> RegisteredVersion:
    """A version by its number or alias (champion, previous, challenger); BadInputError where there is none."""
    if named.isdigit():
        found = registry.get_version(place.tracking_uri, place.model, named)
    else:
        found = registry.current(place.tracking_uri, place.model, named)
    if found is None:
        raise BadInputError(
            f"{place.model!r} has no version {named!r}; a number, or one of {CHAMPION}, {PREVIOUS}, {CHALLENGER} if it stands"
        )
    return found


def lineage_of(place: Place, named: str) -> Ancestry:
    version = version_of(place, named)
    return ancestry_of(version, Store(Settings()), place.journal.lines(place.model))


def show_lineage(place: Place, named: str, *, as_json: bool) -> None:
    """Print the whole chain, as a tree or as JSON."""
    from rich.console import Console

    found = lineage_of(place, named)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, sort_keys=True))  # noqa: T201 (for programs)
        return
    console = Console()
    console.print(lineage_tree(found))
    spared = f", of which its run found {found.found_seconds:.1f} s done" if found.found_seconds else ""
    console.print(f"all of it took {found.seconds:.1f} s{spared}", highlight=False)


def lineage_tree(found: Ancestry) -> Tree:
    """From the version down to the data, each with what names it for good."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(f"{found.version.name} version {found.version.version}", style="bold"), guide_style="dim")
    for title, rows in _branches(found):
        branch = root.add(Text(title, style="cyan"))
        for row in rows:
            branch.add(Text(row))
    return root


def _branches(found: Ancestry) -> Iterator[tuple[str, Sequence[str]]]:
    yield "decided", [_told(line) for line in found.lines] or ["never champion"]
    deployment = found.tag("flow_run.deployment")
    by = f"scheduled by {deployment}" if deployment else "started by hand"
    yield "run", [f"{found.tag('flow_run.name')} ({found.tag('flow_run.id') or 'without Prefect'}), {by}"]
    for each in reversed(found.ancestors):
        seconds = "no longer in the store" if each.seconds is None else f"{each.seconds:.1f} s, made by {each.producer}"
        details = [f"digest {each.digest[:SHORT]}  key {each.key[:SHORT]}", seconds]
        if each.step == "data":
            details += [f"{found.tag('data.repository')} {found.tag('data.path')}", f"revision {found.tag('data.revision')}, "
                        f"commit {found.tag('data.commit')[:SHORT]}, content {found.tag('data.md5')}"]  # fmt: skip
        yield each.step.replace("_", " "), details
    dirty = " with uncommitted changes" if found.tag("code.dirty") == "true" else ""
    yield "code", [f"commit {found.tag('code.commit')[:SHORT]}{dirty}, digest {found.tag('code.digest')[:SHORT]}"]
    yield "parameters", [f"sha256 {found.tag('params.sha256')[:SHORT]}"]
    yield "packages", [f"constraints.txt sha256 {found.tag('lock.sha256')[:SHORT] or 'unknown'}"]


def _told(line: Any) -> str:
    return f"{line.at[:16].replace('T', ' ')} UTC  {line.kind}: {line.previous_version or '–'} → {line.version} by {line.who}"


def show_difference(place: Place, first: str, second: str, *, as_json: bool) -> None:
    """What differs between two versions: data, code, parameters, results, and how often they disagree."""
    from rich.console import Console

    found = difference(place, first, second)
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))  # noqa: T201 (for programs)
        return
    Console().print(difference_table(found, first, second))


def difference(place: Place, first: str, second: str) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Chapter -> name -> both values; chapters without a difference are empty."""
    ours, theirs = lineage_of(place, first), lineage_of(place, second)
    tags = {each: (ours.tag(each), theirs.tag(each)) for each in sorted({*ours.version.tags, *theirs.version.tags})}
    parameters = (registry.parameters_of(each.version.uri, place.tracking_uri) for each in (ours, theirs))
    chapters = ("data", "code", "lock")
    found = {
        chapter: {name: pair for name, pair in tags.items() if name.startswith(f"{chapter}.") and pair[0] != pair[1]}
        for chapter in chapters
    }
    results = {f"{name}.digest": tags.get(f"{name}.digest", ("", "")) for name in COMPARED}
    return {
        **found,
        "parameters": changed(*parameters),
        "results": {name: pair for name, pair in results.items() if pair[0] != pair[1]},
        "predictions": _predictions(ours, theirs),
    }


def _predictions(ours: Ancestry, theirs: Ancestry) -> dict[str, tuple[Any, Any]]:
    """Metrics of both as `evaluate` measured them, and the test samples on which their predictions differ."""
    import numpy as np

    store = Store(Settings())
    keys = [each.tag("evaluate.key") for each in (ours, theirs)]
    evaluations = [store.find("evaluate", key) if key else None for key in keys]
    if evaluations[0] is None or evaluations[1] is None:
        return {"evaluation": tuple("in the store" if each else "not in the store" for each in evaluations)}  # type: ignore[dict-item]
    measured = [each.read_json("metrics.json") for each in evaluations if each]
    names = [name for name, value in measured[0]["student"].items() if isinstance(value, float)]
    found: dict[str, tuple[Any, Any]] = {
        name: (measured[0]["student"][name], measured[1]["student"].get(name)) for name in names
    }
    if measured[0]["holdout"]["digest"] != measured[1]["holdout"]["digest"]:
        return {**found, "holdout": tuple(each["holdout"]["digest"][:SHORT] for each in measured)}
    outputs = [np.load(each.file("logits_student.npy"), allow_pickle=False) for each in evaluations if each]
    labels, rows = (np.load(evaluations[0].file(name), allow_pickle=False) for name in ("labels.npy", "test_rows.npy"))
    if labels.dtype.kind == "f":
        distance = float(np.abs(outputs[0] - outputs[1]).mean())
        return {**found, f"mean distance of predictions, of {len(rows)}": (distance, "")}
    apart = np.flatnonzero(outputs[0].argmax(1) != outputs[1].argmax(1))
    shown = ", ".join(map(str, rows[apart][:10])) + (" …" if len(apart) > 10 else "")
    return {**found, f"different predictions, of {len(rows)}": (len(apart), f"rows {shown}" if len(apart) else "none")}


def difference_table(found: Mapping[str, Mapping[str, tuple[Any, Any]]], first: str, second: str) -> Table:
    """A row a difference."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column(first, overflow="fold")
    table.add_column(second, overflow="fold")
    for chapter, rows in found.items():
        table.add_row(f"[bold]{chapter}[/]", *(() if rows else ("the same",)))
        for name, pair in rows.items():
            table.add_row(f"  {name}", *map(_short, pair))
    return table


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text[:SHORT] if len(text) in (32, 40, 64) else text


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What making a version again came to."""

    digests: Mapping[str, tuple[str, str]]
    """Step -> as registered, as made again."""
    metrics: Mapping[str, tuple[float, float]]
    """Of the student, likewise; empty where the registered ones are not in the store."""
    same_fingerprint: bool

    @property
    def equal(self) -> bool:
        return all(ours == theirs for ours, theirs in self.digests.values())

    def within(self, tolerance: float) -> bool:
        return all(abs(ours - theirs) <= tolerance for ours, theirs in self.metrics.values())


def reproduce(place: Place, named: str, *, threads: int | None, say: Callable[[str], None]) -> Reproduction:
    """Make a version again from its commits of code and data, in a scratch place and without the cache.

    Raises BadInputError where its code is not in this repository or was not committed, and PotstillError with the last
    lines of what was said where a step fails.
    """
    found = lineage_of(place, named)
    if found.tag("code.dirty") == "true":
        raise BadInputError(
            f"{place.model} version {found.version.version} was made by uncommitted code: it cannot be had again"
        )
    params = dict(registry.parameters_of(found.version.uri, place.tracking_uri))
    params["data"] = {**params["data"], "revision": found.tag("data.commit")}
    say(
        f"code {found.tag('code.commit')[:SHORT]}, data {found.tag('data.commit')[:SHORT]}: made again without the cache"
    )
    with _worktree(found.tag("code.commit")) as folder:
        (folder / "params.yaml").write_text(yaml.safe_dump(_rooted(params), sort_keys=False), encoding="utf-8")
        made = _made_again(folder, place.tracking_uri, threads)
    return _compared(found, made)


def _rooted(tree: Any) -> Any:
    """With every local path as it is found from here, since the scratch place lies elsewhere."""
    from components.settings import find_local

    if isinstance(tree, list):
        return [_rooted(value) for value in tree]
    if not isinstance(tree, Mapping):
        return tree
    local = {name: find_local(value) for name, value in tree.items() if name in PATHS and isinstance(value, str)}
    return {name: str(local[name].resolve()) if local.get(name) else _rooted(value) for name, value in tree.items()}  # type: ignore[union-attr]


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    """The code at *commit*, in a folder that goes away again."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        folder = Path(scratch) / "code"
        done = subprocess.run(
            ["git", "-C", str(root), "worktree", "add", "--detach", str(folder), commit],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1]
            raise BadInputError(
                f"the code of commit {commit[:SHORT]} is not to be had from {root}: {why}; fetch it first"
            )
        try:
            yield folder
        finally:
            subprocess.run(
                ["git", "-C", str(root), "worktree", "remove", "--force", str(folder)], capture_output=True, check=False
            )


def _made_again(folder: Path, tracking_uri: str, threads: int | None) -> Mapping[str, Any]:
    """MLflow is there for a teacher that comes from it; nothing is logged."""
    settings = Settings()
    kept = {name: value for name, value in os.environ.items() if name != "POTSTILL_STORE"}
    environment = {
        **kept,
        "PYTHONPATH": str(folder),
        "POTSTILL_VAR_DIR": str(folder / "var"),
        "MLFLOW_TRACKING_URI": tracking_uri,
        **({"POTSTILL_NUM_THREADS": str(threads)} if threads else {}),
    }
    if settings.data_cache.exists():  # what was fetched once is verified again, not fetched again
        (folder / "var" / "cache").mkdir(parents=True)
        (folder / "var" / "cache" / "data").symlink_to(settings.data_cache.absolute())
    done = subprocess.run(
        [sys.executable, "-c", REMAKE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PotstillError("making it again failed: " + " / ".join(done.stderr.strip().splitlines()[-2:]))
    made: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return made


def _compared(found: Ancestry, made: Mapping[str, Any]) -> Reproduction:
    from components.artifacts.fingerprint import fingerprint

    digests = {
        step: (found.tag(f"{step}.digest"), made["digests"][step]) for step in COMPARED if found.tag(f"{step}.digest")
    }
    student = next((each.manifest for each in found.ancestors if each.step == "student"), None)
    evaluation = Store(Settings()).find("evaluate", found.tag("evaluate.key")) if found.tag("evaluate.key") else None
    before = evaluation.read_json("metrics.json")["student"] if evaluation else {}
    metrics = {name: (before[name], made["metrics"][name]) for name in before if isinstance(before[name], float)}
    same = bool(student and dict(student.fingerprint) == dict(fingerprint(Settings())))
    return Reproduction(digests, metrics, same)


def print_reproduction(found: Reproduction, tolerance: float) -> int:
    """A row a result; exit code 0 where all is equal or within *tolerance*, else 1."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "registered", "made again", "", box=None, pad_edge=False, header_style="bold")
    for step, (ours, theirs) in found.digests.items():
        table.add_row(
            step, ours[:SHORT], theirs[:SHORT], "[green]equal[/]" if ours == theirs else "[yellow]other bits[/]"
        )
    for name, (before, after) in {} if found.equal else found.metrics.items():
        near = abs(before - after) <= tolerance
        table.add_row(name, f"{before:.6g}", f"{after:.6g}", f"[{'green' if near else 'red'}]{after - before:+.2g}[/]")
    console = Console()
    console.print(table)
    console.print(f"[bold]{_verdict(found, tolerance)}[/]", highlight=False)
    return 0 if found.equal or (found.metrics and found.within(tolerance)) else 1


def _verdict(found: Reproduction, tolerance: float) -> str:
    if found.equal:
        return "reproduced: every digest is equal"
    elsewhere = "on another machine, build or number of threads"
    where = "on this machine and build, which made it" if found.same_fingerprint else elsewhere
    if not found.metrics:
        return f"other bits {where}, and the registered metrics are not in the store: nothing to compare with"
    if found.within(tolerance):
        return f"reproduced within {tolerance:g}: other bits {where}, every metric within the tolerance"
    return f"NOT reproduced: other bits {where}, and a metric differs by more than {tolerance:g}"
