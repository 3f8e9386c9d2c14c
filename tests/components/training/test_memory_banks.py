"""Facts about what an objective remembers of each sample, over a training that is stopped and killed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.contracts import NoProgress, ObjectiveParams, ObjectiveSpec
from components.errors import InterruptedRunError
from components.models import mlp
from components.objectives import combined, crd
from components.params import TrainParams
from components.training import loop
from components.training.reproducible import initialised, initialised_objective
from components.training.taps import taps_of
from tests.components.training.test_taps import FEW, LABELS, SPEC, TEACHER, TRAIN, taught

CRD = crd.Params(num_negatives=6, embedding_width=8, alpha=0.9)
PARAMS: dict[str, ObjectiveParams] = {
    "crd": CRD,
    "within combined": combined.Params(
        parts=({"name": "rkd"}, {"name": "crd", "num_negatives": 6, "embedding_width": 8, "weight": 0.5})
    ),
}


class Killed(BaseException):
    """The process is gone: nothing that comes after it runs."""


class EndsAt(NoProgress):
    """Raises once so many steps are done: as Ctrl-C, which is heard, or as a kill, which is not."""

    def __init__(self, step: int, how: type[BaseException]) -> None:
        self.step, self.how, self.done = step, how, 0

    def advance(self, done: int, **_: float) -> None:
        self.done = done

    def check(self) -> None:
        if self.done >= self.step:
            raise self.how


def objective(params: ObjectiveParams) -> Any:
    student, teacher = initialised(mlp.Params(hidden=(5,)), SPEC, seed=1), initialised(TEACHER, SPEC, seed=2)
    return initialised_objective(
        params, ObjectiveSpec(SPEC, taps_of(student, FEW), taps_of(teacher, FEW), LABELS[TRAIN]), seed=1
    )


def remembered(built: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in built.state_dict().items()}


@pytest.mark.parametrize("how", [InterruptedRunError, Killed])
@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
def test_ended_after_every_step_it_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: ObjectiveParams, how: type[BaseException]
) -> None:
    """Student, banks, normalisers and embeddings are those of a training that was left alone."""
    teacher, chosen = initialised(TEACHER, SPEC, seed=2), TrainParams(epochs=3, batch_size=10, checkpoint_seconds=0)
    alone, again = objective(params), objective(params)
    before = remembered(alone)
    weights = taught(tmp_path / "alone", alone, teacher, params=chosen).state_dict()
    monkeypatch.setattr(loop, "TELL_EVERY_STEPS", 1)
    ends = 0
    for step in range(1, 13):
        with pytest.raises(how):
            taught(tmp_path / "ended", objective(params), teacher, params=chosen, progress=EndsAt(step, how))
        ends += 1
    found = taught(tmp_path / "ended", again, teacher, params=chosen).state_dict()

    assert ends == 12
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    kept, expected = remembered(again), remembered(alone)
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    assert not any(torch.equal(expected[name], tensor) for name, tensor in before.items())


def test_every_sample_is_remembered_where_it_belongs(tmp_path: Path) -> None:
    """After an epoch every row of the banks was written, and of length 1; no row is missing or written for another."""
    built = objective(CRD)
    before = remembered(built)
    taught(tmp_path, built, initialised(TEACHER, SPEC, seed=2), params=TrainParams(epochs=1, batch_size=10))

    for name in ("student_bank", "teacher_bank"):
        bank = built.state_dict()[name]
        assert len(bank) == len(TRAIN)
        assert (bank != before[name]).any(dim=1).all()
        np.testing.assert_allclose(bank.norm(dim=1).numpy(), 1, rtol=1e-5)
