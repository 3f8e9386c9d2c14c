"""Where two students disagree: on the test samples that both were asked about, whichever data version they stood in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components import plugins
from components.ancestry import Ancestry, changed
from components.artifacts.ledger import Saved
from components.artifacts.store import Store
from components.contracts import DecodedSamples
from components.data.packing import write_packed
from components.data.splits import Splits
from components.registry import RegisteredVersion
from components.sample_ids import sample_ids
from components.settings import Settings
from flows.difference import difference_table, predictions

ROWS = 12


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("POTSTILL_VAR_DIR", str(tmp_path / "var"))
    return Store(Settings())


def decoded(workload: str, rows: np.ndarray) -> DecodedSamples:
    """The workload's own tiny data, of which *rows* make a version."""
    tiny = plugins.params_class("workloads", workload)().build().tiny(seed=0)  # type: ignore[attr-defined]
    columns = {name: [values[row] for row in rows] for name, values in tiny.columns.items()}
    sources = tuple(f"row {row}" for row in rows)
    return replace(tiny, samples=tiny.samples[rows], labels=tiny.labels[rows], sources=sources, columns=columns)


def student(store: Store, name: str, data: DecodedSamples, outputs: np.ndarray) -> Ancestry:
    """A version that was evaluated on all but the first six rows of *data*."""
    of = np.full(len(data.labels), 2, dtype=np.uint8)
    of[:6] = [0, 0, 0, 0, 1, 1]
    asked = np.flatnonzero(of == 2)

    def evaluate(out: Path) -> None:
        np.save(out / "logits_student.npy", outputs.astype(np.float32))
        np.save(out / "labels.npy", data.labels[asked])
        np.save(out / "test_rows.npy", asked)

    packed = store.commit(
        "data", f"{name}-data", {}, lambda out: write_packed(out, data, sample_ids(data.samples), Splits(of, (), ()))
    )
    evaluated = store.commit("evaluate", f"{name}-evaluate", {}, evaluate)
    tags = {"data.key": packed.key, "evaluate.key": evaluated.key}
    version = RegisteredVersion(name="students", version=name, uri="", digest=name, run_id="", tags=tags)
    return Ancestry(version, {}, (), (), "", None, Saved())


def test_classes_that_two_students_name_differently(store: Store) -> None:
    """A sample is the same by its content: the second data version has the same ones in another order, and fewer."""
    data = decoded("image_classification", np.arange(ROWS))
    labels = data.labels[6:]
    right = np.eye(len(data.class_names))[labels]
    first = student(store, "1", data, right)
    fewer = decoded("image_classification", np.array([0, 1, 2, 3, 4, 5, 11, 9, 7, 6]))
    wrong = np.eye(len(data.class_names))[fewer.labels[6:]]
    wrong[1] = np.roll(wrong[1], 1)  # the ninth of the first version
    second = student(store, "2", fewer, wrong)

    told = predictions(first, second)

    said = data.class_names[int(wrong[1].argmax())]
    truth = data.class_names[int(data.labels[9])]
    assert told == {
        "right, of 4 both were asked": (4, 3),
        "right where the other is wrong": (1, 0),
        "different answers": (1, 1),
        f"row 9, label {truth}": (truth, said),
    }


def test_numbers_that_two_students_predict(store: Store) -> None:
    """How far apart they are, and on which samples most."""
    data = decoded("tabular_regression", np.arange(ROWS))
    truth = data.labels[6:].astype(np.float64)
    other = truth.copy()
    other[4] += 10
    first, second = student(store, "1", data, truth), student(store, "2", data, other)

    told = predictions(first, second)

    assert told["mean absolute error on 6 both were asked"] == pytest.approx((0, 10 / 6), abs=1e-5)
    assert told["mean distance of the answers"] == pytest.approx((10 / 6, 10 / 6), abs=1e-5)
    most = list(told)[2]
    assert most.startswith("row 10, label ")
    assert len(told) == 2 + 6
    assert len(difference_table({"predictions": told}, "1", "2").rows) == 1 + len(told)


def test_what_is_not_there_is_said(store: Store) -> None:
    """Where the store of this place lacks one of both, and where no test sample is in both."""
    data = decoded("tabular_regression", np.arange(ROWS))
    first = student(store, "1", data, data.labels[6:])
    others = decoded("tabular_regression", np.arange(ROWS, 2 * ROWS))
    second = student(store, "2", others, others.labels[6:])
    absent = Ancestry(
        RegisteredVersion("students", "3", "", "3", "", {"evaluate.key": "gone"}), {}, (), (), "", None, Saved()
    )

    assert predictions(first, second) == {"test samples in common": (0, 0)}
    assert predictions(first, absent) == {"evaluation": ("in the store", "not in this store")}


def test_parameters_that_differ() -> None:
    """By their dotted names, those that only one has too."""
    assert changed({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": [1]}) == {"a.c": (2, 3), "d": (None, [1])}
