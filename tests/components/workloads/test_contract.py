"""What every workload owes; a new file in components/workloads/ is tested by being there."""

import numpy as np
import pytest

from components import plugins
from components.contracts import Workload

NAMES = plugins.available("workloads")
KINDS = {"integer": "iu", "real": "f", "text": "OU"}


def built(name: str) -> Workload:
    return plugins.params_class("workloads", name).model_validate({"name": name}).build()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_describes_its_samples_in_the_columns_it_names(name: str) -> None:
    """In their order and of their kind, a value a sample, each by itself."""
    workload = built(name)
    samples = workload.tiny(seed=0).samples

    found = workload.describe(samples)

    assert list(found) == list(workload.columns)
    assert all(found[column].dtype.kind in KINDS[kind] for column, kind in workload.columns.items())
    alone = [workload.describe(samples[row : row + 1]) for row in range(len(samples))]
    assert all(np.array_equal(found[column], np.concatenate([each[column] for each in alone])) for column in found)
