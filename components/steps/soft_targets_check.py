"""Ask the teacher of finished soft targets again, whatever params.yaml says by now: the manifest tells how."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from components.artifacts.artifact import Artifact
from components.artifacts.inventory import Entry, check, of_digest
from components.errors import ArtifactDamagedError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from components.artifacts.store import Store
    from components.contracts import Progress
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.recheck import Rechecked
    from components.soft_targets.teacher_pass import TeacherPass


def check_live(
    store: Store, found: Sequence[Entry], entry: Entry, *, num_rows: int, seed: int, progress: Progress
) -> Rechecked:
    """Recompute *num_rows* random rows of the soft targets *entry*; their teachers and data are among *found*.

    StoreError: teacher or data are gone. ArtifactDamagedError: one of the three is damaged.
    """
    from components.soft_targets.reader import SoftTargets
    from components.soft_targets.recheck import recheck, sample_places

    targets = SoftTargets.open(_whole(store, entry))
    inputs = {kind: _input(store, found, entry, kind) for kind in entry.inputs}
    return recheck(
        targets, _teacher_pass(store, entry, targets, inputs, progress), sample_places(targets.header, num_rows, seed)
    )


def changed_code(entry: Entry) -> tuple[str, ...]:
    """Modules that have changed, or gone, since *entry* was made: with them, the teacher may rightly say otherwise."""
    from components.artifacts.code_digest import code_digests

    assert entry.manifest is not None
    then = entry.manifest.fields["code"]
    now = code_digests(["components.steps.soft_targets", *(name for name in then if _exists(name))])
    return tuple(name for name, digest in then.items() if now.get(name) != digest)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _teacher_pass(
    store: Store, entry: Entry, targets: SoftTargets, inputs: dict[str, Artifact], progress: Progress
) -> TeacherPass:
    import torch

    from components.artifacts.fingerprint import fingerprint, num_threads
    from components.data.packed import open_packed
    from components.params import SoftTargetParams, ViewParams
    from components.soft_targets.teacher_pass import TeacherPass
    from components.steps.soft_targets import bank_of, teachers
    from components.steps.speakers import folds_of

    assert entry.manifest is not None
    torch.set_num_threads(num_threads(store.settings))
    params = SoftTargetParams.model_validate(entry.manifest.fields["params"]["soft_targets"])
    views = ViewParams.model_validate(entry.manifest.fields["params"]["views"])
    teacher, _ = teachers(inputs, params, store.settings)
    return TeacherPass(
        teacher=teacher,
        bank=bank_of(open_packed(inputs["data"]), targets.rows, views, folds_of(inputs)),
        rows=targets.rows,
        num_views=targets.num_views,
        identity=targets.header.identity,
        params=params,
        progress=progress,
        fingerprint=fingerprint(store.settings),
    )


def _input(store: Store, found: Sequence[Entry], entry: Entry, kind: str) -> Artifact:
    digest = entry.inputs[kind]
    there = of_digest(found, kind, digest)
    if there is None:
        raise StoreError(
            f"the {kind} {digest[:12]} of {entry.name} is not in {store.storage.where} any more, so that nothing can be "
            "asked again; a run with the parameters of that time makes it anew"
        )
    return _whole(store, there)


def _whole(store: Store, entry: Entry) -> Artifact:
    checked = check(store, entry)
    if checked.problems or checked.folder is None:
        raise ArtifactDamagedError(f"{entry.name} is damaged: {'; '.join(checked.problems[:5])}")
    return Artifact(kind=entry.kind, key=entry.key, digest=entry.digest, root=checked.folder)
