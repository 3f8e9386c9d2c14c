"""Facts about the workload that learns numbers."""

import pytest
import torch

from components.contracts import DataSpec
from components.workloads.tabular_regression import Params

SPEC = DataSpec(
    (1,), (), (0.0,), (1.0,), 3, "float32", target_names=("a", "b"), target_mean=(0.0, 0.0), target_std=(1.0, 10.0)
)


def test_hard_label_loss_by_hand() -> None:
    """Errors (3, 20) are 3 and 2 deviations: (9 + 4) / 2; without data they are taken as they are: (9 + 400) / 2."""
    outputs, labels = torch.tensor([[3.0, 20.0]]), torch.zeros(1, 2)

    assert Params().build(SPEC).hard_label_loss(outputs, labels, label_smoothing=0.0).tolist() == [6.5]
    assert Params().build().hard_label_loss(outputs, labels, label_smoothing=0.0).tolist() == [204.5]


def test_details_name_arm_target_label_and_prediction() -> None:
    """A row each, so that one plot shows all."""
    tiny = Params().build().tiny(seed=0)
    outputs = {"student": tiny.labels + 1}
    table = Params().build().details(outputs, tiny.labels, SPEC).tables["predictions"]

    assert len(table.rows) == 24 * 2
    assert table.rows[0][:2] == ("student", "a")
    assert table.rows[0][3] == pytest.approx(table.rows[0][2] + 1)
