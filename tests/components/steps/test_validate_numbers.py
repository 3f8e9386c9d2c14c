"""The validate step on rows of numbers: finite throughout, targets within a range of one's own, drift of every column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import DecodedSamples, NoProgress
from components.data.packing import write_packed
from components.data.splits import split_samples
from components.errors import DataRefusedError
from components.params import HashSplit, Params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.steps.execute import Outcome, execute
from components.steps.pipeline import load_step
from components.validation.accepted import line_of, record_accepted
from components.validation.report import load_report

Validated = Callable[..., Outcome]


def params_with(**validation: Any) -> Params:
    return Params.model_validate(
        {
            "data": {"repository": "r", "path": "rows", "format": {"name": "table", "target_columns": ["y"]}},
            "workload": {"name": "tabular_regression"},
            "validation": validation,
            "teacher": {"model": {"name": "mlp"}},
            "student": {"model": {"name": "mlp", "hidden": [2]}, "objective": {"name": "regression_kd"}},
            "gate": {"metric": "rmse", "floor": 1},
            "registry": {"student": "s", "teacher": "t"},
        }
    )


@pytest.fixture
def validated(settings: Settings, store: Store) -> Validated:
    """Validates 300 rows of two features and one target, a fifth of it missing; what passes is accepted."""

    def run(name: str, *, shift: float = 0.0, constant: bool = False, **validation: Any) -> Outcome:
        draw, params = np.random.default_rng(len(name)), params_with(**validation)
        samples = draw.normal(size=(300, 2)).astype(np.float32) + np.float32([shift, 0])
        labels = np.where(draw.random((300, 1)) < 0.2, np.nan, samples[:, :1] * 10).astype(np.float32)
        if constant:
            labels[~np.isnan(labels)] = 4
        columns = {each: samples[:, place].tolist() for place, each in enumerate("ab")}
        sources = tuple(f"rows.csv:{row}" for row in range(300))
        decoded = DecodedSamples(samples, labels, (), sources, columns, target_names=("y",), feature_names=("a", "b"))
        ids = sample_ids(samples)
        splits = split_samples(decoded, ids, HashSplit(), on_duplicate="drop", min_per_class=1)

        def write(out: Path) -> None:
            write_packed(out, decoded, ids, splits)

        data = store.commit("data", name, {"name": name}, write)
        made = execute(
            load_step("validate"),
            params=params,
            settings=settings,
            store=store,
            inputs={"data": data},
            producer="test",
            progress=NoProgress(),
        )
        record_accepted(store, line_of(params), data.digest, made.artifact)
        return made

    return run


def failures(artifact: Artifact) -> list[tuple[str, str]]:
    return [(each.severity, each.subject) for each in load_report(artifact).failures]


def test_rows_of_numbers_pass(validated: Validated) -> None:
    """With targets that are missing in some; every feature and target was looked at."""
    report = load_report(validated("a").artifact)

    assert report.success
    assert report.failures == ()
    assert report.num_checks > 20


def test_a_column_that_moved_is_named(validated: Validated) -> None:
    """The feature and the target that hangs on it, but not the other feature."""
    validated("a")
    with pytest.raises(DataRefusedError, match="drift a") as refused:
        validated("bb", shift=3.0, drift_severity="critical")

    assert "drift y" in str(refused.value)
    assert "drift b" not in str(refused.value)


def test_a_range_of_ones_own_and_a_target_that_never_varies(validated: Validated) -> None:
    """The one is refused as it says, the other is worth a warning."""
    limit = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "y", "max_value": 5}}
    with pytest.raises(DataRefusedError, match="critical  y: column values to be between"):
        validated("a", expectations=[limit])

    assert ("warning", "y") in failures(validated("cc", constant=True).artifact)
