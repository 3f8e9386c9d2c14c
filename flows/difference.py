"""`potstill diff`: what differs between two registered versions, down to the samples on which they disagree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.ancestry import STEPS, Ancestry, changed
from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.settings import Settings
from flows.lineage_commands import SHORT, lineage_of
from flows.promotion_commands import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

Pair = tuple[Any, Any]
LISTED = 10
"""Samples that are named one by one."""
CHAPTERS = {
    "data": ("repository", "path", "revision", "commit", "md5"),
    "code": ("commit", "dirty"),
    "lock": ("sha256",),
}
"""Tags by what they are about; digests have a chapter of their own."""


def show_difference(place: Place, first: str, second: str, *, as_json: bool) -> None:
    """Print what differs between two versions, as a table or as JSON."""
    from rich.console import Console

    found = difference(place, first, second)
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))  # noqa: T201 (for programs)
        return
    Console().print(difference_table(found, first, second))


def difference(place: Place, first: str, second: str) -> dict[str, dict[str, Pair]]:
    """Chapter -> name -> both values; chapters without a difference are empty."""
    ours, theirs = lineage_of(place, first), lineage_of(place, second)
    tags = {
        chapter: _tags(ours, theirs, [f"{chapter}.{name}" for name in names]) for chapter, names in CHAPTERS.items()
    }
    tags["code"] |= _modules(ours, theirs)
    return {
        **tags,
        "parameters": changed(ours.parameters, theirs.parameters),
        "results": _tags(ours, theirs, [f"{step}.digest" for step in STEPS]),
        "metrics": _metrics(ours, theirs),
        "predictions": predictions(ours, theirs),
    }


def _tags(ours: Ancestry, theirs: Ancestry, names: Sequence[str]) -> dict[str, Pair]:
    return _differing((name, (ours.tag(name), theirs.tag(name))) for name in names)


def _differing(pairs: Iterable[tuple[str, Pair]]) -> dict[str, Pair]:
    return {name: pair for name, pair in pairs if pair[0] != pair[1]}


def _modules(ours: Ancestry, theirs: Ancestry) -> dict[str, Pair]:
    """Modules of which another code computed the results, where the store of this place still has both."""
    codes = [_code(each) for each in (ours, theirs)]
    if not all(codes):
        return _tags(ours, theirs, ["code.digest"])
    return _differing(
        (name, (codes[0].get(name, ""), codes[1].get(name, ""))) for name in sorted({*codes[0], *codes[1]})
    )


def _code(found: Ancestry) -> dict[str, str]:
    """Module -> digest of its code, of all steps; empty where one is no longer in the store."""
    store = Store(Settings())
    manifests = [store.storage.manifest(each.step, each.key) for each in found.ancestors]
    if not all(manifests):
        return {}
    return {name: code for each in manifests if each for name, code in each.fields["code"].items()}


def _metrics(ours: Ancestry, theirs: Ancestry) -> dict[str, Pair]:
    """Of the students on their test splits, which may be different ones."""
    measured = [each.metrics if (each := found.ancestor("evaluate")) else {} for found in (ours, theirs)]
    names = sorted({name for each in measured for name in each if name.startswith("student/")})
    told = ((name.removeprefix("student/"), (measured[0].get(name), measured[1].get(name))) for name in names)
    size = "holdout/num_rows"
    return _differing([*told, ("test samples", (measured[0].get(size), measured[1].get(size)))])


def predictions(ours: Ancestry, theirs: Ancestry) -> dict[str, Pair]:
    """On the test samples that both were measured on: how often, and where, they say something else."""
    import numpy as np

    store = Store(Settings())
    first, second = (_evaluated(store, each) for each in (ours, theirs))
    if first is None or second is None:
        return {"evaluation": (_whether_stored(first), _whether_stored(second))}
    _, ours_at, theirs_at = np.intersect1d(first.ids, second.ids, return_indices=True)
    if not len(ours_at):
        return {"test samples in common": (0, 0)}
    order = np.argsort(ours_at)
    seen, said = first.at(ours_at[order]), second.outputs[theirs_at[order]]
    if seen.labels.dtype.kind == "f":
        return _distances(seen, said)
    return _disagreements(seen, said, _class_names(store, ours))


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What one student said of its test samples."""

    ids: NDArray[Any]
    """[N], 16 bytes each: equal for equal samples of any data version."""
    outputs: NDArray[np.float32]
    """[N, C]."""
    labels: NDArray[Any]
    """[N] int64 or [N, D] float32."""
    rows: NDArray[np.int64]
    """[N], in the data's samples."""

    def at(self, places: NDArray[np.int64]) -> _Evaluated:
        return _Evaluated(self.ids[places], self.outputs[places], self.labels[places], self.rows[places])


def _whether_stored(evaluated: _Evaluated | None) -> str:
    return "in the store" if evaluated else "not in this store"


def _evaluated(store: Store, found: Ancestry) -> _Evaluated | None:
    """None where the store lacks its evaluation or its data."""
    import numpy as np

    from components.data.packed import open_packed

    evaluation, data = (_artifact(store, found, step) for step in ("evaluate", "data"))
    if evaluation is None or data is None:
        return None
    names = ("logits_student", "labels", "test_rows")
    outputs, labels, rows = (np.load(evaluation.file(f"{name}.npy"), allow_pickle=False) for name in names)
    ids = np.ascontiguousarray(open_packed(data).sample_ids[rows]).view("S16").reshape(-1)
    return _Evaluated(ids, outputs, labels, rows)


def _artifact(store: Store, found: Ancestry, step: str) -> Artifact | None:
    return store.find(step, key) if (key := found.tag(f"{step}.key")) else None


def _class_names(store: Store, found: Ancestry) -> Sequence[str]:
    from components.data.packed import open_packed

    data = _artifact(store, found, "data")
    assert data is not None
    return open_packed(data).spec.class_names


def _disagreements(seen: _Evaluated, theirs: NDArray[np.float32], names: Sequence[str]) -> dict[str, Pair]:
    """How many are right, how many only one of both is, and the first that they name differently."""
    import numpy as np

    said = (seen.outputs.argmax(1), theirs.argmax(1))
    right = [each == seen.labels for each in said]
    apart = np.flatnonzero(said[0] != said[1])
    found: dict[str, Pair] = {
        f"right, of {len(seen.rows):,} both were asked": (int(right[0].sum()), int(right[1].sum())),
        "right where the other is wrong": (int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())),
        f"different answers{f', the first {LISTED} below' if len(apart) > LISTED else ''}": (len(apart), len(apart)),
    }
    for place in apart[:LISTED]:
        what = f"row {seen.rows[place]}, label {names[seen.labels[place]]}"
        found[what] = (names[said[0][place]], names[said[1][place]])
    return found


def _distances(seen: _Evaluated, theirs: NDArray[np.float32]) -> dict[str, Pair]:
    """Of numbers: mean errors, how far apart they are, and the samples where most."""
    import numpy as np

    outputs = (seen.outputs, theirs)
    apart = np.abs(seen.outputs - theirs).mean(axis=1)
    first, second = (float(np.abs(each - seen.labels.reshape(each.shape)).mean()) for each in outputs)
    found: dict[str, Pair] = {
        f"mean absolute error on {len(seen.rows):,} both were asked": (first, second),
        "mean distance of the answers": (float(apart.mean()), float(apart.mean())),
    }
    for place in np.argsort(-apart, kind="stable")[:LISTED]:
        what = f"row {seen.rows[place]}, label {_numbers(seen.labels[place])}"
        found[what] = (_numbers(seen.outputs[place]), _numbers(theirs[place]))
    return found


def _numbers(values: Any) -> str:
    import numpy as np

    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def difference_table(found: Mapping[str, Mapping[str, Pair]], first: str, second: str) -> Table:
    """A row a difference."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    table.add_column(first, overflow="fold")
    table.add_column(second, overflow="fold")
    for chapter, rows in found.items():
        table.add_row(f"[bold]{chapter}[/]", *(() if rows else ("the same",)))
        for name, pair in rows.items():
            table.add_row(f"  {name.removeprefix(f'{chapter}.')}", *map(_short, pair))
    return table


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.5g}"
    text = str(value)
    return text[:SHORT] if len(text.removesuffix(".dir")) in (32, 40, 64) else text
