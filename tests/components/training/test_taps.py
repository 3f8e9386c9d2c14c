"""Facts about listening to a model while it answers, and about learning from a teacher that runs live."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components import plugins
from components.contracts import Batch, DataSpec, NoProgress, Signals
from components.errors import BadInputError
from components.models import convnet, mlp, resnet
from components.objectives._base import OnFeatures
from components.params import TrainParams, ViewParams
from components.training.loop import train
from components.training.reproducible import initialised
from components.training.taps import FeatureTeacher, Tapped, submodule, tap_points, taps_of
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload

N, C = 40, 3
DRAW = np.random.default_rng(0)
SAMPLES = DRAW.integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
LABELS = np.arange(N, dtype=np.int64) % C
TRAIN, VALIDATION = np.arange(5, N), np.arange(5)
SPEC = DataSpec((1, 8, 8), ("a", "b", "c"), (0.5,), (0.3,), num_train=len(TRAIN))
FEW = torch.from_numpy(SAMPLES[:4])
MODELS: dict[str, Any] = {
    "convnet": convnet.Params(channels=(4, 6), hidden=5),
    "flat": convnet.Params(channels=(4, 6), pooling="flatten"),
    "resnet": resnet.Params(depth=8, width=0.25),
    "mlp": mlp.Params(hidden=(7, 5), dropout=0.1),
}


def built(name: str) -> nn.Module:
    return initialised(MODELS[name], SPEC, seed=0).eval()


@pytest.mark.parametrize("family", [name for name in plugins.available("models") if name in MODELS])
def test_families_name_their_stages_and_their_embedding(family: str) -> None:
    """stage1, stage2, ... from input to output, then the embedding: what the last layer reads."""
    model = built(family)
    *stages, last = tap_points(model)

    assert stages == [f"stage{number}" for number in range(1, len(stages) + 1)]
    assert last == "embedding"


@pytest.mark.parametrize("name", MODELS)
def test_last_layer_on_the_embedding_gives_the_logits(name: str) -> None:
    """So that the embedding is that of representation methods, whatever the family."""
    model = built(name)
    said = Tapped(model, ("embedding",), precision="fp32")(FEW)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]

    torch.testing.assert_close(last(said.features["embedding"]), said.logits)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_that_are_heard(name: str) -> None:
    """For every tap point, without the batch; the model answers as before and in the mode it was in."""
    model = built(name).train()
    taps = taps_of(model, FEW)
    heard = Tapped(model, taps.points, precision="fp32")(FEW).features

    assert {point: tuple(heard[point].shape[1:]) for point in taps.points} == {
        point: taps.shapes[point] for point in taps.points
    }
    assert model.training


def test_any_submodule_is_a_tap_point() -> None:
    """By its own name; one that does not exist is an error that says what does."""
    model = built("mlp")

    assert taps_of(model, FEW).shapes["layers.0"] == (7,)
    assert submodule(model, "layers.0") is model.layers[0]  # type: ignore[index]
    with pytest.raises(
        BadInputError, match=r"no tap point 'stag1' \(it has: stage1, stage2, embedding.*did you mean 'stage1'"
    ):
        Tapped(model, ("stag1",), precision="fp32")


def test_what_says_more_than_one_tensor_is_no_tap_point() -> None:
    """As blocks of transformers do; the others are heard all the same."""

    class Twice(nn.Module):
        def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
            return samples.float(), samples.float()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = Twice(), nn.Flatten()
            self.tap_points = {"stage1": "block", "embedding": "head"}

        def forward(self, samples: Tensor) -> Tensor:
            return self.head(self.block(samples)[0])

    assert taps_of(Model(), FEW).points == ("embedding",)


def test_a_silent_tap_costs_no_answer() -> None:
    """Once detached the model is as it was, and features are gone."""
    model = built("convnet")
    tapped = Tapped(model, ("stage1",), precision="fp32")
    before = tapped(FEW)
    tapped.detach()

    assert before.features["stage1"].shape == (4, 4, 4, 4)
    assert tapped(FEW).features == {}
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_live_teacher_is_outside_any_graph(precision: Any) -> None:
    """Features in float32, in eval mode, without a gradient."""
    teacher = FeatureTeacher(built("resnet").train(), ("stage2",), precision=precision)
    (features,) = teacher.features(FEW).values()

    assert not teacher.tapped.model.training
    assert (features.dtype, features.requires_grad) == (torch.float32, False)


class Closer(OnFeatures):
    """A projection of the student's embedding, drawn to the teacher's."""

    def __init__(self) -> None:
        super().__init__([("embedding", "embedding")], alpha=0.5, weight=2.0)
        self.projection = nn.Linear(5, 12)
        self.seen: list[Tensor] = []
        self.places: list[int] = []

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        ((ours, theirs),) = self.heard(student, teacher)
        self.seen.append(theirs)
        self.places += batch.place.tolist()
        assert teacher.logits.shape == (len(batch.labels), 0)
        return (self.projection(ours) - theirs).square().mean(1)


def taught(work: Path, objective: Closer, teacher: nn.Module, **changed: Any) -> nn.Module:
    student = initialised(mlp.Params(hidden=(5,)), SPEC, seed=1)
    given: dict[str, Any] = {"params": TrainParams(epochs=3, batch_size=10), "progress": NoProgress(), **changed}
    views = ViewParams(count=2, transforms=({"name": "affine", "shift_pixels": 1},))
    train(
        model=student,
        samples=SAMPLES,
        labels=LABELS,
        train_rows=TRAIN,
        validation_rows=VALIDATION,
        workload=Workload().build(),
        seed=0,
        views=ViewBank(torch.from_numpy(SAMPLES[TRAIN]), DRAW_IDS, views, limit_bytes=0, rows=TRAIN),
        num_views=2,
        work=work,
        device=torch.device("cpu"),
        objective=objective,
        teacher=FeatureTeacher(teacher, objective.teacher_taps, precision="fp32"),
        **given,
    )
    return student


DRAW_IDS = DRAW.integers(0, 256, (N, 16)).astype(np.uint8)
TEACHER = MODELS["convnet"].model_copy(update={"hidden": 12})


def test_student_and_projection_learn_from_features(tmp_path: Path) -> None:
    """The student's features approach the teacher's of the same views; the projection learns with it."""
    teacher, objective = initialised(TEACHER, SPEC, seed=2), Closer()
    kept = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    before = objective.projection.weight.clone()
    taught(tmp_path, objective, teacher)

    assert not torch.equal(objective.projection.weight, before)
    assert all(torch.equal(teacher.state_dict()[name], tensor) for name, tensor in kept.items())
    assert set(objective.places) == set(range(len(TRAIN)))


def test_places_count_the_rows_trained_on(tmp_path: Path) -> None:
    """0 is the first training row, not the first of the data set."""
    objective = Closer()
    taught(tmp_path, objective, initialised(TEACHER, SPEC, seed=2))

    assert (min(objective.places), max(objective.places)) == (0, len(TRAIN) - 1)


def test_without_its_teacher_it_is_refused(tmp_path: Path) -> None:
    """Before the first step, and by what is missing."""
    with pytest.raises(BadInputError, match="needs the teacher's features"):
        train(
            model=initialised(mlp.Params(hidden=(5,)), SPEC, seed=1),
            samples=SAMPLES,
            labels=LABELS,
            train_rows=TRAIN,
            validation_rows=VALIDATION,
            workload=Workload().build(),
            params=TrainParams(),
            seed=0,
            views=ViewBank(torch.from_numpy(SAMPLES), DRAW_IDS, ViewParams(), limit_bytes=0),
            num_views=1,
            work=tmp_path,
            progress=NoProgress(),
            device=torch.device("cpu"),
            objective=Closer(),
        )
