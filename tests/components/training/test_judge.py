"""What counts as a model that knows nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import TrainingDivergedError
from components.training.judge import Judge, best_constant
from components.workloads.image_classification import Params as Classification
from components.workloads.tabular_regression import Params as Regression

ROWS = np.arange(6)
CLASSES = np.array([0, 1, 1, 1, 2, 0])
NUMBERS = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]], np.float32)


class Says(nn.Module):
    """The row of *answers* whose number the sample is."""

    def __init__(self, answers: np.ndarray) -> None:
        super().__init__()
        self.answers = torch.from_numpy(answers.astype(np.float32))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.answers[samples[:, 0].long()]


def judged(answers: np.ndarray, labels: np.ndarray) -> None:
    workload = Classification().build() if labels.ndim == 1 else Regression().build()
    judge = Judge(ROWS[:, None].astype(np.float32), labels, ROWS, workload)
    judge.refuse_a_constant(judge.measure(Says(answers).eval()), answers.shape[1])


def test_the_best_constant_is_the_shares_of_the_classes_or_the_mean() -> None:
    np.testing.assert_allclose(np.exp(best_constant(CLASSES, 3, kind="classes")[4]), [1 / 3, 1 / 2, 1 / 6], rtol=1e-6)
    np.testing.assert_array_equal(best_constant(NUMBERS, 1, kind="numbers"), np.full((6, 1), 3.5, np.float32))


@pytest.mark.parametrize("labels", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_one_answer_for_all_samples_is_a_collapse(labels: np.ndarray) -> None:
    answers = best_constant(labels, 3 if labels.ndim == 1 else 1, kind="classes" if labels.ndim == 1 else "numbers")
    with pytest.raises(TrainingDivergedError, match=r"the model collapsed: .*learning_rate"):
        judged(answers, labels)


def test_a_model_that_is_right_more_often_or_loses_less_has_learnt_something() -> None:
    right = np.eye(3)[CLASSES] * 0.1
    judged(right, CLASSES)
    # As often right as the commonest class, and better probabilities: common where one class is most of the data.
    unsure = best_constant(CLASSES, 3, kind="classes") + np.eye(3)[CLASSES] * 0.01
    judged(unsure, CLASSES)
    # Bad probabilities alone are no collapse: some objectives leave the scale of the logits free.
    judged(1e4 * np.eye(3)[[0, 1, 1, 1, 2, 1]], CLASSES)
    judged(NUMBERS + 0.5, NUMBERS)


def test_without_labels_nothing_is_refused() -> None:
    judge = Judge(ROWS[:, None].astype(np.float32), np.full(6, -1), ROWS, Classification().build())
    judge.refuse_a_constant(judge.measure(nn.Flatten()), 3)
