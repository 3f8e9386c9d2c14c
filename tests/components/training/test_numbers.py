"""Training toward numbers: models in the labels' unit, rows without a label, mixed labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.contracts import DataSpec, NoProgress
from components.models import convnet, mlp
from components.params import TrainParams, ViewParams
from components.sample_ids import sample_ids
from components.training.loop import TrainResult, train
from components.views import ViewBank
from components.workloads.tabular_regression import Params

TINY = Params().build().tiny(seed=0)
SPEC = DataSpec(
    (3,),
    (),
    tuple(TINY.samples.mean(axis=0).tolist()),
    tuple(TINY.samples.std(axis=0).tolist()),
    24,
    sample_dtype="float32",
    target_names=TINY.target_names,
    target_mean=tuple(TINY.labels.mean(axis=0).tolist()),
    target_std=tuple(TINY.labels.std(axis=0).tolist()),
)
PARAMS = TrainParams.model_validate(
    {"epochs": 60, "batch_size": 8, "optimizer": {"name": "adamw", "learning_rate": 0.05, "weight_decay": 0}}
)


def trained(work: Path, labels: np.ndarray, views: ViewParams | None = None) -> tuple[torch.nn.Module, TrainResult]:
    torch.manual_seed(0)
    model, rows = mlp.Params(hidden=()).build(SPEC), np.arange(24)
    views = views or ViewParams()
    bank = ViewBank(torch.from_numpy(TINY.samples), sample_ids(TINY.samples), views, limit_bytes=2**20)
    result = train(
        model=model,
        samples=TINY.samples,
        labels=labels,
        train_rows=rows,
        validation_rows=rows,
        workload=Params().build(SPEC),
        params=PARAMS,
        seed=0,
        views=bank,
        num_views=views.count,
        work=work,
        progress=NoProgress(),
        device=torch.device("cpu"),
    )
    return model, result


def test_a_model_says_numbers_in_the_labels_unit() -> None:
    """A last layer of zeros says the mean of the labels, whatever the family, and the units are in the weights."""
    model = mlp.Params(hidden=(4,)).build(SPEC)
    torch.nn.init.zeros_(model.layers[-1].weight)
    torch.nn.init.zeros_(model.layers[-1].bias)

    assert model(torch.from_numpy(TINY.samples))[0].tolist() == pytest.approx(SPEC.target_mean)
    assert {"units.mean", "units.std", "prepare.mean"} <= set(model.state_dict())
    pictures = DataSpec((1, 4, 4), (), (0.5,), (0.2,), 9, target_names=("a",), target_mean=(50.0,), target_std=(2.0,))
    assert convnet.Params(channels=(2,)).build(pictures)(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape == (3, 1)


def test_both_targets_are_learnt_whatever_their_units(tmp_path: Path) -> None:
    """Sums of the features, one in tenths and one in hundreds, by one learning rate."""
    _, result = trained(tmp_path, TINY.labels)

    assert result.history[-1]["validation_r2"] > 0.99
    assert result.history[-1]["validation_loss"] < 0.01 < result.history[0]["validation_loss"]


def test_rows_without_a_label_teach_nothing(tmp_path: Path) -> None:
    """Their labels are never read: what the others say is learnt, and the losses are numbers."""
    labels = TINY.labels.copy()
    labels[::2] = np.nan
    _, result = trained(tmp_path, labels)

    assert all(np.isfinite(record["loss_hard"]) for record in result.history)
    assert result.history[-1]["validation_r2"] > 0.99


def test_mixed_rows_have_mixed_labels(tmp_path: Path) -> None:
    """Of a linear world mixing is a part: it is learnt from mixed rows alone."""
    views = ViewParams.model_validate({"count": 20, "transforms": [{"name": "mixup"}], "first_is_identity": False})
    _, result = trained(tmp_path, TINY.labels, views)

    assert result.history[-1]["validation_r2"] > 0.9
