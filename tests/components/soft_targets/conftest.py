"""A linear teacher over tiny pictures, and the soft targets that it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.contracts import NoProgress, Progress
from components.params import SoftTargetParams, ViewParams
from components.soft_targets.header import Identity
from components.soft_targets.teacher_pass import Teacher
from components.soft_targets.writer import Written, write_soft_targets
from components.views import ViewBank

NUM_SAMPLES = 50
ROWS = np.arange(3, 40, dtype=np.int64)[::-1].copy()
VIEWS = ViewParams(count=3, seed=1, transforms=({"name": "affine", "shift_pixels": 1, "flip_horizontal": True},))
CLASSES = ("ant", "bee", "cat", "dog")


@dataclass
class LinearTeacher:
    """Logits [B, 4] of uint8 [B, 1, 6, 6]; remembers the batch sizes it was asked with."""

    scale: float = 1.0
    batch_sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weight = torch.randn(36, len(CLASSES), generator=torch.Generator().manual_seed(0)) / 400

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(samples))
        # One row at a time, so that what is expected does not hang on how a matrix product is blocked.
        return (
            torch.stack([(sample.flatten().float()[:, None] * self.weight).sum(0) for sample in samples]) * self.scale
        )


@dataclass
class Maker:
    """Writes soft targets below one folder; *work* is kept between two calls, *out* is not."""

    folder: Path
    bank: ViewBank
    identity: Identity
    runs: int = 0
    rows: np.ndarray = field(default_factory=lambda: ROWS)
    new_teacher: type[LinearTeacher] = LinearTeacher

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def __call__(
        self,
        *,
        teacher: Teacher | None = None,
        rows: np.ndarray | None = None,
        progress: Progress | None = None,
        identity: Identity | None = None,
        **params: Any,
    ) -> tuple[Path, Written]:
        self.runs += 1
        out = self.folder / f"out-{self.runs}"
        out.mkdir()
        written = write_soft_targets(
            teacher=teacher or LinearTeacher(),
            bank=self.bank,
            rows=self.rows if rows is None else rows,
            num_views=VIEWS.count,
            identity=identity or self.identity,
            params=SoftTargetParams(**{"batch_size": 8, "rows_per_chunk": 20, **params}),
            out=out,
            work=self.work,
            progress=progress or NoProgress(),
        )
        return out, written


@pytest.fixture
def bank() -> ViewBank:
    samples = torch.randint(
        0, 256, (NUM_SAMPLES, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)
    )
    digests = [hashlib.sha256(sample.numpy().tobytes()).digest()[:16] for sample in samples]
    sample_ids = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(NUM_SAMPLES, 16)
    return ViewBank(samples, sample_ids, VIEWS, limit_bytes=0)


@pytest.fixture
def identity() -> Identity:
    return Identity(
        teacher_digest="a" * 64, data_digest="b" * 64, view_spec=VIEWS.model_dump(mode="json"), class_names=CLASSES
    )


@pytest.fixture
def make(tmp_path: Path, bank: ViewBank, identity: Identity) -> Maker:
    return Maker(tmp_path, bank, identity)


@pytest.fixture
def make_elsewhere(tmp_path: Path, bank: ViewBank, identity: Identity) -> Maker:
    """One with folders of its own."""
    (tmp_path / "elsewhere").mkdir()
    return Maker(tmp_path / "elsewhere", bank, identity)


@pytest.fixture
def expected(bank: ViewBank) -> np.ndarray:
    """[V, N, C] float32: what the teacher says, asked without the store."""
    teacher = LinearTeacher()
    views = [teacher(bank.batch(torch.from_numpy(ROWS), view)) for view in range(VIEWS.count)]
    return torch.stack(views).numpy()


@pytest.fixture
def digest_of() -> Callable[[Path], str]:
    def digest(folder: Path) -> str:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()

    return digest
