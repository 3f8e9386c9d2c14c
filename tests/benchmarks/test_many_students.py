"""64 small students from one set of soft targets, through the real sweep, against the teacher online in every run."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.artifacts.fingerprint import num_threads
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.example import build_example_registry
from components.data.packed import open_packed
from components.params import Params, with_values
from components.saved_models import load_model
from components.settings import Settings
from components.soft_targets.live import LiveTeacher
from components.steps.banks import training_bank
from components.steps.execute import execute
from components.steps.lesson import make_lesson
from components.steps.pipeline import ancestors, load_step
from components.steps.training_rows import students_set
from components.sweeps.conduct import Sweep, conduct
from components.training.judge import Judge
from components.training.loop import train
from components.training.reproducible import initialised

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
SPEED_UP = 8.0
SEEDS = 4
T, ALPHA = "student.objective.temperature", "student.objective.alpha"
AFFINE = {"count": 12, "transforms": [{"name": "affine", "shift_pixels": 2, "rotate_degrees": 10, "scale": 0.1}]}
SPACE = {T: [1, 2, 4, 8], ALPHA: [0.25, 0.5, 0.75, 0.9]}


def digits(registry: Path) -> Params:
    """The example's teacher and student on 5,000 real digits, 64 students: 4 T, 4 alpha, 4 seeds."""
    return Params.model_validate(
        {
            "data": {
                "repository": str(registry),
                "path": "digits",
                "revision": "v1",
                "format": {"name": "parquet"},
                "split": {"by": "hash", "validation": 0.125, "test": 0.25},
            },
            "workload": {"name": "image_classification"},
            "teacher": {
                "model": {"name": "convnet", "channels": [16, 32, 64], "pooling": "flatten", "hidden": 144},
                "train": {"epochs": 3, "batch_size": 64, "optimizer": {"learning_rate": 0.05}},
            },
            "student": {
                "model": {"name": "mlp", "hidden": [24]},
                "objective": {"name": "kd"},
                "train": {"epochs": 60, "batch_size": 64, "optimizer": {"name": "adamw", "learning_rate": 0.01}},
                "views": AFFINE,
            },
            "gate": {"floor": 0.9},
            "registry": {"student": "s", "teacher": "t"},
            "sweep": {"space": SPACE, "seeds": SEEDS},
        }
    )


@pytest.fixture
def all_cores() -> Iterator[None]:
    """What one run after the other would compute with."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads(Settings()))
    yield
    torch.set_num_threads(before)


def processor_seconds() -> float:
    """Of this process and of those it has ended: a busy machine leaves them nearly alone."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def online_accuracy(params: Params, artifacts: dict, work: Path) -> float:
    """One student whose bf16 teacher answers in every step; on the validation split."""
    data, taught, student = open_packed(artifacts["data"]), students_set(artifacts["data"], params), params.student
    teacher = load_model(artifacts["teacher"])

    def bf16(samples: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = teacher(samples)
        return logits

    device = torch.device("cpu")
    bank = training_bank(data, taught.rows, student.views, device=device, limit_bytes=Settings().view_bank_bytes)
    module: nn.Module = initialised(student.model, data.spec, seed=student.seed)
    lesson = make_lesson(
        module, None, LiveTeacher(bf16, bank, student.train.batch_size), data=data, taught=taught, params=student
    )
    workload = params.workload.build(data.spec)
    train(
        model=module,
        samples=data.samples,
        labels=taught.labels,
        train_rows=taught.rows,
        num_drawn=taught.num_drawn,
        validation_rows=data.rows("validation"),
        workload=workload,
        params=student.train,
        seed=student.seed,
        views=bank,
        num_views=student.views.count,
        work=work,
        progress=NoProgress(),
        device=device,
        objective=lesson.objective,
        targets=lesson.targets,
    )
    return Judge(data.samples, np.asarray(data.labels), data.rows("validation"), workload).measure(module)["accuracy"]


def test_64_students_from_one_cache(tmp_path: Path, all_cores: None) -> None:
    """Asking the teacher, starting the processes, hard labels and measuring included, 8 times the throughput of runs
    one after the other with the teacher online, extrapolated from 4 of them; and the students are as good.
    """
    registry, settings = tmp_path / "registry", Settings(var_dir=tmp_path / "var")
    build_example_registry(registry)
    params, store, artifacts = digits(registry), Store(settings), {}

    def step(name: str) -> None:
        artifacts[name] = execute(
            load_step(name), params=params, settings=settings, store=store, inputs=artifacts, producer="bench",
            progress=NoProgress(),
        ).artifact  # fmt: skip

    *before, asked = ancestors("student")
    for name in before:
        step(name)

    online, accuracies, used_before = [], [], processor_seconds()
    for seed in range(SEEDS):
        started = time.perf_counter()
        chosen = with_values(params, {T: 4, ALPHA: 0.9, "student.seed": seed})
        accuracies.append(online_accuracy(chosen, artifacts, tmp_path / f"online-{seed}"))
        online.append(time.perf_counter() - started)

    started, used_online = time.perf_counter(), (processor_seconds() - used_before) / SEEDS
    used_before = processor_seconds()
    step(asked)
    built = time.perf_counter() - started
    result = conduct(Sweep(params, settings, store, artifacts, "bench", "bench", NoProgress()))
    swept, used = time.perf_counter() - started, processor_seconds() - used_before

    num_students = len(result.complete) * SEEDS
    (same,) = [trial for trial in result.complete if trial.values == {T: 4, ALPHA: 0.9}]
    cached = same.each("accuracy")
    spread = statistics.stdev(
        [*cached, *(each - statistics.mean(accuracies) + statistics.mean(cached) for each in accuracies)]
    )
    difference = statistics.mean(cached) - statistics.mean(accuracies)
    speed_up = num_students * statistics.mean(online) / swept
    print(
        f"\n{num_students} students: soft targets {built:.1f} s, all {swept:.1f} s; online {statistics.mean(online):.1f} s "
        f"a run (4 of them: {', '.join(f'{each:.1f}' for each in online)}). Speed-up {speed_up:.1f} x. Accuracy cached "
        f"{statistics.mean(cached):.4f}, online {statistics.mean(accuracies):.4f}, sd over seeds {spread:.4f}. "
        f"Processor seconds: {used_online:.1f} a run online, {used:.1f} for all of the sweep, "
        f"{num_students * used_online / used:.1f} x"
    )
    assert num_students == 64
    assert abs(difference) <= 2 * spread
    assert speed_up >= SPEED_UP
