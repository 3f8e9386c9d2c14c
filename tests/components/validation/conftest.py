"""Small honest tables, as the data step writes them, and one call that validates them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.contracts import DataSpec
from components.params import ValidationParams
from components.validation import gx, suite
from components.validation.profile import Profile, drifts, plain, profile
from components.validation.report import ValidationReport
from components.workloads._image_expectations import image_expectations
from components.workloads.image_classification import ImageClassification

SPEC = DataSpec(
    sample_shape=(1, 8, 8),
    class_names=("circle", "square", "star"),
    channel_mean=(0.3,),
    channel_std=(0.2,),
    num_train=400,
)


def _table(num_rows: int = 600, seed: int = 0) -> pd.DataFrame:
    draw = np.random.Generator(np.random.Philox(seed))
    labels = draw.integers(0, 3, num_rows)
    return pd.DataFrame(
        {
            "sample_index": np.arange(num_rows),
            "source": [f"{SPEC.class_names[label]}/{row:04d}.png" for row, label in enumerate(labels)],
            "sample_id": [hashlib.sha256(f"{seed} {row}".encode()).hexdigest()[:32] for row in range(num_rows)],
            "label": labels,
            "class_name": [SPEC.class_names[label] for label in labels],
            "split": draw.choice(["train", "validation", "test"], num_rows, p=[0.7, 0.1, 0.2]),
            "height": np.full(num_rows, 8),
            "width": np.full(num_rows, 8),
            "channels": np.full(num_rows, 1),
            "mean": draw.normal(0.3, 0.05, num_rows).clip(0, 1),
            "std": draw.normal(0.2, 0.02, num_rows).clip(0.001, 0.5),
            "slant": draw.normal(0, 1, num_rows),
            "camera": draw.choice(["left", "right"], num_rows),
        }
    )


def _validate(
    table: pd.DataFrame,
    *,
    reference: Profile | None = None,
    params: ValidationParams | None = None,
    docs_dir: Path | None = None,
) -> ValidationReport:
    params, table = params or ValidationParams(), plain(table)
    expected = suite.sample_expectations(
        params,
        image_expectations(SPEC),
        described=ImageClassification.columns,
        columns=list(table.columns),
        reference=reference,
    )
    moved = drifts(reference, table) if reference else {}
    inspections = [
        gx.Inspection("samples", table, expected),
        gx.Inspection(
            "drift",
            pd.DataFrame({name: [drift.psi] for name, drift in moved.items()}),
            suite.drift_expectations(params, moved),
        ),
    ]
    return gx.validate_tables([each for each in inspections if each.expectations], docs_dir=docs_dir)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    """make_table(num_rows=600, seed=0): a clean table of three balanced classes, with two columns of the source's own."""
    return _table


@pytest.fixture(scope="session")
def validate() -> Callable[..., ValidationReport]:
    """validate(table, reference=None, params=None, docs_dir=None), with everything the step would expect of images."""
    return _validate


@pytest.fixture(scope="session")
def reference() -> Profile:
    """The profile of an accepted version."""
    return profile(plain(_table(seed=100)))


@pytest.fixture(scope="session")
def spec() -> DataSpec:
    return SPEC
