"""Facts about attention maps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from components.contracts import ModelTaps
from components.errors import BadInputError
from components.objectives.attention_transfer import Params
from tests.components.objectives.given import STUDENT, TEACHER, batch, signals, spec
from tests.components.objectives.given_features import (
    called,
    drawn,
    gradient,
    losses,
    made,
    passes_gradcheck,
    reference,
)

FORMS = ("code", "paper")


def literally(ours: np.ndarray, theirs: np.ndarray, form: str) -> float:
    """Normalised sums of squares over channels; then as the code or as the paper has it, sample by sample."""
    total = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        maps = [np.square(maps).sum(0).ravel() for maps in (mine, other)]
        difference = maps[0] / math.sqrt((maps[0] ** 2).sum()) - maps[1] / math.sqrt((maps[1] ** 2).sum())
        total += (difference**2).mean() if form == "code" else math.sqrt((difference**2).sum())
    return total / len(ours)


@pytest.mark.parametrize(("form", "published"), [("code", 0.002674), ("paper", 0.4131)])
def test_agrees_with_the_reference_implementations(form: str, published: float) -> None:
    """RepDistiller and mdistiller have the code's form, torchdistill's mode 'paper' the other, on the same tensors."""
    ours, theirs = reference().student_maps, reference().teacher_maps
    found = losses("attention_transfer", ours, theirs, form=form).mean().item()

    assert found == pytest.approx(literally(ours.double().numpy(), theirs.double().numpy(), form), rel=1e-5)
    assert float(f"{found:.4g}") == published


def test_two_places_by_hand() -> None:
    """Looking at two different places: apart by the root of 2 in the paper's form, by 1 in the mean over two in the code's."""
    left, right = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])

    assert losses("attention_transfer", left, right, form="paper").item() == pytest.approx(math.sqrt(2))
    assert losses("attention_transfer", left, right, form="code").item() == pytest.approx(1.0)


@pytest.mark.parametrize("form", FORMS)
def test_least_where_both_look_alike(form: str) -> None:
    """Equal maps lose nothing and have no gradient; nor do maps that differ by a factor a sample."""
    maps = drawn(0, 4, 3, 5, 5)
    scaled = maps * torch.tensor([0.1, 1.0, 3.0, 50.0], dtype=torch.float64).view(4, 1, 1, 1)

    assert losses("attention_transfer", maps, maps.clone(), form=form).tolist() == [0.0] * 4
    assert gradient("attention_transfer", maps, maps.clone(), form=form).tolist() == torch.zeros_like(maps).tolist()
    torch.testing.assert_close(
        losses("attention_transfer", scaled, maps, form=form), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0
    )


@given(seed=st.integers(0, 2**32), form=st.sampled_from(FORMS))
def test_order_and_sign_of_channels_mean_nothing(seed: int, form: str) -> None:
    """Only the energy at each place counts; the teacher may have another number of channels."""
    ours, theirs = drawn(seed, 3, 4, 3, 3), drawn(seed + 1, 3, 6, 3, 3)
    shuffled = -ours[:, torch.randperm(4, generator=torch.Generator().manual_seed(seed))]

    torch.testing.assert_close(
        losses("attention_transfer", shuffled, theirs, form=form), losses("attention_transfer", ours, theirs, form=form)
    )


@pytest.mark.parametrize("form", FORMS)
def test_maps_of_other_size_are_pooled_to_the_smaller(form: str) -> None:
    """Whichever of the two is larger; features are pooled, not their squares."""
    ours, theirs = drawn(1, 3, 2, 6, 6), drawn(2, 3, 4, 3, 3)
    pooled = functional.adaptive_avg_pool2d(ours, 3)

    for pair, small in (((ours, theirs), (pooled, theirs)), ((theirs, ours), (theirs, pooled))):
        torch.testing.assert_close(
            losses("attention_transfer", *pair, form=form), losses("attention_transfer", *small, form=form)
        )


@pytest.mark.parametrize("form", FORMS)
def test_gradient(form: str) -> None:
    """Autograd agrees with finite differences, through the pooling."""
    ours, theirs = drawn(3, 2, 2, 4, 4), drawn(4, 2, 3, 2, 2)
    objective = made("attention_transfer", ours, theirs, form=form)

    assert passes_gradcheck(lambda features: called(objective, features, theirs), ours)


def test_pairs_add_up() -> None:
    """The same pair twice loses twice as much."""
    once = Params(pairs=(("stage1", "stage1"),)).build(spec())
    twice = Params(pairs=(("stage1", "stage1"), ("stage1", "stage1"))).build(spec())
    student, teacher = signals(0, 4)
    torch.testing.assert_close(twice(student, teacher, batch(4)), 2 * once(student, teacher, batch(4)))


def test_all_common_stages_that_are_maps_unless_told() -> None:
    """The embedding is none, and a stage that is a vector is left out."""
    built = Params().build(spec())
    flat = ModelTaps(STUDENT.points, {**STUDENT.shapes, "stage2": (6,)})

    assert built.student_taps == built.teacher_taps == ("stage1", "stage2")
    assert Params().build(spec(student=flat)).student_taps == ("stage1",)


def test_what_has_no_maps_is_refused() -> None:
    """By a pair that is named, and by two models that have none in common."""
    flat = ModelTaps(("stage1", "embedding"), {"stage1": (4,), "embedding": (4,)})
    with pytest.raises(BadInputError, match=r"'embedding' of the student has the shape \(6,\).*allowed: two maps"):
        Params(pairs=(("embedding", "stage2"),)).build(spec())
    with pytest.raises(
        BadInputError, match=r"no stage is one in both models \(student: stage1 \(4\).*rkd or similarity"
    ):
        Params().build(spec(student=flat, teacher=TEACHER))


def test_weight_fits_the_form() -> None:
    """The forms differ a hundredfold in size; a weight that is given stands."""
    assert Params().weight > Params(form="paper").weight > 0
    assert Params(form="paper", weight=3).weight == 3


def test_in_words_names_the_pairs() -> None:
    """And nothing that was left to the default."""
    assert "pairs" not in Params().in_words()
    assert "pairs stage1-stage2" in Params(pairs=(("stage1", "stage2"),)).in_words()
