"""An objective, a model and a workload in a package of the user's own, by dotted names: no file of the project changes."""

import pytest

LOSSES = '''
"""The student's outputs and its embedding point where the teacher's do."""
from typing import Literal

from pydantic import Field

from components.contracts import ObjectiveParams


class Params(ObjectiveParams):
    name: Literal["acme_kd.losses"] = "acme_kd.losses"
    embedding_share: float = Field(0.5, ge=0, le=1, description="of the loss")

    @property
    def needs(self):
        return frozenset({"logits", "features"})

    def build(self, spec):
        from acme_kd.cosine import Cosine

        return Cosine(self.embedding_share, alpha=self.alpha, weight=self.weight)
'''
COSINE = """
from torch.nn.functional import cosine_similarity


class Cosine:
    needs = frozenset({"logits", "features"})
    student_taps = teacher_taps = ("embedding",)
    reduction = "rows"

    def __init__(self, share, *, alpha, weight):
        self.share, self.alpha, self.weight = share, alpha, weight

    def __call__(self, student, teacher, batch):
        said = 1 - cosine_similarity(student.logits, teacher.logits)
        (ours,), (theirs,) = student.features.values(), teacher.features.values()
        return (1 - self.share) * said + self.share * (1 - cosine_similarity(ours, theirs))

    def parameters(self):
        return iter(())
"""
MODELS = '''
"""A network whose embedding has four numbers for every class."""
from typing import Literal

from components.contracts import ModelParams


class Params(ModelParams):
    name: Literal["acme_kd.models"] = "acme_kd.models"
    hidden: int = 16

    def build(self, data):
        from acme_kd.network import Network

        return Network(data, self.hidden)
'''
NETWORK = """
import math

from torch import nn


class Network(nn.Module):
    tap_points = {"stage1": "first", "embedding": "second"}

    def __init__(self, data, hidden):
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(data.sample_shape), hidden), nn.ReLU())
        self.second = nn.Linear(hidden, 40)
        self.last = nn.Linear(40, data.num_classes)

    def forward(self, samples):
        return self.last(self.second(self.first(samples.float() / 255)))
"""
TASKS = '''
"""Pictures whose labels are sometimes wrong: a loss that no single row can dominate."""
from typing import Literal

from components.workloads.image_classification import ImageClassification
from components.workloads.image_classification import Params as Pictures


class Params(Pictures):
    name: Literal["acme_kd.tasks"] = "acme_kd.tasks"

    def build(self, data=None):
        return Robust(calibration_bins=self.calibration_bins)


class Robust(ImageClassification):
    def hard_label_loss(self, outputs, labels, *, label_smoothing):
        own = outputs.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        return (1 - own ** 0.5) / 0.5
'''
FILES = {
    "__init__": "", "losses": LOSSES, "cosine": COSINE, "models": MODELS, "network": NETWORK, "tasks": TASKS
}  # fmt: skip
OWN = (
    "workload.name=acme_kd.tasks",
    "teacher.model={name: acme_kd.models, hidden: 48}",
    "student.model={name: acme_kd.models, hidden: 8}",
    "student.objective={name: acme_kd.losses, alpha: 0.7}",
)


@pytest.mark.slow
def test_the_whole_pipeline_runs_on_a_package_of_ones_own(world):
    """Data to export, found again the second time; the objective's code, reached by import too, is part of the student's key."""
    package = world.root / "acme_kd"
    package.mkdir()
    for name, content in FILES.items():
        (package / f"{name}.py").write_text(content, encoding="utf-8")
    first = world.run(*OWN)
    assert not any(cached for cached, _ in first.values())
    assert world.computed(*OWN) == []

    world.edit("acme_kd/cosine.py", "return (1 - self.share)", "return 2 * (1 - self.share)")
    changed = world.run(*OWN)
    assert not changed["student"][0]
    assert changed["student"][1] != first["student"][1]
    assert changed["teacher"][1] == first["teacher"][1]

    plan = world.command("plan", *(f"--set={override}" for override in OWN), "--set=student.seed=1", COLUMNS="200")
    assert "objective acme_kd.losses needs the teacher's features: it runs live" in plan.out
    missing = world.command("plan", "--set=student.objective={name: acme_kd.lossses}").refused_with(2)
    assert "no module 'acme_kd.lossses' on the Python path" in missing
