"""What every objective owes; a new file in components/objectives/ is tested by being there."""

import subprocess
import sys

import pytest
import torch

from components import plugins
from components.contracts import Batch, ClosedForm, DataSpec, Objective, ObjectiveParams, Signals

NAMES = plugins.available("objectives")
SPEC = DataSpec((1, 8, 8), tuple("abcdefg"), (0.5,), (0.25,), num_train=100)
N, C = 12, SPEC.num_classes


def built(name: str) -> Objective:
    params = plugins.params_class("objectives", name).model_validate({"name": name})
    assert isinstance(params, ObjectiveParams)
    return params.build(SPEC)


def rows(seed: int) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Student and teacher logits [N, C], and a batch in which two rows have no label."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, N, C, generator=generator) * 3).unbind()
    labels = torch.arange(N) % C
    labels[:2] = -1
    return student.clone(), teacher, Batch(labels, labels >= 0, torch.arange(N), 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_one_finite_loss_a_row(name: str) -> None:
    """[N, C] gives [N] finite float32 losses, also where rows have no label."""
    student, teacher, batch = rows(0)
    losses = built(name)(Signals(student), Signals(teacher), batch)

    assert losses.shape == (N,)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_the_student_alone(name: str) -> None:
    """The student's logits get a finite gradient, and the teacher's are not asked for one."""
    student, teacher, batch = rows(1)
    student.requires_grad_()
    built(name)(Signals(student), Signals(teacher), batch).mean().backward()

    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter(name: str) -> None:
    """Permuted rows give permuted losses, for every objective that says it looks at rows one by one."""
    objective = built(name)
    if objective.reduction != "rows":
        pytest.skip("looks at the batch as a whole")
    student, teacher, batch = rows(2)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    permuted = Batch(batch.labels[order], batch.labelled[order], batch.sample_index[order], batch.progress)

    torch.testing.assert_close(
        objective(Signals(student[order]), Signals(teacher[order]), permuted),
        objective(Signals(student), Signals(teacher), batch)[order],
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_form_is_what_autograd_finds(name: str) -> None:
    """Where an objective offers its gradient itself, losses and gradient are those of calling it, in float64."""
    objective = built(name)
    if not isinstance(objective, ClosedForm):
        pytest.skip("offers none")
    student, teacher, batch = rows(3)
    leaf, teacher = student.double().requires_grad_(), teacher.double()
    called = objective(Signals(leaf), Signals(teacher), batch)
    called.sum().backward()
    losses, gradient = objective.rows_and_gradient(Signals(student.double()), Signals(teacher), batch)

    torch.testing.assert_close(losses, called.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    """Alpha lies in 0..1, needs and reduction are declared, and its own parameters are iterable."""
    objective = built(name)

    assert 0 <= objective.alpha <= 1
    assert objective.needs
    assert objective.reduction in ("rows", "batch")
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in objective.parameters())


@pytest.mark.parametrize("family", ["models", "objectives", "workloads"])
def test_params_need_no_torch(family: str) -> None:
    """params.yaml can be typed, and plugins listed, in a process that never imports torch."""
    code = (
        "import sys; from components import plugins\n"
        f"for name in plugins.available({family!r}): plugins.params_class({family!r}, name)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr == b""
