"""The validate step through the store: kept when it fails, compared with the last accepted version, the same every time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.contracts import DecodedSamples, NoProgress
from components.data.packing import check_decoded, write_packed
from components.data.splits import split_samples
from components.errors import BadInputError, DataRefusedError, StoreError
from components.params import HashSplit, Params
from components.sample_ids import sample_ids
from components.steps.execute import execute
from components.steps.pipeline import load_step
from components.steps.step import World
from components.validation.accepted import line_of, record_accepted
from components.validation.report import load_report

CLASSES = ("circle", "square", "star")


class Listener(NoProgress):
    """Remembers what was said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def make_params() -> Callable[..., Params]:
    """make_params(min_rows=..., ...): parameters whose validation section is what is given."""

    def make(**validation) -> Params:
        return Params.model_validate(
            {
                "data": {"repository": "registry", "path": "shapes", "format": {"name": "image_folder"}},
                "workload": {"name": "image_classification"},
                "validation": validation,
                "teacher": {"model": {"name": "convnet"}},
                "student": {"model": {"name": "mlp"}, "objective": {"name": "kd"}},
                "gate": {"floor": 0.5},
                "registry": {"student": "s", "teacher": "t"},
            }
        )

    return make


@pytest.fixture
def make_data(store) -> Callable[..., Artifact]:
    """make_data(name, seed=0, brighter=0, copies=0, classes=CLASSES): a packed data artifact of 300 small pictures."""

    def make(name, *, seed=0, brighter=0, copies=0, classes=CLASSES) -> Artifact:
        draw = np.random.Generator(np.random.Philox(seed))
        samples = (draw.integers(0, 64, (300, 1, 6, 6)) + draw.integers(0, 64, (300, 1, 1, 1)) + brighter).astype(
            np.uint8
        )
        samples[300 - copies :] = samples[:copies]
        labels = np.arange(300) % len(classes)
        decoded = DecodedSamples(
            samples=samples,
            labels=labels,
            class_names=classes,
            sources=tuple(f"{classes[label]}/{row:03d}.png" for row, label in enumerate(labels)),
            columns={"camera": ["left", "right"] * 150},
        )
        check_decoded(decoded)
        ids = sample_ids(samples)
        splits = split_samples(decoded, ids, HashSplit(), on_duplicate="drop", min_per_class=1)
        return store.commit("data", name, {}, lambda out: write_packed(out, decoded, ids, splits))

    return make


@pytest.fixture
def run(settings, store):
    """run(params, data, progress=None): the outcome of the step."""

    def run(params, data, progress=None):
        return execute(
            load_step("validate"),
            params=params,
            settings=settings,
            store=store,
            inputs={"data": data},
            producer="this test",
            progress=progress or NoProgress(),
        )

    return run


def _accept(store, params, data, outcome):
    record_accepted(store, line_of(params), data.digest, outcome.artifact)


def _reference(settings, store, params, data):
    world = World(params=params, settings=settings, inputs={"data": data}, store=store)
    return load_step("validate").resolve(world).facts["reference"]


def test_clean_data_passes_and_is_found_again(run, make_params, make_data):
    """Result, profile, suite and Data Docs are committed; the second run is a hit."""
    data, listener = make_data("v1"), Listener()

    first, second = run(make_params(), data, listener), run(make_params(), data)

    assert load_report(first.artifact).failures == ()
    assert (first.cached, second.cached) == (False, True)
    assert first.artifact.measured("data_docs/index.html").is_file()
    assert {entry.path for entry in first.artifact.manifest().files} == {"result.json", "profile.json", "suite.json"}
    assert listener.said == [load_report(first.artifact).headline]


def test_refused_data_stays_documented(run, store, make_params, make_data):
    """A critical failure raises with its reasons and the place of the Data Docs, also when the result is a hit."""
    data = make_data("v1", copies=30)

    for _ in range(2):
        with pytest.raises(DataRefusedError) as caught:
            run(make_params(class_share_min=0.4), data)

    message = str(caught.value)
    assert "this version of shapes may not be used" in message
    assert "sample_id: column proportion of unique values to be between (min_value 0.99); found 0.9, such as" in message
    assert (
        "classes share: column values to be between (min_value 0.4); found 3 of 3 rows failing, such as circle"
        in message
    )
    docs = message.split("Data Docs: ")[1].splitlines()[0]
    assert docs.endswith("measured/data_docs/index.html")
    assert "may not be used" in Path(docs).read_text()
    assert "Traceback" not in message


def test_warnings_are_said_and_go_on(run, make_params, make_data):
    """The user's own warning is part of the report, and the step succeeds."""
    own = {
        "type": "expect_column_mean_to_be_between",
        "kwargs": {"column": "mean", "max_value": 0.01},
        "severity": "warning",
    }
    listener = Listener()

    outcome = run(make_params(expectations=[own]), make_data("v1"), listener)

    assert [failure.expectation for failure in load_report(outcome.artifact).warnings] == [own["type"]]
    assert "warning  mean: column mean to be between (max_value 0.01); found 0." in listener.said[0]


def test_a_wrong_expectation_is_the_users_to_mend(run, store, make_params, make_data):
    """A misspelt type is named by its place in the parameters, and nothing is committed."""
    with pytest.raises(
        BadInputError, match=r"validation\.expectations\[0\]\.type: .* did you mean 'expect_column_to_exist'"
    ):
        run(
            make_params(expectations=[{"type": "expect_colum_to_exist", "kwargs": {"column": "mean"}}]), make_data("v1")
        )

    assert list(store.storage.keys("validate")) == []


@pytest.mark.slow
def test_drift_is_measured_against_the_last_accepted_version(run, settings, store, make_params, make_data):
    """Brighter pictures fail the drift of `mean`; the reference is in the key, and a re-run finds the same one."""
    params = make_params(drift_severity="critical")
    v1, v2 = make_data("v1"), make_data("v2", seed=1, brighter=60)
    first = run(params, v1)
    _accept(store, params, v1, first)

    with pytest.raises(DataRefusedError, match=r"drift mean: .* found ") as caught:
        run(params, v2)

    assert "raise validation.drift_max (0.2) or soften validation.drift_severity" in str(caught.value)
    assert _reference(settings, store, params, v2) == first.artifact.digest
    assert _reference(settings, store, params, v1) is None
    assert run(params, v1).cached


@pytest.mark.slow
def test_an_accepted_version_is_a_hit_after_later_ones(run, store, make_params, make_data):
    """Each version keeps the reference that it was accepted against."""
    params = make_params()
    versions = [make_data(f"v{seed}", seed=seed) for seed in range(3)]
    for data in versions:
        _accept(store, params, data, run(params, data))

    assert [run(params, data).cached for data in versions] == [True, True, True]


@pytest.mark.slow
def test_another_class_set_is_said(run, store, make_params, make_data):
    """Where classes are read from the data, one that vanished would vanish from every other expectation too."""
    params = make_params()
    v1 = make_data("v1")
    _accept(store, params, v1, run(params, v1))

    report = load_report(run(params, make_data("v2", classes=CLASSES[:2])).artifact)

    lost = [failure for failure in report.warnings if failure.column == "class_name"]
    assert [failure.observed for failure in lost] == ["missing [star]"]


@pytest.mark.slow
def test_payload_says_nothing_of_clock_or_place(run, settings, store, make_params, make_data, tmp_path):
    """Computed again in another store, the artifact has the same digest."""
    from components.artifacts.store import Store

    params, data = make_params(), make_data("v1")
    outcome = run(params, data)
    other = settings.model_copy(update={"var_dir": tmp_path / "elsewhere"})
    again = execute(
        load_step("validate"),
        params=params,
        settings=other,
        store=Store(other),
        inputs={"data": data},
        producer="another",
        progress=NoProgress(),
    )

    assert again.artifact.digest == outcome.artifact.digest
    assert not again.cached
    assert str(tmp_path) not in json.dumps([again.artifact.read_json(name) for name in ("result.json", "suite.json")])


def test_a_reference_that_vanished_is_not_passed_over(settings, store, make_params, make_data, tmp_path):
    """A key that names a reference must never stand for a result without one."""
    from components.steps.step import Resolved, StepContext

    context = StepContext(
        make_params(),
        settings,
        {"data": make_data("v1")},
        Resolved(facts={"reference": "0" * 64}, notes={"reference_key": "1" * 64}),
        tmp_path,
        tmp_path,
        NoProgress(),
    )

    with pytest.raises(StoreError, match="run again"):
        load_step("validate").run(context)
