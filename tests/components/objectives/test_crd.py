"""Facts about contrast with remembered samples."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.contracts import Batch, DataSpec, Signals
from components.errors import BadInputError
from components.objectives import _contrast
from components.objectives._contrast import Others, products
from components.objectives.crd import Params
from tests.components.objectives.given import spec
from tests.components.objectives.given_features import TAP, TAPS, drawn, passes_gradcheck, reference, taps

LABELS = [0, 1, 2, 3] * 4
SMALL: dict[str, Any] = {"embedding_width": 8, "num_negatives": 5}


def made(ours: Tensor, theirs: Tensor, labels: list[int] = LABELS, **params: Any) -> Any:
    data = DataSpec((1, 8, 8), tuple("abcd"), (0.5,), (0.25,), num_train=len(labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = Params(**{**TAPS, **SMALL, **params}).build(
            spec(data, student=taps(ours), teacher=taps(theirs), train_labels=labels)
        )
    return built.to(ours.dtype)  # type: ignore[attr-defined]


def called(objective: Any, ours: Tensor, theirs: Tensor, place: Tensor, seed: int = 1) -> Tensor:
    none, labels = torch.empty(len(ours), 0), torch.zeros(len(ours), dtype=torch.int64)
    rows = Batch(labels, labels >= 0, sample_index=place + 7, place=place, progress=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective(Signals(none, {TAP: ours}), Signals(none, {TAP: theirs}), rows)


class Literally:
    """The published loss in float64, one number at a time: banks, normalisers, and what is drawn by another."""

    def __init__(self, objective: Any, *, temperature: float = 0.07, momentum: float = 0.5) -> None:
        state = {name: tensor.double().numpy().copy() for name, tensor in objective.state_dict().items()}
        self.layers = [(state[f"embed_{of}.weight"], state[f"embed_{of}.bias"]) for of in ("student", "teacher")]
        self.banks = [state["student_bank"], state["teacher_bank"]]
        self.z: list[float | None] = [None, None]
        self.temperature, self.momentum = temperature, momentum

    def __call__(self, features: list[np.ndarray], place: list[int], negatives: list[list[int]]) -> float:
        embedded = []
        for rows, (weight, bias) in zip(features, self.layers, strict=True):
            outputs = [weight @ row + bias for row in rows]
            embedded.append([output / math.sqrt((output**2).sum()) for output in outputs])
        total = sum(self._one_way(side, embedded[side], place, negatives) for side in (0, 1))
        for side in (0, 1):
            for at, new in zip(place, embedded[side], strict=True):
                mixed = self.momentum * self.banks[side][at] + (1 - self.momentum) * new
                self.banks[side][at] = mixed / math.sqrt((mixed**2).sum())
        return total

    def _one_way(self, side: int, rows: list[np.ndarray], place: list[int], negatives: list[list[int]]) -> float:
        bank = self.banks[1 - side]
        n, k = len(bank), len(negatives[0])
        odds = [
            [math.exp(bank[at] @ row / self.temperature) for at in (own, *others)]
            for row, own, others in zip(rows, place, negatives, strict=True)
        ]
        if self.z[side] is None:
            self.z[side] = n * sum(map(sum, odds)) / (len(odds) * (k + 1))
        total = 0.0
        for own, *others in odds:
            p = own / self.z[side]
            total -= math.log(p / (p + k / n + 1e-7))
            total -= sum(math.log(k / n / (other / self.z[side] + k / n + 1e-7)) for other in others)
        return total / len(odds)


def test_is_the_published_loss_batch_after_batch() -> None:
    """Three batches, so that Z of the first batch and what was remembered of each sample count too."""
    ours, theirs = reference().student_embeddings, reference().teacher_embeddings
    objective = made(ours, theirs)
    literal = Literally(objective)
    for seed, rows in enumerate(([0, 5, 2, 11], [3, 0, 7, 15], [5, 6, 1, 0])):
        place = torch.tensor(rows)
        found = called(objective, ours[place], theirs[place], place, seed=seed).mean().item()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            negatives = objective.others.draw(place).tolist()
        features = [ours[place].double().numpy(), theirs[place].double().numpy()]

        assert found == pytest.approx(literal(features, rows, negatives), rel=1e-5)
        for bank, written in zip((objective.student_bank, objective.teacher_bank), literal.banks, strict=True):
            np.testing.assert_allclose(bank.numpy(), written, rtol=1e-4, atol=1e-6)


def test_the_normaliser_is_of_the_first_batch_alone() -> None:
    """Set by the mean of the first batch times the number of samples, so that a likeness is then 1 / n on average."""
    ours, theirs = drawn(0, 16, 6), drawn(1, 16, 4)
    objective = made(ours, theirs)
    before = objective.teacher_bank.clone()
    place = torch.arange(8)
    called(objective, ours[:8], theirs[:8], place)
    first = objective.student_scale.clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        places = torch.cat((place.unsqueeze(1), objective.others.draw(place)), 1)
    embedded = torch.nn.functional.normalize(objective.embed_student(ours[:8]), dim=1)
    likeness = (torch.einsum("nkd,nd->nk", before[places], embedded) / 0.07).exp()
    called(objective, ours[8:], theirs[8:], torch.arange(8, 16))

    assert first.item() == pytest.approx(likeness.mean().item() * 16)
    assert objective.student_scale == first


def test_banks_begin_within_the_published_bounds() -> None:
    """Uniform within 1 / sqrt(width / 3): rows of about length 1."""
    bank = made(drawn(0, 16, 6), drawn(1, 16, 4), embedding_width=300).student_bank

    assert bank.abs().max() <= 0.1
    assert bank.norm(dim=1).mean().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "labels", [LABELS, [0] * 10 + [1] * 6, [3, 0, 0, 2] * 4], ids=["even", "uneven", "a class absent"]
)
def test_negatives_are_of_other_classes(labels: list[int]) -> None:
    """Every sample of another class as often as any other, and none of its own."""
    others = Others(np.array(labels), 4000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn_places = others.draw(torch.arange(16))
    for own, row in enumerate(drawn_places.tolist()):
        counts = np.bincount(row, minlength=16)
        allowed = np.array([label != labels[own] for label in labels])

        assert counts[~allowed].sum() == 0
        expected = 4000 / allowed.sum()
        assert np.abs(counts[allowed] - expected).max() < 5 * math.sqrt(expected)


def test_without_a_label_all_others_are_negatives() -> None:
    """And samples without one are negatives of those with one, whose class they probably are not."""
    labels = [-1, 0, -1, 1, 0, -1]
    others = Others(np.array(labels), 500)
    drawn_places = others.draw(torch.arange(6)).tolist()
    told_from = [set(row) for row in drawn_places]

    assert told_from[0] == {1, 2, 3, 4, 5}
    assert told_from[2] == {0, 1, 3, 4, 5}
    assert told_from[5] == {0, 1, 2, 3, 4}
    assert told_from[1] == told_from[4] == {0, 2, 3, 5}
    assert told_from[3] == {0, 1, 2, 4, 5}


def test_where_labels_are_numbers_all_others_are_negatives() -> None:
    """There are no classes to keep apart."""
    others = Others(np.array([[0.5], [0.5], [2.0]], dtype=np.float32), 100)

    assert [set(row) for row in others.draw(torch.arange(3)).tolist()] == [{1, 2}, {0, 2}, {0, 1}]


def test_negatives_come_from_torchs_generator() -> None:
    """So that a resumed run draws what an undisturbed one draws."""
    others = Others(np.array(LABELS), 50)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = others.draw(torch.arange(16))
        torch.manual_seed(3)
        again = others.draw(torch.arange(16))
        other = others.draw(torch.arange(16))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("labels", [[2] * 8, [-1]], ids=["one class", "one sample"])
def test_nothing_to_tell_apart_is_refused(labels: list[int]) -> None:
    """With the way out."""
    with pytest.raises(BadInputError, match=r"samples of different classes.*take another objective"):
        Others(np.array(labels), 5)


def test_few_and_many_remembered_are_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either side of the number from which rows are fetched one by one: products and their gradient."""
    bank, places = drawn(6, 30, 4), torch.randint(30, (5, 7), generator=torch.Generator().manual_seed(0))
    found = []
    for at_most in (0, 64):
        monkeypatch.setattr(_contrast, "PRODUCTS_FOR_ONE_LOOKUP", at_most)
        embedded = drawn(7, 5, 4).requires_grad_()
        products(embedded, bank, places).exp().sum().backward()
        found.append((products(embedded, bank, places).detach(), embedded.grad))

    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found[0][0][2, 3], drawn(7, 5, 4)[2] @ bank[places[2, 3]])


def test_gradient() -> None:
    """Autograd agrees with finite differences from the same banks; the banks themselves are outside any graph."""
    ours, theirs = drawn(2, 4, 3), drawn(3, 4, 5)
    objective, place = made(ours, theirs), torch.tensor([1, 4, 2, 7])
    called(objective, ours, theirs, place)

    assert passes_gradcheck(lambda features: called(copy.deepcopy(objective), features, theirs, place), ours)
    assert not any(buffer.requires_grad for buffer in objective.buffers())


def test_both_embeddings_learn() -> None:
    """A few steps on one batch bring the loss down."""
    ours, theirs = drawn(4, 16, 6), drawn(5, 16, 4)
    objective, place = made(ours, theirs, num_negatives=12), torch.arange(16)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05)
    history = []
    for _ in range(30):
        loss = called(objective, ours, theirs, place).mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in objective.parameters())
        optimizer.step()
        history.append(loss.item())

    assert history[-1] < history[1] - 1


def test_what_must_be_kept_is_in_its_state() -> None:
    """Banks, normalisers and embeddings; not what follows from the labels."""
    objective = made(drawn(0, 16, 6), drawn(1, 16, 4))

    assert set(objective.state_dict()) == {
        "student_bank", "teacher_bank", "student_scale", "teacher_scale",
        "embed_student.weight", "embed_student.bias", "embed_teacher.weight", "embed_teacher.bias",
    }  # fmt: skip


def test_the_embeddings_unless_told() -> None:
    """What is not there is refused."""
    built = Params().build(spec())

    assert (built.student_taps, built.teacher_taps, built.reduction) == (("embedding",), ("embedding",), "batch")
    with pytest.raises(BadInputError, match="the teacher has no tap point 'top'"):
        Params(teacher_tap="top").build(spec())
