"""Parameters with a section sweep."""

from collections.abc import Callable
from typing import Any

import pytest

from components.params import Params

FILE: dict[str, Any] = {
    "data": {"repository": "somewhere", "path": "digits", "format": {"name": "parquet"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "convnet"}},
    "student": {
        "model": {"name": "mlp", "hidden": [8]},
        "objective": {"name": "kd", "temperature": 4, "alpha": 0.9},
        "train": {"epochs": 32},
    },
    "gate": {"floor": 0.9},
    "registry": {"student": "s", "teacher": "t"},
}
T, ALPHA, MODEL = "student.objective.temperature", "student.objective.alpha", "student.model"


@pytest.fixture
def swept() -> Callable[..., Params]:
    """Parameters that sweep a space."""

    def make(space: dict[str, Any], **sweep: Any) -> Params:
        return Params.model_validate({**FILE, "sweep": {"space": space, **sweep}})

    return make
