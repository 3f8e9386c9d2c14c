"""Facts about hints after a learnt regressor."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from components.contracts import ModelTaps
from components.errors import BadInputError
from components.objectives._maps import AdaptiveMean
from components.objectives.fitnet_hints import Params
from tests.components.objectives.given import STUDENT, TEACHER, spec
from tests.components.objectives.given_features import (
    called,
    drawn,
    gradient,
    losses,
    made,
    passes_gradcheck,
    reference,
)

MAPS = ModelTaps(
    ("stage1", "stage2", "stage3", "embedding"),
    {"stage1": (2, 8, 8), "stage2": (3, 4, 4), "stage3": (4, 2, 2), "embedding": (4,)},
)


def literally(ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    """The mean over samples, channels and places of (hint - regressor's guess)^2, number by number."""
    total, count = 0.0, 0
    for mine, hint in zip(ours, theirs, strict=True):
        for channel, row, column in np.ndindex(*hint.shape):
            guess = sum(weight[channel, c] * mine[c, row, column] for c in range(len(mine))) + bias[channel]
            total += (hint[channel, row, column] - guess) ** 2
            count += 1
    return total / count


def test_is_the_mean_squared_difference_after_a_1x1_convolution() -> None:
    """On the reference tensors, against the formula written out in float64."""
    ours, theirs = reference().student_maps[:3], reference().teacher_maps[:3]
    objective = made("fitnet_hints", ours, theirs)
    convolution = objective.regressor[1]
    weight, bias = (tensor.detach().double().numpy() for tensor in (convolution.weight[:, :, 0, 0], convolution.bias))
    expected = literally(ours.double().numpy(), theirs.double().numpy(), weight, bias)

    assert called(objective, ours, theirs).mean().item() == pytest.approx(expected, rel=1e-5)


def test_a_mean_over_all_values_and_not_over_samples_alone() -> None:
    """A regressor that says 0 leaves the mean square of the hint, whatever its size; a sum would grow with it."""
    for places in (2, 4):
        ours, theirs = drawn(0, 5, 3, places, places), torch.full((5, 4, places, places), 3.0, dtype=torch.float64)
        objective = made("fitnet_hints", ours, theirs)
        for weight in objective.parameters():
            torch.nn.init.zeros_(weight)

        assert called(objective, ours, theirs).tolist() == pytest.approx([9.0] * 5)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (6, 4, 4)], ids=["vector", "sequence", "map"])
def test_nothing_to_learn_where_the_regressor_finds_the_hint(shape: tuple[int, ...]) -> None:
    """With the identity as regressor, equal features lose nothing and have no gradient."""
    features = drawn(1, 3, *shape)
    objective = made("fitnet_hints", features, features.clone())
    last = objective.regressor if len(shape) < 3 else objective.regressor[1]
    torch.nn.init.zeros_(last.bias)
    last.weight.data.copy_(torch.eye(6).reshape(last.weight.shape))
    leaf = features.clone().requires_grad_()
    found = called(objective, leaf, features)
    found.sum().backward()

    torch.testing.assert_close(found, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf))


def test_gradient() -> None:
    """Autograd agrees with finite differences, on the features and on the regressor, where maps are pooled too."""
    ours, theirs = drawn(2, 2, 2, 4, 4), drawn(3, 2, 3, 2, 3)
    objective = made("fitnet_hints", ours, theirs)

    assert passes_gradcheck(lambda features: called(objective, features, theirs), ours)
    assert gradient("fitnet_hints", ours, theirs).abs().sum() > 0
    called(objective, ours, theirs).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in objective.parameters())


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    smaller=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**32),
)
def test_pooling_is_adaptive_average_pooling(size: tuple[int, int], smaller: tuple[int, int], seed: int) -> None:
    """For any two sizes, forward and backward, also where windows overlap."""
    smaller = (min(size[0], smaller[0]), min(size[1], smaller[1]))
    ours, theirs = (drawn(seed, 2, 3, *size).requires_grad_() for _ in range(2))
    found, expected = AdaptiveMean(size, smaller).double()(ours), functional.adaptive_avg_pool2d(theirs, smaller)
    found.square().sum().backward()
    expected.square().sum().backward()

    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)


def test_pooling_works_in_deterministic_mode() -> None:
    """Training forbids kernels whose order of summation changes; this one needs none, on any device."""
    ours = drawn(0, 2, 3, 5, 7).requires_grad_()
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        names = set()
        found = AdaptiveMean((5, 7), (2, 3)).double()(ours)
        node = found.grad_fn
        while node is not None:
            names.add(node.name())
            node = node.next_functions[0][0] if node.next_functions else None
        found.sum().backward()
    finally:
        torch.use_deterministic_algorithms(before)

    assert not any("AdaptiveAvgPool" in name for name in names)


@pytest.mark.parametrize(
    ("student", "teacher", "chosen"),
    [(MAPS, MAPS, "stage2"), (STUDENT, TEACHER, "stage2"), (MAPS, TEACHER, "stage2")],
    ids=["three stages", "two stages", "common"],
)
def test_the_middle_common_stage_unless_told(student: ModelTaps, teacher: ModelTaps, chosen: str) -> None:
    """Of two the later; a name for the student alone is the teacher's too."""
    built = Params().build(spec(student=student, teacher=teacher))
    told = Params(student_tap="embedding").build(spec(student=student, teacher=teacher))

    assert (built.student_taps, built.teacher_taps) == ((chosen,), (chosen,))
    assert (told.student_taps, told.teacher_taps) == (("embedding",), ("embedding",))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"student_tap": "stage9"}, r"the student has no tap point 'stage9'; it has: stage1 \(4, 8, 8\).*Did you mean"),
        ({"teacher_tap": "conv"}, r"the teacher has no tap point 'conv'; it has: .*embedding \(9\)"),
        ({"student_tap": "stage1", "teacher_tap": "embedding"}, r"'stage1' of the student has the shape \(4, 8, 8\) and "
         r"'embedding' of the teacher \(9,\).*allowed: two maps.*Name two other"),
    ],
    ids=["student", "teacher", "map against vector"],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(params: dict[str, str], message: str) -> None:
    """By the tap point, its shape, and what would do."""
    with pytest.raises(BadInputError, match=message):
        Params(**params).build(spec())


def test_sequences_of_different_length_are_refused() -> None:
    """No regressor can say which place belongs to which."""
    with pytest.raises(BadInputError, match=r"sequences \(length, width\) of one length"):
        made("fitnet_hints", drawn(0, 2, 5, 4), drawn(0, 2, 6, 4))


def test_a_teacher_without_stages_is_refused() -> None:
    """As an exported program or an ensemble: with what could be done instead."""
    silent = ModelTaps((), {"program": (7,)})
    with pytest.raises(
        BadInputError, match=r"teacher: none that it names itself.*train the teacher here, give its weights"
    ):
        Params().build(spec(teacher=silent))


def test_rows_do_not_see_each_other() -> None:
    """A row alone loses what it loses among others."""
    ours, theirs = drawn(4, 6, 2, 4, 4), drawn(5, 6, 3, 4, 4)

    torch.testing.assert_close(
        losses("fitnet_hints", ours, theirs)[2:3], losses("fitnet_hints", ours[2:3], theirs[2:3])
    )
