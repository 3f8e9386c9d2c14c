"""A step that learns from stored soft targets against the usual ways to the same teacher."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from components.contracts import ModelParams, NoProgress
from components.models import convnet, mlp
from components.objectives import kd
from components.params import SoftTargetParams
from components.soft_targets.header import Identity
from components.soft_targets.live import LiveTeacher
from components.soft_targets.reader import SoftTargets
from components.soft_targets.writer import Teacher, write_soft_targets
from components.training.losses import Targets
from components.training.reproducible import initialised
from tests.components.objectives.given import spec

pytestmark = pytest.mark.bench
NUM_ROWS, BATCH, ALPHA, TEMPERATURE = 2048, 256, 0.9, 2.0
TEACHER = convnet.Params(channels=(20, 40, 80), convs_per_stage=2)
STUDENTS = {"mlp": mlp.Params(hidden=(24,)), "convnet": convnet.Params(channels=(8, 16, 32))}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a feature cache of one file a sample lies."""
    return tmp_path_factory.mktemp("files")


class OneByOne(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A picture and a file of teacher logits a sample, as hand-written distillation scripts read them."""

    def __init__(self, samples: np.ndarray, labels: np.ndarray, files: Path) -> None:
        self.samples, self.labels, self.files = samples, labels, files

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int, Tensor]:
        picture = torch.from_numpy(np.array(Image.fromarray(self.samples[row, 0])))[None]
        return picture, int(self.labels[row]), torch.load(self.files / f"{row}.pt", weights_only=True)


def endless(loader: torch.utils.data.DataLoader) -> Iterator[Any]:  # type: ignore[type-arg]
    while True:
        yield from loader


class PlainSteps:
    """The loop that anybody would write around such a loader."""

    def __init__(self, student: ModelParams, spec: Any, loader: Iterator[Any]) -> None:
        self.model = initialised(student, spec, seed=0).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True)
        self.loader = loader

    def __call__(self, _: int) -> None:
        samples, labels, said = next(self.loader)
        logits = self.model(samples)
        soft = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, 1),
            functional.softmax(said.float() / TEMPERATURE, 1),
            reduction="batchmean",
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def write(bench: Any, teacher: Teacher, samples: np.ndarray, folder: Path) -> SoftTargets:
    out = folder / "out"
    out.mkdir()
    write_soft_targets(
        teacher=teacher,
        bank=bench.views(samples),
        rows=np.arange(len(samples)),
        num_views=1,
        identity=Identity(teacher_digest="t", data_digest="d", view_spec={}, class_names=bench.spec.class_names),
        params=SoftTargetParams(batch_size=BATCH),
        out=out,
        work=folder / "work",
        progress=NoProgress(),
    )
    return SoftTargets.load(out)


@dataclass
class Setting:
    """The teacher of Fashion-MNIST's recipe, 113,150 weights, and what it said of the samples."""

    bench: Any
    samples: np.ndarray
    labels: np.ndarray
    teacher: torch.nn.Module
    stored: SoftTargets

    def bf16(self, batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = self.teacher(batch)
        return logits

    def steps(self, student: ModelParams, targets: Targets) -> Callable[[int], None]:
        """Of the real loop, in the memory format that is fastest for convolutions."""
        objective = kd.Params(alpha=ALPHA, temperature=TEMPERATURE).build(spec(self.bench.spec))
        given = {"batch_size": BATCH, "objective": objective, "targets": targets, "channels_last": True}
        steps: Callable[[int], None] = self.bench.steps(student, self.samples, self.labels, **given)
        return steps

    def live(self, teacher: Teacher) -> LiveTeacher:
        return LiveTeacher(teacher, self.bench.views(self.samples), BATCH)


@pytest.fixture
def setting(bench: Any, tmp_path: Path) -> Setting:
    samples, labels = bench.samples(NUM_ROWS)
    teacher = initialised(TEACHER, bench.spec, seed=1).eval()
    return Setting(bench, samples, labels, teacher, write(bench, teacher, samples, tmp_path))


@pytest.mark.parametrize("name", STUDENTS)
def test_a_cached_step_leaves_the_teacher_out(setting: Setting, name: str) -> None:
    """The small student of MNIST learns at least 6 x faster than with its teacher online in bf16.

    For the convolutional student of Fashion-MNIST, whose own step is a third of its teacher's forward pass, the factor
    is that of the pair: at least 0.9 of what it would be if soft targets cost nothing.
    """
    bench, student = setting.bench, STUDENTS[name]
    batch = torch.from_numpy(setting.samples[:BATCH])

    def forward(_: int) -> None:
        with torch.inference_mode():
            setting.bf16(batch)

    cached, half, full, labels_alone, teacher = bench.interleaved(
        setting.steps(student, setting.stored),
        setting.steps(student, setting.live(setting.bf16)),
        setting.steps(student, setting.live(setting.teacher)),
        bench.steps(student, setting.samples, setting.labels, batch_size=BATCH, channels_last=True),
        forward,
        rounds=40,
        calls=1,
    )

    limit = statistics.median((step + said) / step for step, said in zip(labels_alone, teacher, strict=True))
    found = bench.ratio(half, cached)
    print(
        f"\n{name}: stored soft targets {bench.micros(cached)} a step   online bf16 {found:.1f} x, and if soft targets "
        f"cost nothing {limit:.1f} x   online fp32 {bench.ratio(full, cached):.1f} x"
    )
    assert found >= (6 if name == "mlp" else 0.9 * limit)


def test_a_file_a_sample_is_slow(setting: Setting, files: Path) -> None:
    """5 x faster than the plain loop around a loader with 2 workers that opens a picture and a file of logits a sample."""
    bench, student = setting.bench, STUDENTS["mlp"]
    said = setting.stored.gather(torch.arange(NUM_ROWS), 0)
    for row in range(NUM_ROWS):
        torch.save(said[row].clone(), files / f"{row}.pt")
    loader = torch.utils.data.DataLoader(
        OneByOne(setting.samples, setting.labels, files),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )
    by_file = PlainSteps(student, bench.spec, endless(loader))

    # The pause lets the workers fill their queues, which else would take from the time of whoever comes next.
    slow, _, cached = bench.interleaved(
        by_file, lambda _: time.sleep(0.2), setting.steps(student, setting.stored), rounds=6, calls=16
    )

    print(f"\nstored soft targets {bench.micros(cached)} a step   a file a sample {bench.ratio(slow, cached):.1f} x")
    assert bench.ratio(slow, cached) >= 5
