"""What learning from stored soft targets adds to a step of the training loop."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contracts import ModelParams
from components.models import convnet, mlp
from components.objectives import kd
from components.soft_targets.header import Header, Identity, write_header
from components.soft_targets.reader import SoftTargets
from tests.components.objectives.given import spec

pytestmark = pytest.mark.bench
NUM_ROWS, NUM_CLASSES = 16_384, 10


@pytest.fixture
def stored(tmp_path: Path) -> SoftTargets:
    """Random rows as the store keeps them in fp16, which is what a teacher's logits end in."""
    logits = np.random.default_rng(0).normal(0, 4, (NUM_ROWS, NUM_CLASSES)).astype(np.float16)
    logits.tofile(tmp_path / "logits.bin")
    np.save(tmp_path / "rows.npy", np.arange(NUM_ROWS))
    fields: dict[str, Any] = {"num_views": 1, "num_rows": NUM_ROWS, "num_classes": NUM_CLASSES, "codec": "fp16"}
    fields |= {"row_stride_bytes": 2 * NUM_CLASSES, "rows_per_chunk": 4096, "chunk_sha256": (), "batch_size": 256}
    identity = Identity(teacher_digest="", data_digest="", view_spec={}, class_names=tuple("0123456789"))
    write_header(tmp_path, Header(identity=identity, precision="fp32", error={}, candidates=(), **fields))
    return SoftTargets.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "batch_size", "most", "rounds"),
    [
        (mlp.Params(hidden=(24,)), 64, None, 1500),
        (mlp.Params(hidden=(24,)), 128, None, 1500),
        (mlp.Params(hidden=(24,)), 256, 1.15, 1500),
        (convnet.Params(channels=(8, 16, 32)), 256, 1.05, 100),
    ],
    ids=["mlp-64", "mlp-128", "mlp-256", "convnet-256"],
)
def test_a_distilling_step_costs_little_more_than_one_on_labels(
    bench: Any, stored: SoftTargets, model: ModelParams, batch_size: int, most: float | None, rounds: int
) -> None:
    """The loop with stored soft targets, read and decoded, against the same loop with cross-entropy alone, 28 x 28.

    Step by step in turns, so that a step which was put aside for another process is one of many.
    """
    samples, labels = bench.samples(NUM_ROWS)
    objective = kd.Params(alpha=0.9, temperature=4.0).build(spec(bench.spec))
    hard = bench.steps(model, samples, labels, batch_size=batch_size)
    distilling = bench.steps(model, samples, labels, batch_size=batch_size, objective=objective, targets=stored)

    limit, ours = bench.interleaved(hard, distilling, calls=1, rounds=rounds)

    found = bench.ratio(ours, limit)
    quarters = statistics.quantiles([mine / theirs for mine, theirs in zip(ours, limit, strict=True)])
    print(
        f"\n{model.name}, batch {batch_size}: labels {bench.micros(limit)}   distilling {bench.micros(ours)} = "
        f"{found:.3f} x (middle half {quarters[0]:.3f} to {quarters[2]:.3f})"
    )
    assert most is None or found <= most
