"""Asks the teacher about any rows of the flattened [view, sample] order, in batches of one size."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from components.errors import BadInputError, SoftTargetsRefusedError, some_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from components.contracts import Progress
    from components.params import SoftTargetParams
    from components.soft_targets.header import Identity
    from components.views import ViewBank

Teacher = Callable[["Tensor"], "Tensor"]
"""[B, *S] -> [B, C], on whatever device."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Several teachers, each of which speaks about its own rows."""

    teachers: tuple[Teacher, ...]
    speaker: NDArray[np.int64] | None = None
    """[N of the data set]: which of *teachers* speaks about each row; None: the first about all."""

    def shares(self, rows: NDArray[np.int64]) -> Iterator[tuple[Teacher, NDArray[np.int64]]]:
        """Each teacher that speaks about any of *rows* [n], with the places of these in *rows*, ascending."""
        if self.speaker is None:
            yield self.teachers[0], np.arange(len(rows))
            return
        speaking = self.speaker[rows]
        for index in np.unique(speaking).tolist():
            yield self.teachers[index], np.flatnonzero(speaking == index)


def as_panel(teacher: Teacher | Panel) -> Panel:
    return teacher if isinstance(teacher, Panel) else Panel((teacher,))


class Views(Protocol):
    """Makes views of samples, such as `views.ViewBank`."""

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """Rows of the data set, int64 [B] -> [B, *S] as stored."""
        ...


def ask_about(
    teacher: Teacher | Panel, views: Views, rows: NDArray[np.int64], view: int, batch_size: int
) -> NDArray[np.float32]:
    """What each row's own teacher says about *view* of it, in padded batches; int64 [n], n >= 1 -> [n, C]."""
    import torch

    said: list[NDArray[np.float32]] = []
    places: list[NDArray[np.int64]] = []
    for speaker, share in as_panel(teacher).shares(rows):
        for start in range(0, len(share), batch_size):
            places.append(share[start : start + batch_size])
            said.append(ask(speaker, views.batch(torch.from_numpy(rows[places[-1]]), view), batch_size))
    logits = np.concatenate(said)
    ordered = np.empty_like(logits)
    ordered[np.concatenate(places)] = logits
    return ordered


def ask(teacher: Teacher, samples: Tensor, batch_size: int) -> NDArray[np.float32]:
    """The teacher's raw logits, in a batch of exactly *batch_size*; [B, *S], B <= batch_size -> [B, C].

    Padded with copies of the last sample: kernels are chosen by shape, and the last bits change with them.
    """
    import torch

    padding = samples[-1:].expand(batch_size - len(samples), *samples.shape[1:])
    with torch.inference_mode():
        logits = teacher(torch.cat((samples, padding)) if len(padding) else samples)
    return logits[: len(samples)].float().cpu().numpy()


@dataclass(slots=True)
class TeacherPass:
    """One teacher, V views of N samples: V * N *places*, where place v * N + n is view v of the sample at rows[n]."""

    teacher: Teacher | Panel
    bank: ViewBank
    rows: NDArray[np.int64]
    """[N]: rows of the bank."""
    num_views: int
    identity: Identity
    params: SoftTargetParams
    progress: Progress
    fingerprint: Mapping[str, Any]
    """Of this machine: rows of another do not go on with those of this one."""
    rows_asked: int = 0
    seconds: float = 0.0
    """Spent on views and teacher."""

    @property
    def num_places(self) -> int:
        return self.num_views * len(self.rows)

    @property
    def num_classes(self) -> int:
        return len(self.identity.class_names)

    @property
    def num_chunks(self) -> int:
        return -(-self.num_places // self.params.rows_per_chunk)

    def span(self, chunk: int) -> range:
        """The places of *chunk*."""
        start = chunk * self.params.rows_per_chunk
        return range(start, min(start + self.params.rows_per_chunk, self.num_places))

    def key(self) -> str:
        """Everything that decides the numbers; rows of another key do not count."""
        fields = {
            "identity": self.identity.model_dump(mode="json"),
            "rows": hashlib.sha256(self.rows.astype("<i8", copy=False).tobytes()).hexdigest(),
            "num_views": self.num_views,
            "batch_size": self.params.batch_size,
            "precision": self.params.precision,
            "memory_format": self.params.memory_format,
            "rows_per_chunk": self.params.rows_per_chunk,
            "fingerprint": dict(self.fingerprint),
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def logits(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """What the teacher says about *places*; int64 [n] -> float32 [n, C].

        SoftTargetsRefusedError: a logit is not finite. BadInputError: a teacher with another number of classes.
        """
        started = time.perf_counter()
        said = np.empty((len(places), self.num_classes), dtype=np.float32)
        for teacher, share in as_panel(self.teacher).shares(self.rows[places % len(self.rows)]):
            for start in range(0, len(share), self.params.batch_size):
                self.progress.check()
                part = share[start : start + self.params.batch_size]
                said[part] = self._asked(teacher, places[part])
        self.rows_asked += len(places)
        self.seconds += time.perf_counter() - started
        return said

    def _asked(self, teacher: Teacher, places: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = ask(teacher, self._samples(places), self.params.batch_size)
        if logits.shape != (len(places), self.num_classes):
            raise BadInputError(
                f"the teacher gives logits {list(logits.shape[1:])} a sample, and the data has {self.num_classes} "
                f"{'classes' if self.identity.labels == 'classes' else 'targets'}"
            )
        if not np.isfinite(logits).all():
            raise SoftTargetsRefusedError(self._not_finite(logits, places))
        return logits

    def _samples(self, places: NDArray[np.int64]) -> Tensor:
        """Views of a batch, which may reach from one view into the next."""
        import torch

        views, samples = np.divmod(places, len(self.rows))
        rows = self.rows[samples]
        if views[0] == views[-1] and (views == views[0]).all():
            return self.bank.batch(torch.from_numpy(rows), int(views[0]))
        batch = torch.empty((len(places), *self.bank.samples.shape[1:]), dtype=self.bank.samples.dtype)
        batch = batch.to(self.bank.samples.device)
        for view in np.unique(views):
            there = np.flatnonzero(views == view)
            batch[torch.from_numpy(there)] = self.bank.batch(torch.from_numpy(rows[there]), int(view))
        return batch

    def _not_finite(self, logits: NDArray[np.float32], places: NDArray[np.int64]) -> str:
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        return (
            f"the teacher's logits are not finite for {len(bad)} of {len(places)} rows: "
            f"{some_of([self.name(int(places[row])) for row in bad])}; "
            "train it again with a lower learning rate, or use precision fp32"
        )

    def name(self, place: int) -> str:
        """A place in words."""
        view, sample = divmod(place, len(self.rows))
        row = int(self.rows[sample])
        return f"sample {row} (id {self.bank.sample_ids[row].tobytes().hex()}) in view {view}"
