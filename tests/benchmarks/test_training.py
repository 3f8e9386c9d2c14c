"""What the training loop costs beside a plain PyTorch loop with the same model, batch and tensors in memory."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from components.contracts import DataSpec, ModelParams, NoProgress
from components.models import convnet, mlp
from components.objectives import kd
from components.params import OptimizerParams, TrainParams, ViewParams
from components.training.loop import train
from components.training.reproducible import initialised
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload
from tests.components.objectives.given import spec

pytestmark = pytest.mark.bench
N, C, BATCH = 4096, 10, 128
SPEC = DataSpec((1, 28, 28), tuple("0123456789"), (0.13,), (0.31,), num_train=N)
_DRAW = np.random.Generator(np.random.Philox(0))
SAMPLES = _DRAW.integers(0, 256, (N, *SPEC.sample_shape), dtype=np.uint8)
LABELS = _DRAW.integers(0, C, N)
SAID = torch.from_numpy(_DRAW.normal(0, 3, (N, C)).astype(np.float32))
ALPHA, TEMPERATURE = 0.9, 4.0
MODELS: dict[str, tuple[ModelParams, int]] = {
    "mlp 784-24-10": (mlp.Params(hidden=(24,)), 12),
    "convnet 4-8-16": (convnet.Params(channels=(4, 8, 16)), 3),
    "convnet 16-32-64": (convnet.Params(channels=(16, 32, 64)), 1),
}


class Said:
    """Soft targets in memory, so that both loops read them the same way."""

    def places(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def take(self, rows: np.ndarray, _: int) -> Tensor:
        return SAID.index_select(0, torch.from_numpy(rows))


def plain(model_params: ModelParams, epochs: int, *, distil: bool) -> float:
    """Samples a second of the loop that anybody would write, at its best: fused optimizer, no reading back of losses."""
    model = initialised(model_params, SPEC, seed=0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    samples, labels = torch.from_numpy(SAMPLES), torch.from_numpy(LABELS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * N // BATCH)
    started = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(N)
        for start in range(0, N, BATCH):
            rows = order[start : start + BATCH]
            logits = model(samples[rows])
            loss = functional.cross_entropy(logits, labels[rows])
            if distil:
                soft = functional.kl_div(
                    functional.log_softmax(logits / TEMPERATURE, 1),
                    functional.softmax(SAID[rows] / TEMPERATURE, 1),
                    reduction="batchmean",
                )
                loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return epochs * N / (time.perf_counter() - started)


def ours(model_params: ModelParams, epochs: int, work: Path, *, distil: bool) -> float:
    """Samples a second of the real loop, checks, history, progress and checkpoints included; nothing is validated."""
    model = initialised(model_params, SPEC, seed=0)
    bank = ViewBank(torch.from_numpy(SAMPLES), np.zeros((N, 16), dtype=np.uint8), ViewParams(), limit_bytes=0)
    started = time.perf_counter()
    train(
        model=model,
        samples=SAMPLES,
        labels=LABELS,
        train_rows=np.arange(N),
        validation_rows=np.arange(0),
        workload=Workload().build(),
        params=TrainParams(epochs=epochs, batch_size=BATCH, optimizer=OptimizerParams(learning_rate=0.01)),
        seed=0,
        views=bank,
        num_views=1,
        work=work,
        progress=NoProgress(),
        device=torch.device("cpu"),
        objective=kd.Params(alpha=ALPHA, temperature=TEMPERATURE).build(spec(SPEC)) if distil else None,
        targets=Said() if distil else None,
    )
    return epochs * N / (time.perf_counter() - started)


@pytest.mark.parametrize("distil", [False, True], ids=["hard labels", "kd"])
@pytest.mark.parametrize(("model_params", "epochs"), MODELS.values(), ids=MODELS)
def test_throughput_is_that_of_a_plain_loop(
    tmp_path: Path, model_params: ModelParams, epochs: int, *, distil: bool
) -> None:
    """At least 0.95 of the plain loop's samples a second: the median ratio of rounds that take turns, one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    plain(model_params, 1, distil=distil)
    rounds = []
    for turn in range(9):
        limit = plain(model_params, epochs, distil=distil)
        rounds.append((limit, ours(model_params, epochs, tmp_path / str(turn), distil=distil)))
    torch.set_num_threads(before)
    ratios = sorted(found / limit for limit, found in rounds)
    middle = statistics.median(ratios)
    rates = " against ".join(f"{statistics.median(column):,.0f}" for column in zip(*rounds, strict=True))
    print(f"\n{rates} samples/s (plain, ours); ratio {middle:.3f}, all {ratios[0]:.3f} to {ratios[-1]:.3f}")

    assert middle >= 0.95
