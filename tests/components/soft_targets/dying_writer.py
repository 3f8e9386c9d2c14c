"""Writes soft targets in the folder given and dies by SIGKILL where told; run by test_kill.py in processes of its own.

usage: dying_writer.py FOLDER OUT WHEN, where WHEN is 'never', 'batch:N' (before the teacher's N-th batch) or
'rename:N' (between writing and publishing the N-th chunk).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from components.contracts import NoProgress
from components.params import SoftTargetParams, ViewParams
from components.soft_targets import choice
from components.soft_targets.header import Identity
from components.soft_targets.writer import write_soft_targets
from components.views import ViewBank

VIEWS = ViewParams(count=3, seed=1, transforms=({"name": "affine", "shift_pixels": 1, "rotate_degrees": 10},))
NUM_ROWS = 100
CHUNK = 32
SAMPLE_ROWS = 64
"""Two of the ten chunks are computed first, to choose the codec on."""


def main(folder: Path, out: Path, when: str) -> None:
    kind, _, number = when.partition(":")
    left = {kind: int(number or 0)}

    def die_at(place: str) -> None:
        left[place] = left.get(place, 0) - 1
        if left[place] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Dying(NoProgress):
        def check(self) -> None:
            die_at("batch")

    publish = Path.replace

    def replace(path: Path, target: Path) -> Path:
        die_at("rename")
        return publish(path, target)

    Path.replace = replace  # type: ignore[method-assign,assignment]
    choice.SAMPLE_ROWS = SAMPLE_ROWS
    out.mkdir(parents=True)
    print(json.dumps(write(folder / "work", out, Dying())))


def write(work: Path, out: Path, progress: NoProgress) -> dict[str, int | str]:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (NUM_ROWS, 1, 8, 8), dtype=torch.uint8, generator=generator)
    weight = torch.randn(64, 5, generator=generator) / 300
    ids = np.frombuffer(b"".join(hashlib.sha256(bytes([n])).digest()[:16] for n in range(NUM_ROWS)), np.uint8)
    written = write_soft_targets(
        teacher=lambda batch: batch.flatten(1).float() @ weight,
        bank=ViewBank(samples, ids.reshape(NUM_ROWS, 16), VIEWS, limit_bytes=0),
        rows=np.arange(NUM_ROWS),
        num_views=VIEWS.count,
        identity=Identity(
            teacher_digest="t", data_digest="d", view_spec=VIEWS.model_dump(mode="json"), class_names=tuple("abcde")
        ),
        params=SoftTargetParams(batch_size=16, rows_per_chunk=CHUNK),
        out=out,
        work=work,
        progress=progress,
    )
    content = b"".join(path.name.encode() + path.read_bytes() for path in sorted(out.iterdir()))
    return {
        "rows_computed": written.rows_computed,
        "rows_resumed": written.rows_resumed,
        "digest": hashlib.sha256(content).hexdigest(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
