"""Which rows the student learns from, and which of the labels it sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import is_labelled, unlabelled_like
from components.data.splits import hashes, index_arrays, named_array, refuse_bad_rows
from components.data.training_set import TrainingSet
from components.errors import SplitError, some_of
from components.params import CountedLabels, IndexedLabels, LabelChoice, RowChoice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.data.packed import PackedData


def students_set(data: PackedData, chosen: RowChoice, labels: LabelChoice, labels_file: Path | None) -> TrainingSet:
    """The rows that *chosen* means, with the labels that *labels* leaves; *labels_file* is where its file really lies.

    Raises SplitError where rows or labels are asked for that are not there.
    """
    _refuse_missing_transfer(data, chosen)
    visible = _visible_labels(data, chosen, labels, labels_file)
    rows = _rows(data, chosen, visible)
    return TrainingSet(rows, visible, len(rows))


def hard_label_set(data: PackedData, student: TrainingSet) -> TrainingSet:
    """The same as the student's; where no label is in that, the labelled rows of the training split.

    An epoch has as many rows as the student's either way, so that both take as many steps.
    """
    import numpy as np

    if is_labelled(student.labels[student.rows]).any():
        return student
    return TrainingSet(data.labelled_rows("train"), np.array(data.labels), student.num_drawn, student.folds)


def _refuse_missing_transfer(data: PackedData, chosen: RowChoice) -> None:
    if chosen not in ("auto", "train") and not len(data.rows("transfer")):
        raise SplitError(
            f"student.rows is {chosen!r}, and this data has no transfer samples: name them in data.split.transfer, or set "
            "student.rows=train"
        )


def _rows(data: PackedData, chosen: RowChoice, visible: NDArray[Any]) -> NDArray[np.int64]:
    import numpy as np

    train, transfer = data.rows("train"), data.rows("transfer")
    if chosen == "train" or not len(transfer):
        return train
    if chosen == "transfer":
        return transfer
    labelled = train if chosen == "both" else train[is_labelled(visible[train])]
    return np.union1d(labelled, transfer)


def _visible_labels(data: PackedData, chosen: RowChoice, labels: LabelChoice, labels_file: Path | None) -> NDArray[Any]:
    import numpy as np

    known = np.array(data.labels)
    if labels.by == "all":
        return known
    shown = _counted(data, chosen, labels) if labels.by == "count" else _indexed(data, labels, labels_file)
    visible = unlabelled_like(known)
    visible[shown] = known[shown]
    return visible


def _counted(data: PackedData, chosen: RowChoice, labels: CountedLabels) -> NDArray[np.int64]:
    """Those with the lowest hashes, so that a sample that is added to the data displaces one at most."""
    import numpy as np

    split = "transfer" if chosen == "transfer" else "train"
    pool = data.labelled_rows(split)
    ranked = pool[np.argsort(np.array(hashes(data.sample_ids[pool], f"labels {labels.seed}"), dtype=np.uint64))]
    if labels.per == "set":
        _refuse_too_few(labels, len(ranked), f"labelled samples in {split}")
        return np.asarray(ranked[: labels.count])
    if data.spec.target_names:
        raise SplitError("student.labels.per is 'class', and the labels are numbers: set student.labels.per=set")
    if data.spec.target_names:
        raise SplitError("student.labels.per is class, and the labels are numbers, which have none: set it to set")
    chosen_rows = [ranked[data.labels[ranked] == label] for label in range(data.spec.num_classes)]
    for name, rows in zip(data.spec.class_names, chosen_rows, strict=True):
        _refuse_too_few(labels, len(rows), f"labelled samples of class {name!r} in {split}")
    return np.concatenate([rows[: labels.count] for rows in chosen_rows])


def _refuse_too_few(labels: CountedLabels, there: int, what: str) -> None:
    if there < labels.count:
        raise SplitError(f"student.labels.count is {labels.count}, and there are {there} {what}: lower it")


def _indexed(data: PackedData, labels: IndexedLabels, path: Path | None) -> NDArray[np.int64]:
    """Copies that were left out teach nothing; any other row must be one that a student may learn from."""
    import numpy as np

    assert path is not None
    what = f"{path}: {labels.array}"
    rows = named_array(index_arrays(path, place="student.labels.file"), labels.array, str(path))
    refuse_bad_rows(rows, len(data), what)
    if data.info.get("damaged"):
        raise SplitError(
            f"{path} counts the samples in order, and the damaged ones that were skipped shift it: repair them, or choose "
            "labels in another way (student.labels.by)"
        )
    held_out = np.union1d(data.rows("validation"), data.rows("test"))
    if taken := np.intersect1d(rows, held_out).tolist():
        raise SplitError(f"{what} names samples of validation or test: {some_of(taken)}")
    if unknown := rows[~is_labelled(np.asarray(data.labels)[rows])].tolist():
        raise SplitError(f"{what} names samples that have no label: {some_of(unknown)}")
    return rows.astype(np.int64)
