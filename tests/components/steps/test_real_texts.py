"""Real collections of texts, where they are at hand: decoded, split and validated as a run does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packed import open_packed
from components.data.packing import check_decoded, write_packed
from components.data.splits import split_samples
from components.params import Params, load_params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.steps.execute import execute
from components.steps.pipeline import load_step
from components.validation.report import ValidationReport, load_report

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TEST_DATA_FOLDER", ROOT.parent / "shared" / "data"))
"""Folders by name, each with the files of a public data set; none is part of the project."""
RECIPE = ROOT / "recipes" / "banking77.yaml"
pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip(f"no data set {name} in {DATA}")
        return DATA / name

    return find


def packed(store: Store, params: Params, folder: Path) -> Artifact:
    """What the data step makes of the files, without a DVC registry around them."""
    decoded = params.data.format.read(folder)
    check_decoded(decoded)
    ids = sample_ids(decoded.samples)
    splits = split_samples(decoded, ids, params.data.split, on_duplicate="drop", min_per_class=1)
    return store.commit("data", "0" * 64, {}, lambda out: write_packed(out, decoded, ids, splits))


def validated(settings: Settings, store: Store, params: Params, data: Artifact) -> ValidationReport:
    outcome = execute(
        load_step("validate"),
        params=params,
        settings=settings,
        store=store,
        inputs={"data": data},
        producer="test",
        progress=NoProgress(),
    )
    return load_report(outcome.artifact)


def test_intents_are_what_the_recipe_expects(settings, store, folder) -> None:
    """77 intents in the official test set of 3,080; nothing in them is critical."""
    params = load_params(RECIPE)
    data = packed(store, params, folder("banking77"))
    opened = open_packed(data)

    assert len(opened) == 13_083
    assert len(opened.spec.class_names) == 77
    assert len(opened.rows("test")) == 3_080
    assert 8_800 < len(opened.rows("train")) < 9_200
    assert validated(settings, store, params, data).critical == ()


def test_an_unbalanced_collection_passes_with_warnings(settings, store, folder) -> None:
    """Short messages, a seventh of them spam and 6.5 % copies: near copies are said, and do not stop anything."""
    overrides = [
        "data.format={name: text_csv, label_column: spam, class_names: [ham, spam]}",
        "data.split={by: hash}",
        "workload={name: text_classification, script: LATIN}",
        "validation={min_rows: 4000, duplicate_share_max: 0.1}",
    ]
    params = load_params(RECIPE, overrides)
    data = packed(store, params, folder("sms-spam"))
    report = validated(settings, store, params, data)

    assert report.critical == ()
    assert {(failure.column, failure.severity) for failure in report.failures} == {("normal_id", "warning")}
