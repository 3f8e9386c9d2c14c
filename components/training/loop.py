"""The training loop of teachers and students."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.contracts import Objective, Progress, Workload, is_labelled
from components.errors import BadInputError, InterruptedRunError, RefusedError, TrainingDivergedError
from components.params import TrainParams
from components.schedules import highest
from components.training.checkpoints import Checkpoint, Checkpoints, prefixed, without_prefix
from components.training.history import History
from components.training.judge import Judge
from components.training.losses import BatchLoss, Targets, Views
from components.training.optimizer import learning_rate, make_optimizer, moments, set_learning_rate, set_moments
from components.training.reproducible import Windows, epoch_batches, reproducible, seed_step, step_seeds
from components.training.taps import FeatureTeacher

# Losses are looked at in groups, since every look makes an accelerator wait.
TELL_EVERY_STEPS = 10
TELL_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training leaves besides the weights, which are in the module that was trained."""

    history: tuple[Mapping[str, float], ...]
    """A record an epoch: losses of training (means over rows), loss and metrics of validation, learning rate."""
    best_epoch: int
    """The epoch, from 1, whose weights were kept: the last one, unless early stopping chose another."""
    num_steps: int


def train(
    *,
    model: nn.Module,
    samples: NDArray[Any],
    labels: NDArray[Any],
    train_rows: NDArray[np.int64],
    validation_rows: NDArray[np.int64],
    workload: Workload,
    params: TrainParams,
    seed: int,
    views: Views,
    num_views: int,
    work: Path,
    progress: Progress,
    device: torch.device,
    objective: Objective | None = None,
    targets: Targets | None = None,
    teacher: FeatureTeacher | None = None,
    num_drawn: int | None = None,
    title: str = "train",
) -> TrainResult:
    """Train *model* in place on *train_rows* of samples [N, *S] and labels of one LabelKind; go on from a checkpoint in *work*.

    The loss is alpha * weight * distillation + (1 - alpha) * hard: the distillation part is the mean over all rows of
    a batch, the hard part the mean over its labelled rows (0 if it has none). Without an *objective* the
    loss is the hard part alone, and only labelled rows are drawn, as many an epoch as there are rows at all
    (or *num_drawn*): so a student without a teacher takes as many steps as one with. Epoch e (from 0) reads
    view e mod *num_views*.
    `validation_loss` is the hard-label loss without smoothing on the samples as they are; without early
    stopping it decides nothing. An *objective* takes the teacher's logits from *targets* and its features from *teacher*.

    The weights are the same bits for the same arguments on one machine, however often the run was killed.
    Raises TrainingDivergedError, BadInputError when there is nothing to learn from, and lets the
    InterruptedRunError of *progress* pass once a checkpoint is written.
    """
    judge = Judge(samples, labels, validation_rows, workload)
    problem = _nothing_to_learn(labels[train_rows], objective, targets, teacher) or _nothing_to_judge(params, judge)
    if problem:
        raise BadInputError(problem)
    with reproducible():
        module = _placed(model, device, params)
        loss = BatchLoss(
            model=module,
            labels=labels,
            train_rows=train_rows,
            workload=workload,
            params=params,
            views=views,
            device=device,
            objective=objective,
            targets=targets,
            teacher=teacher,
        )
        rows = train_rows if objective else train_rows[is_labelled(labels[train_rows])]
        loop = _Loop(loss, rows, num_drawn=num_drawn or len(train_rows), seed=seed, num_views=num_views)
        return _run(loop, judge, Checkpoints(work, identity=loop.identity()), progress, title)


def _nothing_to_learn(
    labels: NDArray[Any], objective: Objective | None, targets: Targets | None, teacher: FeatureTeacher | None
) -> str | None:
    unlabelled = not is_labelled(labels).any()
    if not len(labels):
        return "the training split is empty: there is nothing to learn from"
    if objective is None:
        return "no training sample has a label, and there is no teacher to learn from" if unlabelled else None
    offered = {"logits"} if targets else set()
    missing = objective.needs - offered - ({"features"} if teacher else set())
    if missing:
        return f"the objective needs the teacher's {', '.join(sorted(missing))}, and they are not there"
    if highest(objective.alpha) == 0 and unlabelled:
        return "the objective's alpha is 0 and no training sample has a label: there is nothing to learn from"
    return None


def _nothing_to_judge(params: TrainParams, judge: Judge) -> str | None:
    if params.early_stopping_epochs and not judge.num_rows:
        return "train.early_stopping_epochs needs labelled validation samples, and there are none"
    return None


def _placed(model: nn.Module, device: torch.device, params: TrainParams) -> nn.Module:
    _lay_out(model.to(device), torch.channels_last if params.channels_last else torch.contiguous_format)
    return model


def _lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    model.to(memory_format=memory_format)  # type: ignore[call-overload]


def _run(loop: _Loop, judge: Judge, checkpoints: Checkpoints, progress: Progress, title: str) -> TrainResult:
    found = checkpoints.latest()
    if found:
        loop.restore(found)
        progress.say(f"{title}: going on from step {loop.step} of {loop.num_steps}")
    progress.start(title, total=loop.num_steps)
    keeper = _Keeper(loop, checkpoints)
    try:
        while not loop.finished():
            _one_epoch(loop, judge, keeper, progress)
    except InterruptedRunError:
        keeper.keep()
        raise
    loop.demand_finite_weights()
    loop.loss.student.detach()
    return TrainResult(tuple(loop.history.records), loop.leave_kept_weights(), loop.step)


def _one_epoch(loop: _Loop, judge: Judge, keeper: _Keeper, progress: Progress) -> None:
    """The rest of the epoch that the loop is in, and its record."""
    loop.begin_epoch()
    # A kill may have come between the last step of an epoch and its record: then no step is left.
    while loop.step < loop.epoch_end:
        loop.take_step()
        if loop.must_tell:
            _tell(loop, judge, progress)
        keeper.keep_if_due()
    loop.end_epoch(judge)
    progress.epoch(loop.history.records[-1])
    _tell(loop, judge, progress)


def _tell(loop: _Loop, judge: Judge, progress: Progress) -> None:
    """Show how far it is, and hear whether the user wants to stop."""
    loop.look()
    loop.told_step, loop.told_at = loop.step, time.monotonic()
    progress.advance(loop.step, **loop.history.latest(judge.workload.primary_metric))
    progress.check()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A step whose losses have not been looked at yet."""

    step: int
    watched: tuple[Tensor, ...]
    """Distillation and hard loss, and the norm of the gradient where it is clipped."""
    num_rows: int
    num_labelled: int


class _Loop:
    """Weights, optimizer, history and position: what a checkpoint holds and a step changes."""

    def __init__(self, loss: BatchLoss, rows: NDArray[np.int64], *, num_drawn: int, seed: int, num_views: int) -> None:
        self.loss, self.params, self.device = loss, loss.params, loss.device
        self.rows, self.num_drawn, self.seed, self.num_views = rows, num_drawn, seed, num_views
        self.modules = {"model": loss.model}
        if isinstance(loss.objective, nn.Module):
            self.modules["objective"] = loss.objective.to(loss.device)
        self.weights = [*loss.model.parameters(), *(loss.objective.parameters() if loss.objective else ())]
        self.optimizer = make_optimizer(self.params.optimizer, self.weights)
        self.steps_per_epoch = -(-num_drawn // self.params.batch_size)
        self.num_steps = self.steps_per_epoch * self.params.epochs
        self.step = 0
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.taken: list[_Taken] = []
        self.told_step, self.told_at = 0, time.monotonic()

    def finished(self) -> bool:
        enough = self.history.num_epochs == self.params.epochs
        return enough or self.history.out_of_patience(self.params.early_stopping_epochs)

    @property
    def epoch_end(self) -> int:
        return (self.history.num_epochs + 1) * self.steps_per_epoch

    def begin_epoch(self) -> None:
        epoch = self.history.num_epochs
        batches = epoch_batches(
            self.rows,
            num_drawn=self.num_drawn,
            batch_size=self.params.batch_size,
            seed=self.seed,
            epoch=epoch,
            windows=self._windows(),
        )
        self.batches = self.loss.rows(batches)
        self.seeds = step_seeds(self.steps_per_epoch, seed=self.seed, epoch=epoch)
        for module in self.modules.values():
            module.train()

    def _windows(self) -> Windows | None:
        if self.params.shuffle == "full":
            return None
        return Windows(self.params.shuffle_chunk_rows, self.params.shuffle_window_chunks)

    def _expect_next_window(self, place: int, view: int) -> None:
        """At the first step of each window, fetch its rows and those of the one after it."""
        windows = self._windows()
        if windows:
            steps = max(1, windows.num_rows // self.params.batch_size)
            if place % steps == 0:
                self.loss.expect(self.batches[place : place + 2 * steps], view=view)

    def take_step(self) -> None:
        place = self.step % self.steps_per_epoch
        view = self.history.num_epochs % self.num_views
        self._expect_next_window(place, view)
        set_learning_rate(self.optimizer, self._learning_rate(self.step))
        seed_step(self.seeds[place], self.device)
        losses = self.loss(self.batches[place], view=view, done=self.step / self.num_steps)
        # Optimizer.zero_grad does the same with ten times the ceremony, which a small student would feel.
        for weight in self.weights:
            weight.grad = None
        losses.backward()
        watched = (losses.distillation, losses.hard, *self._clip())
        self.optimizer.step()
        self.taken.append(_Taken(self.step, watched, losses.num_rows, losses.num_labelled))
        self.step += 1

    def _clip(self) -> tuple[Tensor, ...]:
        if self.params.clip_grad_norm is None:
            return ()
        return (nn.utils.clip_grad_norm_(self.weights, self.params.clip_grad_norm).detach(),)

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.params, step, self.num_steps)

    @property
    def must_tell(self) -> bool:
        steps, seconds = self.step - self.told_step, time.monotonic() - self.told_at
        return steps >= TELL_EVERY_STEPS or seconds > TELL_EVERY_SECONDS

    def look(self) -> None:
        """Add up the losses since the last look; TrainingDivergedError at the first that is not finite."""
        for taken, values in zip(self.taken, self._values(), strict=True):
            if not all(map(math.isfinite, values)):
                raise self._diverged("the loss or its gradient", taken.step)
            distillation, hard = values[:2]
            total = self.loss.total(distillation, hard, done=taken.step / self.num_steps)
            parts = (total, distillation, hard)
            self.history.sums.add(parts, num_rows=taken.num_rows, num_labelled=taken.num_labelled)
        self.taken.clear()

    def _values(self) -> list[list[float]]:
        if not self.taken:
            return []
        values: list[list[float]] = torch.stack([torch.stack(taken.watched) for taken in self.taken]).tolist()
        return values

    def demand_finite_weights(self) -> None:
        """TrainingDivergedError after a step whose loss was a number and whose gradient was not."""
        if not all(bool(weight.isfinite().all()) for weight in self.weights):
            raise self._diverged("a weight", self.step - 1)

    def _diverged(self, what: str, step: int) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"{what} is not a finite number at epoch {step // self.steps_per_epoch + 1}, step {step + 1} of "
            f"{self.num_steps} (learning rate {self._learning_rate(step):.3g}): lower train.optimizer.learning_rate, "
            "raise train.warmup_share, or set train.clip_grad_norm (1.0 is usual)"
        )

    def end_epoch(self, judge: Judge) -> None:
        self.look()
        try:
            validation = judge.measure(self.loss.model.eval())
        except RefusedError as error:
            raise self._diverged("a logit of a validation sample", self.step - 1) from error
        self.history.end_epoch(validation, learning_rate=self._learning_rate(self.step - 1))
        if self.params.early_stopping_epochs and self.history.best_epoch == self.history.num_epochs:
            self.best = {name: tensor.detach().clone() for name, tensor in self.loss.model.state_dict().items()}

    def leave_kept_weights(self) -> int:
        """Leave the weights that count in the model, in the usual layout, and say of which epoch they are."""
        if self.best:
            self.loss.model.load_state_dict(self.best)
        _lay_out(self.loss.model.eval(), torch.contiguous_format)
        return self.history.best_epoch if self.best else self.history.num_epochs

    def identity(self) -> str:
        """Of this training among others, by all that decides its course and is told cheaply."""
        params = self.params.model_dump(mode="json", exclude={"checkpoint_seconds"})
        told = [params, self.seed, self.num_views, self.num_drawn]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        digest.update(self.rows.tobytes())
        for module in self.modules.values():
            for tensor in module.state_dict().values():
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def snapshot(self) -> Checkpoint:
        """Everything that the rest of the training depends on."""
        tensors = prefixed("best", self.best) | prefixed("optimizer", moments(self.optimizer))
        for name, module in self.modules.items():
            tensors |= prefixed(name, module.state_dict())
        return Checkpoint(self.step, tensors, self.history.dump())

    def restore(self, found: Checkpoint) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(without_prefix(name, found.tensors))
        set_moments(self.optimizer, without_prefix("optimizer", found.tensors))
        self.best = without_prefix("best", found.tensors)
        self.step, self.history = found.step, History.parse(found.state)


class _Keeper:
    """Writes a checkpoint now and then: when depends on the clock, what is in it does not."""

    def __init__(self, loop: _Loop, checkpoints: Checkpoints) -> None:
        self.loop, self.checkpoints = loop, checkpoints
        self.kept_at, self.kept_step = time.monotonic(), loop.step

    def keep_if_due(self) -> None:
        if time.monotonic() - self.kept_at >= self.loop.params.checkpoint_seconds:
            self.keep()

    def keep(self) -> None:
        """Only a state that is finite throughout is worth going on from."""
        self.loop.look()
        self.loop.demand_finite_weights()
        if self.loop.step > self.kept_step:
            self.checkpoints.write(self.loop.snapshot())
        self.kept_at, self.kept_step = time.monotonic(), self.loop.step
