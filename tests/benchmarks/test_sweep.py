"""A sweep over temperatures and alphas from one set of soft targets, against the teacher online in every run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from components.contracts import NoProgress
from components.models import convnet
from components.objectives import kd
from components.params import OptimizerParams, SoftTargetParams, TrainParams
from components.soft_targets.header import Identity
from components.soft_targets.live import LiveTeacher
from components.soft_targets.reader import SoftTargets
from components.soft_targets.writer import write_soft_targets
from components.training.loop import train
from components.training.reproducible import initialised
from components.workloads.image_classification import Params as Workload
from tests.components.objectives.given import spec

pytestmark = pytest.mark.bench
NUM_ROWS, BATCH, EPOCHS = 4096, 256, 3
TEACHER, STUDENT = convnet.Params(channels=(20, 40, 80), convs_per_stage=2), convnet.Params(channels=(8, 16, 32))
CHOICES = list(itertools.product((1.0, 2.0, 4.0, 8.0), (0.5, 0.9)))
RATE = 0.01


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Sweep:
    """Both ways to eight students, and the bare steps that neither can do without."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.samples, self.labels = bench.samples(NUM_ROWS)
        self.teacher = initialised(TEACHER, bench.spec, seed=1).eval()
        self.batches = list(torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(0)).split(BATCH))
        self.said = torch.zeros(NUM_ROWS, len(bench.spec.class_names))

    def bf16(self, batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = self.teacher(batch)
        return logits

    def bare_teacher(self) -> None:
        """Every sample through the teacher once, as a step would show them."""
        with torch.inference_mode():
            for rows in self.batches:
                self.bf16(torch.from_numpy(self.samples)[rows])

    def bare_student(self, temperature: float, alpha: float) -> None:
        """The steps of one student in a loop that anybody would write, its soft targets in memory."""
        model = initialised(STUDENT, self.bench.spec, seed=0).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True, fused=True)
        samples, labels = torch.from_numpy(self.samples), torch.from_numpy(self.labels)
        for _, rows in itertools.product(range(EPOCHS), self.batches):
            logits = model(samples[rows])
            soft = functional.kl_div(
                functional.log_softmax(logits / temperature, 1),
                functional.softmax(self.said[rows] / temperature, 1),
                reduction="batchmean",
            )
            loss = alpha * temperature**2 * soft + (1 - alpha) * functional.cross_entropy(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def write(self) -> None:
        """Soft targets of the whole set, from asking to the last fsync."""
        (self.folder / "out").mkdir()
        write_soft_targets(
            teacher=self.bf16,
            bank=self.bench.views(self.samples),
            rows=np.arange(NUM_ROWS),
            num_views=1,
            identity=Identity(
                teacher_digest="t", data_digest="d", view_spec={}, class_names=self.bench.spec.class_names
            ),
            params=SoftTargetParams(batch_size=BATCH),
            out=self.folder / "out",
            work=self.folder / "work",
            progress=NoProgress(),
        )

    def student(self, temperature: float, alpha: float) -> None:
        """One student through the real loop: soft targets opened, read, learnt from, weights left."""
        train(
            model=initialised(STUDENT, self.bench.spec, seed=0),
            samples=self.samples,
            labels=self.labels,
            train_rows=np.arange(NUM_ROWS),
            validation_rows=np.arange(0),
            workload=Workload().build(),
            params=TrainParams(epochs=EPOCHS, batch_size=BATCH, optimizer=OptimizerParams(learning_rate=RATE)),
            seed=0,
            views=self.bench.views(self.samples),
            num_views=1,
            work=self.folder / f"student-{temperature:g}-{alpha:g}",
            progress=NoProgress(),
            device=torch.device("cpu"),
            objective=kd.Params(temperature=temperature, alpha=alpha).build(spec(self.bench.spec)),
            targets=SoftTargets.load(self.folder / "out"),
        )

    def online_steps(self) -> Callable[[int], object]:
        steps: Callable[[int], object] = self.bench.steps(
            STUDENT,
            self.samples,
            self.labels,
            batch_size=BATCH,
            objective=kd.Params().build(spec(self.bench.spec)),
            targets=LiveTeacher(self.bf16, self.bench.views(self.samples), BATCH),
        )
        return steps


def test_a_sweep_is_as_fast_as_its_bare_steps_allow(bench: Any, tmp_path: Path) -> None:
    """Eight students of one teacher, cache build included, reach 0.90 of the ideal speed-up over the teacher online.

    Ideal is one pass of the bare teacher and the bare steps of eight students. Every part takes turns with its ideal,
    and a few online steps stand for the eight online runs.
    """
    sweep = Sweep(bench, tmp_path)
    sweep.bare_teacher()
    online = sweep.online_steps()
    online(0)
    passes = [seconds(sweep.bare_teacher)]
    built = seconds(sweep.write)
    passes.append(seconds(sweep.bare_teacher))
    bare, real, steps = [], [], []
    for choice in CHOICES:
        bare.append(seconds(lambda choice=choice: sweep.bare_student(*choice)))
        real.append(seconds(lambda choice=choice: sweep.student(*choice)))
        steps.append(seconds(lambda: [online(0) for _ in range(2)]) / 2)

    num_steps = len(CHOICES) * EPOCHS * len(sweep.batches)
    all_online = num_steps * statistics.mean(steps)
    ideal, found = all_online / (statistics.mean(passes) + sum(bare)), all_online / (built + sum(real))
    print(
        f"\n8 students: teacher pass {statistics.mean(passes):.2f} s, built {built:.2f} s; bare steps {sum(bare):.1f} s, "
        f"trained {sum(real):.1f} s; {num_steps} online steps would take {all_online:.1f} s. "
        f"Speed-up {found:.2f} x of ideally {ideal:.2f} x = {found / ideal:.3f}"
    )
    assert found >= 0.90 * ideal
