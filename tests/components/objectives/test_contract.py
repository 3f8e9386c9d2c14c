"""What every objective owes; a new file in components/objectives/ is tested by being there."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components import plugins
from components.contracts import Batch, ClosedForm, Objective, ObjectiveParams, Signals
from tests.components.objectives.given import NEEDED, STUDENT, TEACHER, at, batch, built, leaves, signals

NAMES = plugins.available("objectives")
N = 12


def called(objective: Objective, student: Signals, teacher: Signals) -> torch.Tensor:
    """Its losses, whatever it draws drawn from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return objective(student, teacher, batch(len(student.logits)))


@pytest.mark.parametrize("name", NAMES)
def test_one_finite_loss_a_row(name: str) -> None:
    """[N, C] gives [N] finite float32 losses, also where rows have no label."""
    student, teacher = signals(0, N)
    losses = built(name)(student, teacher, batch(N, unlabelled=2))

    assert losses.shape == (N,)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_what_it_reads_of_the_student_alone(name: str) -> None:
    """Logits or the features that it names get a finite gradient; the teacher's signals are not asked for one."""
    objective = built(name)
    student, teacher = signals(1, N)
    student = leaves(student)
    objective(student, teacher, batch(N, unlabelled=2)).mean().backward()

    read = [student.features[tap] for tap in objective.student_taps]
    read += [student.logits] if "logits" in objective.needs else []
    assert read
    for tensor in read:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in (teacher.logits, *teacher.features.values()))


@pytest.mark.parametrize("name", NAMES)
def test_reads_nothing_but_what_it_names(name: str) -> None:
    """Signals that it does not need or name may be missing, as they are in training."""
    objective = built(name)
    student, teacher = signals(2, N)
    lean_student = type(student)(student.logits, {tap: student.features[tap] for tap in objective.student_taps})
    logits = teacher.logits if "logits" in objective.needs else teacher.logits[:, :0]
    lean_teacher = type(teacher)(logits, {tap: teacher.features[tap] for tap in objective.teacher_taps})

    torch.testing.assert_close(called(built(name), lean_student, lean_teacher), called(built(name), student, teacher))
    assert bool(objective.teacher_taps) == ("features" in objective.needs)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter(name: str) -> None:
    """Permuted rows give permuted losses, for every objective that says it looks at rows one by one."""
    objective = built(name)
    if objective.reduction != "rows":
        pytest.skip("looks at the batch as a whole")
    (student, teacher), rows = signals(2, N), batch(N, unlabelled=2)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    permuted = Batch(
        rows.labels[order], rows.labelled[order], rows.sample_index[order], rows.place[order], rows.progress
    )

    torch.testing.assert_close(
        objective(at(order, student), at(order, teacher), permuted), objective(student, teacher, rows)[order]
    )


def zeros(said: Signals) -> Signals:
    return Signals(
        torch.zeros_like(said.logits), {tap: torch.zeros_like(heard) for tap, heard in said.features.items()}
    )


@pytest.mark.parametrize("count", [1, N])
@pytest.mark.parametrize("name", NAMES)
def test_a_dead_layer_is_no_disaster(name: str, count: int) -> None:
    """Losses and gradients stay small where all features of the student are 0, of many samples or of one."""
    objective = built(name)
    if objective.needs != {"features"}:
        pytest.skip("reads logits, which no layer after them sets to 0")
    student, teacher = signals(5, count)
    student = leaves(zeros(student))
    losses = called(objective, student, teacher)
    losses.mean().backward()

    assert losses.isfinite().all()
    assert all(student.features[tap].grad.abs().max() < 1e4 for tap in objective.student_taps)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_not_divided_by_their_number(name: str) -> None:
    """Half of the rows lose what they lose among all: only the loop takes the mean, and only once."""
    objective = built(name)
    if objective.reduction != "rows":
        pytest.skip("looks at the batch as a whole")
    student, teacher = signals(2, N)
    half = torch.arange(N // 2)

    torch.testing.assert_close(
        objective(at(half, student), at(half, teacher), batch(N // 2)), objective(student, teacher, batch(N))[: N // 2]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_form_is_what_autograd_finds(name: str) -> None:
    """Where an objective offers its gradient itself, losses and gradient are those of calling it, in float64."""
    objective = built(name)
    if not isinstance(objective, ClosedForm):
        pytest.skip("offers none")
    student, teacher = signals(3, N, dtype=torch.float64)
    leaf = leaves(student)
    called = objective(leaf, teacher, batch(N, unlabelled=2))
    called.sum().backward()
    losses, gradient = objective.rows_and_gradient(student, teacher, batch(N, unlabelled=2))

    torch.testing.assert_close(losses, called.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, leaf.logits.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str)
@given(
    count=st.integers(0, 9),
    unlabelled=st.integers(0, 9),
    scale=st.just(0.0) | st.floats(1e-3, 10),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=20)
def test_a_closed_form_holds_for_any_logits(
    name: str, dtype: torch.dtype, tolerance: float, count: int, unlabelled: int, scale: float, seed: int
) -> None:
    """Sharp, flat and empty batches: within rounding of autograd in float64, relative to the largest number of each."""
    objective = built(name)
    if not isinstance(objective, ClosedForm):
        pytest.skip("offers none")
    student, teacher = (Signals((said.logits * scale).to(dtype)) for said in signals(seed, count, dtype=torch.float64))
    rows = batch(count, unlabelled=min(unlabelled, count))
    leaf = Signals(student.logits.double().requires_grad_())
    called = objective(leaf, Signals(teacher.logits.double()), rows)
    called.sum().backward()
    losses, gradient = objective.rows_and_gradient(student, teacher, rows)

    assert losses.dtype == gradient.dtype == dtype
    for found, wanted in ((losses, called.detach()), (gradient, leaf.logits.grad)):
        size = max([1.0, *wanted.abs().flatten().tolist()])
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", NAMES)
def test_autograd_agrees_with_finite_differences(name: str) -> None:
    """In float64, for objectives on logits; the sum of all rows, since some look at the batch as a whole."""
    objective = built(name)
    if objective.needs != {"logits"}:
        pytest.skip("reads features")
    student, teacher = signals(6, 4, dtype=torch.float64)
    rows = batch(4, unlabelled=1)

    assert torch.autograd.gradcheck(
        lambda logits: objective(Signals(logits), teacher, rows).sum(), leaves(student).logits
    )


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    """Alpha lies in 0..1, needs and reduction are declared as in its Params, and its own parameters are iterable."""
    objective = built(name)
    params = plugins.params_class("objectives", name).model_validate({"name": name, **NEEDED.get(name, {})})

    assert isinstance(params, ObjectiveParams)
    assert objective.alpha == params.alpha
    assert objective.weight == params.weight
    assert objective.needs == params.needs <= {"logits", "features"}
    assert set(objective.student_taps) <= set(STUDENT.shapes)
    assert set(objective.teacher_taps) <= set(TEACHER.shapes)
    assert objective.reduction in ("rows", "batch")
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in objective.parameters())
    assert params.plugin_names()[0] == name
    assert params.in_words().count(name) >= (name != "combined")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_builds_the_same_objective(name: str) -> None:
    """What it learns and remembers begins alike, and it is called twice with the same result from the same state."""
    student, teacher = signals(4, N)

    assert torch.equal(called(built(name), student, teacher), called(built(name), student, teacher))


@pytest.mark.parametrize("family", ["models", "objectives", "workloads"])
def test_params_need_no_torch(family: str) -> None:
    """params.yaml can be typed, and plugins listed, in a process that never imports torch."""
    code = (
        "import sys; from components import plugins\n"
        f"for name in plugins.available({family!r}): plugins.params_class({family!r}, name)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr == b""
