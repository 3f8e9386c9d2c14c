"""What every workload must do, asked of every file in components/workloads/."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from components import plugins
from components.artifacts.artifact import Artifact
from components.contracts import DataSpec, DecodedSamples, Workload, is_labelled
from components.data.packed import open_packed
from components.data.packing import check_decoded, write_packed
from components.data.splits import Splits
from components.sample_ids import sample_ids

KINDS = {"integer": "iu", "real": "f", "text": "OU"}
WORKLOADS = [plugins.params_class("workloads", name)() for name in plugins.available("workloads")]


@pytest.fixture(params=WORKLOADS, ids=[params.name for params in WORKLOADS])
def workload(request: pytest.FixtureRequest) -> Workload:
    return request.param.build()


@pytest.fixture
def tiny(workload: Workload) -> DecodedSamples:
    return workload.tiny(seed=0)


def spec_of(tiny: DecodedSamples) -> DataSpec:
    ids = sample_ids(tiny.samples)
    splits = Splits(np.zeros(len(ids), dtype=np.uint8), (), ())
    with TemporaryDirectory() as folder:
        write_packed(Path(folder), tiny, ids, splits)
        return open_packed(Artifact("data", "data", "data", Path(folder))).spec


def outputs_of(tiny: DecodedSamples, *, seed: int, signal: float = 1.0) -> np.ndarray:
    """[N, C] or [N, D]: the labels with noise, as of a mediocre model; more *signal* is a better one."""
    draw = np.random.default_rng(seed)
    if tiny.target_names:
        noise = draw.normal(size=tiny.labels.shape) * tiny.labels.std(axis=0) / signal
        return (tiny.labels + noise).astype(np.float32)
    noise = draw.normal(size=(len(tiny.labels), len(tiny.class_names)))
    noise[np.arange(len(tiny.labels)), tiny.labels] += signal
    return noise.astype(np.float32)


def test_metrics_are_the_measures(workload: Workload, tiny: DecodedSamples) -> None:
    """Each has a finite value, and the primary one can be compared row by row."""
    found = workload.metrics(outputs_of(tiny, seed=1), tiny.labels)

    assert list(found) == list(workload.measures)
    assert all(map(math.isfinite, found.values()))
    assert workload.measures[workload.primary_metric].of_rows


def test_better_outputs_are_better_in_every_direction(workload: Workload, tiny: DecodedSamples) -> None:
    """Less noise raises what should be high and lowers what should be low, of the measures that rows have."""
    good, bad = outputs_of(tiny, seed=1, signal=4), outputs_of(tiny, seed=1)
    better, worse = workload.metrics(good, tiny.labels), workload.metrics(bad, tiny.labels)

    for name, measure in workload.measures.items():
        if measure.of_rows:
            assert (better[name] > worse[name]) == (measure.better == "higher"), name


def test_row_scores_make_the_metrics(workload: Workload, tiny: DecodedSamples) -> None:
    """Their mean, or its root; where a row counts as right or wrong, nothing but 0 and 1."""
    outputs = outputs_of(tiny, seed=2)
    scores, metrics = workload.row_scores(outputs, tiny.labels), workload.metrics(outputs, tiny.labels)

    assert set(scores) == {name for name, measure in workload.measures.items() if measure.of_rows}
    for name, rows in scores.items():
        kind = workload.measures[name].of_rows
        assert (rows.shape, rows.dtype) == (tiny.labels.shape[:1], np.float64)
        assert metrics[name] == pytest.approx(math.sqrt(rows.mean()) if kind == "root_mean" else rows.mean())
        assert kind != "share" or set(rows) <= {0.0, 1.0}


def test_a_model_is_faithful_to_itself(workload: Workload, tiny: DecodedSamples) -> None:
    """No other model is as near in any measure."""
    outputs, other = outputs_of(tiny, seed=3), outputs_of(tiny, seed=4)
    same, apart = workload.fidelity(outputs, outputs), workload.fidelity(outputs, other)

    assert list(same) == list(workload.fidelity_measures)
    for name, measure in workload.fidelity_measures.items():
        assert (same[name] > apart[name]) == (measure.better == "higher"), name
        assert same[name] == (1.0 if measure.better == "higher" else 0.0)


def test_the_hard_label_loss_has_the_gradient_of_itself(workload: Workload, tiny: DecodedSamples) -> None:
    """One loss a row, checked against differences in double precision."""
    outputs = torch.from_numpy(outputs_of(tiny, seed=5)[:6].astype(np.float64)).requires_grad_()
    labels = torch.from_numpy(tiny.labels[:6])
    labels = labels.double() if labels.is_floating_point() else labels

    def loss(said: torch.Tensor) -> torch.Tensor:
        return workload.hard_label_loss(said, labels, label_smoothing=0.0)

    assert loss(outputs).shape == (6,)
    assert torch.autograd.gradcheck(loss, (outputs,))


def test_details_are_plain_tables(workload: Workload, tiny: DecodedSamples) -> None:
    """As many cells a row as there are columns, of text and numbers."""
    said = {arm: outputs_of(tiny, seed=seed) for seed, arm in enumerate(("teacher", "baseline", "student"))}
    details = workload.details(said, tiny.labels, spec_of(tiny))

    for table in details.tables.values():
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert all(isinstance(cell, str | int | float) for row in table.rows for cell in row)


def test_tiny_is_the_same_for_the_same_seed(workload: Workload) -> None:
    """Another seed gives other rows, all different from each other."""
    first, again, other = (workload.tiny(seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.samples, other.samples)
    assert len({sample.tobytes() for sample in first.samples}) == len(first.sources) == len(first.labels)


def test_tiny_is_data_of_the_kind_that_it_learns(workload: Workload, tiny: DecodedSamples) -> None:
    """It keeps a format's promises, all of it is labelled, and what is packed of it says the same kind."""
    check_decoded(tiny)

    assert is_labelled(tiny.labels).all()
    assert spec_of(tiny).label_kind == workload.labels
    assert spec_of(tiny).sample_dtype == str(tiny.samples.dtype)


def test_the_loss_does_not_hang_on_the_unit_of_the_labels(workload: Workload, tiny: DecodedSamples) -> None:
    """Built for data whose labels are numbers, a guess of the mean costs 1 a row on average: a learning rate fits all."""
    if workload.labels != "numbers":
        pytest.skip("classes have no unit")
    data = spec_of(tiny)
    mean = torch.tensor([data.target_mean] * len(tiny.labels))
    labels = torch.from_numpy(tiny.labels)
    rebuilt = next(params for params in WORKLOADS if isinstance(params.build(), type(workload))).build(data)

    assert rebuilt.hard_label_loss(mean, labels, label_smoothing=0.0).mean().item() == pytest.approx(1.0, rel=1e-4)


def test_something_is_expected_of_the_data(workload: Workload, tiny: DecodedSamples) -> None:
    """On the labels at least, and critical."""
    expected = workload.expectations(spec_of(tiny))

    assert any(each.severity == "critical" for each in expected)


def test_describes_its_samples_in_the_columns_it_names(workload: Workload, tiny: DecodedSamples) -> None:
    """In their order and of their kind, a value a sample, each by itself."""
    samples = tiny.samples

    found = workload.describe(samples)

    assert list(found) == list(workload.columns)
    assert all(found[column].dtype.kind in KINDS[kind] for column, kind in workload.columns.items())
    alone = [workload.describe(samples[row : row + 1]) for row in range(len(samples))]
    assert all(np.array_equal(found[column], np.concatenate([each[column] for each in alone])) for column in found)
