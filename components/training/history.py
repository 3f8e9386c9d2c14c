"""What is remembered of the epochs: means of the losses, validation, and which epoch was best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PARTS = ("total", "distillation", "hard")
LOSS_NAMES = tuple(f"loss_{part}" for part in PARTS)


@dataclass
class Sums:
    """Of the losses of an epoch so far: plain floats added step by step, so that no grouping of steps changes a bit."""

    total: float = 0.0
    distillation: float = 0.0
    hard: float = 0.0
    num_rows: int = 0
    num_labelled: int = 0

    def add(self, losses: tuple[float, float, float], *, num_rows: int, num_labelled: int) -> None:
        """Of one batch: its mean losses, in the order of PARTS, and what they are means over."""
        total, distillation, hard = losses
        self.total += total * num_rows
        self.distillation += distillation * num_rows
        self.hard += hard * num_labelled
        self.num_rows += num_rows
        self.num_labelled += num_labelled

    def means(self) -> dict[str, float]:
        rows, labelled = max(self.num_rows, 1), max(self.num_labelled, 1)
        return dict(zip(LOSS_NAMES, (self.total / rows, self.distillation / rows, self.hard / labelled), strict=True))


@dataclass
class History:
    """One record an epoch, and the sums of the epoch that has begun."""

    records: list[dict[str, float]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)

    @property
    def num_epochs(self) -> int:
        return len(self.records)

    @property
    def best_epoch(self) -> int:
        """Of the smallest validation loss, counted from 1; of equal ones the first."""
        return 1 + min(range(self.num_epochs), key=lambda index: self.records[index]["validation_loss"])

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the last *patience* epochs brought no better validation loss."""
        return bool(patience and self.records and self.num_epochs - self.best_epoch >= patience)

    def end_epoch(self, validation: Mapping[str, float], *, learning_rate: float) -> None:
        """Make a record of the sums, and begin anew."""
        judged = {f"validation_{name}": value for name, value in validation.items()}
        epoch = self.num_epochs + 1
        self.records.append({"epoch": epoch, **self.sums.means(), **judged, "learning_rate": learning_rate})
        self.sums = Sums()

    def latest(self, metric: str) -> dict[str, float]:
        """For a display: the losses of this epoch, or of the last; *metric* as it was validated last."""
        last = self.records[-1] if self.records else {}
        shown = self.sums.means() if self.sums.num_rows else {name: last[name] for name in LOSS_NAMES if name in last}
        name = f"validation_{metric}"
        return shown | ({name: last[name]} if name in last else {})

    def dump(self) -> dict[str, Any]:
        return {"records": self.records, "sums": vars(self.sums)}

    @classmethod
    def parse(cls, saved: Mapping[str, Any]) -> History:
        return cls(list(saved["records"]), Sums(**saved["sums"]))


def learnt(records: Sequence[Mapping[str, float]]) -> bool:
    """Whether the training loss of the last epoch is below that of the first; on hard labels, where there were any.

    Of hard labels because weights and temperatures that change on the way move the distillation part by themselves.
    """
    name = "loss_hard" if records[0]["loss_hard"] else "loss_distillation"
    return records[-1][name] < records[0][name]
