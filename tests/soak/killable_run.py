"""Runs teacher, soft targets and student of tiny pictures in processes that may be killed; driven by test_kill_generation.py.

Imports once, and then forks a process for each line of standard input, {"store": folder, "kill_after": seconds or null}.
Answers with what the process came to: null if it was killed, else digests, the ledger and the seconds it took.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.params import Params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.soft_targets import choice
from components.steps import fold_teachers, soft_targets, student, teacher
from components.steps.execute import execute
from components.workloads.image_classification import Params as Workload

PARAMS = Params.model_validate(
    {
        "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
        "workload": {"name": "image_classification"},
        "teacher": {
            "model": {"name": "mlp", "hidden": [16]},
            "train": {"epochs": 8, "batch_size": 4, "checkpoint_seconds": 0},
        },
        "soft_targets": {"batch_size": 8, "rows_per_chunk": 16},
        "student": {
            "model": {"name": "mlp", "hidden": [4]},
            "objective": {"name": "kd"},
            "train": {"epochs": 8, "batch_size": 4, "checkpoint_seconds": 0},
            "views": {"count": 40, "transforms": [{"name": "affine", "shift_pixels": 1}]},
        },
        "gate": {"floor": 0.0},
        "registry": {"student": "s", "teacher": "t"},
    }
)
SAMPLE_ROWS = 48
"""Three of the thirty chunks come first, to choose the codec on."""


def data(store: Store) -> Artifact:
    def make(out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    return store.commit("data", "0" * 64, {}, make)


def run(folder: str) -> dict[str, Any]:
    settings = Settings(store=folder, num_threads=1)
    store = Store(settings)
    artifacts = {"data": data(store)}
    for step in (teacher.STEP, fold_teachers.STEP, soft_targets.STEP, student.STEP):
        outcome = execute(
            step,
            params=PARAMS,
            settings=settings,
            store=store,
            inputs=artifacts,
            producer="soak",
            progress=NoProgress(),
        )
        artifacts[step.name] = outcome.artifact
    return {
        "digests": {name: artifact.digest for name, artifact in artifacts.items()},
        "ledger": json.loads(artifacts["soft_targets"].measured("ledger.json").read_text()),
    }


def in_a_process(folder: str, kill_after: float | None) -> dict[str, Any] | None:
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(run(folder)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    select.select([reading], [], [], kill_after)
    os.kill(child, signal.SIGKILL) if kill_after is not None else None
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return {**json.loads(said), "seconds": time.monotonic() - started} if said else None


def main() -> None:
    choice.SAMPLE_ROWS = SAMPLE_ROWS
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(folder)  # so that no process begins by importing and parsing
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(in_a_process(asked["store"], asked["kill_after"])), flush=True)


if __name__ == "__main__":
    main()
