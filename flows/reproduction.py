"""`potstill reproduce`: make a registered model again from its commits of code and data, and compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components import registry
from components.ancestry import Ancestry
from components.errors import BadInputError, PotstillError
from components.settings import Settings, find_local
from flows.lineage_commands import SHORT, lineage_of
from flows.promotion_commands import Place

COMPARED = ("data", "teacher", "fold_teachers", "soft_targets", "student", "evaluate")
"""Steps whose results are compared; what was measured of time and place is outside their digests."""
PATHS = frozenset({"repository", "file", "folder"})
"""Parameters that may say where something lies on this machine."""
# Earlier commits run this too: it calls only what they have always had.
REMAKE = """\
import json, sys
from pathlib import Path
from components.artifacts.fingerprint import fingerprint
from components.steps.pipeline import ORDER
from flows.run import open_run
def tell(**what):
    print(json.dumps(what), flush=True)
run = open_run(Path("params.yaml"), (), name="reproduction")
for name in ORDER:
    if name != "export":
        outcome = run.step(name)
        tell(made=name, digest=outcome.artifact.digest, seconds=outcome.seconds)
measured = run.artifacts()["evaluate"].read_json("metrics.json")["student"]
tell(metrics=measured, fingerprint=dict(fingerprint(run.settings)))
"""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What making a version again came to."""

    digests: Mapping[str, tuple[str, str]]
    """Step -> as registered, as made again."""
    metrics: Mapping[str, tuple[float, float]]
    """Of the student, likewise; empty where nobody knows the registered ones."""
    elsewhere: tuple[str, ...] | None
    """What of machine and builds is another, in words; None where nobody knows on what it was made."""

    @property
    def equal(self) -> bool:
        return all(ours == theirs for ours, theirs in self.digests.values())

    def within(self, tolerance: float) -> bool:
        return all(apart(*pair) <= tolerance for pair in self.metrics.values())


def apart(before: float, after: float) -> float:
    """Their distance, relative where the first is larger than 1."""
    return abs(after - before) / max(1.0, abs(before))


def reproduce(place: Place, named: str, *, threads: int | None, say: Callable[[str], None]) -> Reproduction:
    """Make a version again from its commits of code and data, in a scratch place and without the cache.

    With as many threads as made it, unless *threads* says otherwise. Raises BadInputError where its code is not in this
    repository or was not committed, DataNotFoundError where its data is not to be had, and PotstillError with the last
    lines of what was said where a step fails.
    """
    found = lineage_of(place, named)
    if found.tag(registry.DIRTY_TAG) == "true":
        raise BadInputError(
            f"{place.model} version {found.version.version} was made by uncommitted code: it cannot be had again"
        )
    _demand_data(found)
    student = found.ancestor("student")
    threads = threads or (int(student.fingerprint.get("threads", 0)) if student else 0)
    of_threads = f", {threads} thread{'s' * (threads > 1)}" if threads else ""
    code, data = found.tag("code.commit")[:SHORT], found.tag("data.commit")[:SHORT]
    say(f"code {code}, data {data}{of_threads}: made again without the cache")
    with _worktree(found.tag("code.commit")) as folder:
        (folder / "params.yaml").write_text(yaml.safe_dump(pinned(found), sort_keys=False), encoding="utf-8")
        made = _made_again(folder, place.tracking_uri, threads, say)
    return _compared(found, made)


def _demand_data(found: Ancestry) -> None:
    """Before anything is computed."""
    from components.data.versions import resolve

    data = found.parameters["data"]
    resolve(data["repository"], data["path"], found.tag("data.commit"), cache=Settings().data_cache)


def pinned(found: Ancestry) -> dict[str, Any]:
    """Its parameters, with commits and versions in place of the names that may mean something else by now."""
    params = json.loads(json.dumps(dict(found.parameters)))
    params["data"]["revision"] = found.tag("data.commit")
    source = params["teacher"]["source"]
    registered = [each for each in (source, *source.get("members", ())) if each["kind"] == "mlflow"]
    for each, uri in zip(registered, json.loads(found.tag("teacher.uris") or "[]"), strict=False):
        each["uri"] = uri
    rooted: dict[str, Any] = _rooted(params)
    return rooted


def _rooted(tree: Any) -> Any:
    """With every local path as it is found from here, since the scratch place lies elsewhere."""
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


def _made_again(folder: Path, tracking_uri: str, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Step by step in a process of that code. MLflow is there for a teacher that comes from it; nothing is logged."""
    _share_data(folder)
    made: dict[str, Any] = {"digests": {}}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        with subprocess.Popen(
            [sys.executable, "-c", REMAKE],
            cwd=folder,
            env=_environment(folder, tracking_uri, threads),
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process:
            assert process.stdout is not None
            for told in _told(process.stdout):
                if "made" in told:
                    made["digests"][told["made"]] = told["digest"]
                    say(f"  {told['made'].replace('_', ' ')}: {told['seconds']:.1f} s")
                else:
                    made |= told
        if process.returncode:
            complaints.seek(0)
            said = complaints.read().strip().splitlines()[-2:] or [f"its process ended with {process.returncode}"]
            raise PotstillError(f"making it again failed: {' / '.join(said)}")
    return made


def _told(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What the process says to this one, among whatever else its libraries print."""
    for line in lines:
        if line.startswith(('{"made"', '{"metrics"')):
            yield json.loads(line)


def _share_data(folder: Path) -> None:
    """What was fetched once is verified again, not fetched again."""
    data_cache = Settings().data_cache
    if data_cache.exists():
        (folder / "var" / "cache").mkdir(parents=True)
        (folder / "var" / "cache" / "data").symlink_to(data_cache.absolute())


def _environment(folder: Path, tracking_uri: str, threads: int) -> dict[str, str]:
    """A user's own package stays on the path, behind the code of that commit."""
    kept = {name: value for name, value in os.environ.items() if name != "POTSTILL_STORE"}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", "")))),
        "POTSTILL_VAR_DIR": str(folder / "var"),
        "MLFLOW_TRACKING_URI": tracking_uri,
        **({"POTSTILL_NUM_THREADS": str(threads)} if threads else {}),
    }


def _compared(found: Ancestry, made: Mapping[str, Any]) -> Reproduction:
    digests = {
        step: (found.tag(f"{step}.digest"), made["digests"][step]) for step in COMPARED if found.tag(f"{step}.digest")
    }
    student, evaluation = found.ancestor("student"), found.ancestor("evaluate")
    before = evaluation.metrics if evaluation else {}
    metrics = {
        name: (before[f"student/{name}"], value)
        for name, value in made["metrics"].items()
        if isinstance(value, float) and f"student/{name}" in before
    }
    machine = student.fingerprint if student else {}
    return Reproduction(digests, metrics, _elsewhere(machine, made["fingerprint"]) if machine else None)


def _elsewhere(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{name} {after.get(name)} instead of {before.get(name)}"
        for name in before
        if before.get(name) != after.get(name)
    )


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
        colour = "green" if apart(before, after) <= tolerance else "red"
        table.add_row(name, f"{before:.6g}", f"{after:.6g}", f"[{colour}]{after - before:+.2g}[/]")
    console = Console()
    console.print(table)
    console.print(f"[bold]{verdict(found, tolerance)}[/]", highlight=False)
    return 0 if found.equal or (found.metrics and found.within(tolerance)) else 1


def verdict(found: Reproduction, tolerance: float) -> str:
    """The last line: reproduced, within the tolerance, or not."""
    if found.equal:
        return "reproduced: every digest is equal"
    bits = f"other bits {_where(found.elsewhere)}"
    if not found.metrics:
        return f"NOT reproduced: {bits}, and MLflow does not know the registered metrics: nothing to compare with"
    if found.within(tolerance):
        return f"reproduced within {tolerance:g}: {bits}, every metric within the tolerance"
    return f"NOT reproduced: {bits}, and a metric differs by more than {tolerance:g}"


def _where(elsewhere: tuple[str, ...] | None) -> str:
    if elsewhere is None:
        return "(nobody knows on what machine and builds it was made)"
    return f"with {', '.join(elsewhere)}" if elsewhere else "on the very machine and builds that made it"
