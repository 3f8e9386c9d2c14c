"""Facts about the training loop, on a few synthetic pictures."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import DataSpec, ModelParams, NoProgress
from components.errors import BadInputError, InterruptedRunError, StoreError, TrainingDivergedError
from components.models import convnet, mlp
from components.objectives import kd
from components.params import OptimizerParams, TrainParams
from components.training import loop
from components.training.loop import TrainResult, train
from components.training.reproducible import initialised
from components.workloads.image_classification import Params as Workload
from tests.components.objectives.given import spec

N, C = 60, 3
TRAIN, VALIDATION = np.arange(40), np.arange(40, 60)
SPEC = DataSpec((1, 6, 6), ("a", "b", "c"), (0.4,), (0.3,), num_train=len(TRAIN))
LABELS = np.arange(N, dtype=np.int64) % C
_DRAW = np.random.Generator(np.random.Philox(0))
SAMPLES = (_DRAW.integers(0, 120, (N, 1, 6, 6)) + 40 * LABELS[:, None, None, None]).astype(np.uint8)
SAID = torch.from_numpy(_DRAW.normal(0, 3, (4, N, C)).astype(np.float32))
MODEL = mlp.Params(hidden=(8,))


class Shifted:
    """View v adds 5 v to every pixel, and remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[int]]] = []

    def batch(self, rows: Tensor, view: int) -> Tensor:
        self.asked.append((view, rows.tolist()))
        return torch.from_numpy(SAMPLES)[rows] + 5 * view

    def mixture(self, rows: Tensor, view: int) -> None:
        return None


class Said:
    """The teacher's logits, [V, N, C]."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[int]]] = []
        self.expected: list[tuple[int, int, list[int]]] = []

    def places(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def expect(self, rows: np.ndarray, view: int) -> None:
        self.expected.append((len(self.asked), view, rows.tolist()))

    def take(self, rows: np.ndarray, view: int) -> Tensor:
        self.asked.append((view, rows.tolist()))
        return SAID[view][rows]


class StopsAfter(NoProgress):
    """A user who presses Ctrl-C the moment that so many steps are shown."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.said = steps, 0, ""

    def advance(self, done: int, **_: float) -> None:
        self.done = done

    def say(self, message: str) -> None:
        self.said += message

    def check(self) -> None:
        if self.done >= self.steps:
            raise InterruptedRunError("stopped")


class Listens(NoProgress):
    """Hears what each epoch came to."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, float]] = []

    def epoch(self, record: Mapping[str, float]) -> None:
        self.records.append(record)


def params(**values: Any) -> TrainParams:
    return TrainParams.model_validate({"epochs": 5, "batch_size": 10, **values})


def distil(work: Path, train_params: TrainParams, **changed: Any) -> tuple[dict[str, Tensor], TrainResult]:
    """Train a student with soft targets, and return its weights and the result."""
    given: dict[str, Any] = {
        "labels": LABELS,
        "seed": 3,
        "views": Shifted(),
        "num_views": 2,
        "progress": NoProgress(),
        "objective": kd.Params(alpha=0.9, temperature=2.0).build(spec(SPEC)),
        "targets": Said(),
        "train_rows": TRAIN,
        "validation_rows": VALIDATION,
    }
    model_params = changed.pop("model_params", MODEL)
    model = changed.pop("model", None) or initialised(model_params, SPEC, seed=3)
    result = train(
        model=model,
        samples=SAMPLES,
        workload=Workload().build(),
        params=train_params,
        work=work,
        device=torch.device("cpu"),
        **{**given, **changed},
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, result


def hard_only(work: Path, train_params: TrainParams, **changed: Any) -> tuple[dict[str, Tensor], TrainResult]:
    return distil(work, train_params, **{"objective": None, "targets": None, **changed})


def same_bits(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# The same numbers as a loop that anybody would write


def plain_loop(batches: list[list[int]], params: TrainParams, *, alpha: float, temperature: float) -> dict[str, Tensor]:
    """Twenty steps with torch's own optimizer, scheduler and losses."""
    model = initialised(MODEL, SPEC, seed=3)
    chosen = params.optimizer
    decays, others = [w for w in model.parameters() if w.ndim > 1], [w for w in model.parameters() if w.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decays, "weight_decay": chosen.weight_decay}, {"params": others}],
        lr=chosen.learning_rate,
        momentum=chosen.momentum,
        nesterov=True,
    )
    rise = [step / 2 for step in (1, 2)]
    fall = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 18)) / 2 for step in range(1, 19)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: [*rise, *fall, 0][step])
    for step, rows in enumerate(batches):
        view = step // 4 % 2
        logits = model(torch.from_numpy(SAMPLES)[rows] + 5 * view)
        soft = functional.kl_div(
            functional.log_softmax(logits / temperature, 1),
            functional.softmax(SAID[view][rows] / temperature, 1),
            reduction="batchmean",
        )
        hard = functional.cross_entropy(logits, torch.from_numpy(LABELS)[rows], label_smoothing=params.label_smoothing)
        loss = alpha * temperature**2 * soft + (1 - alpha) * hard
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), params.clip_grad_norm or math.inf)
        optimizer.step()
        schedule.step()
    return model.state_dict()


def test_twenty_steps_like_a_plain_loop(tmp_path: Path) -> None:
    """Weights after 20 steps are those of a loop written with torch's own parts, to float32 rounding."""
    chosen = params(label_smoothing=0.1, clip_grad_norm=1.0)
    views = Shifted()
    weights, result = distil(tmp_path, chosen, views=views)

    assert result.num_steps == 20
    expected = plain_loop([rows for _, rows in views.asked], chosen, alpha=0.9, temperature=2.0)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


def test_student_and_targets_are_of_the_same_view_and_rows(tmp_path: Path) -> None:
    """Epoch e reads view e mod V of samples and of soft targets, for the same rows in the same order."""
    views, targets = Shifted(), Said()
    distil(tmp_path, params(), views=views, targets=targets, num_views=2)

    assert views.asked == targets.asked
    assert [view for view, _ in views.asked] == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4 + [0] * 4
    assert sorted(row for _, rows in views.asked[:4] for row in rows) == TRAIN.tolist()


def test_shuffling_within_windows_is_the_parameters_choice(tmp_path: Path) -> None:
    """With one chunk of four rows a window every batch of four holds neighbours; by default it does not."""

    def neighbours(**values: Any) -> bool:
        views = Shifted()
        distil(tmp_path / str(len(values)), params(epochs=1, batch_size=4, **values), views=views)
        return all(max(rows) - min(rows) < 4 for _, rows in views.asked)

    assert neighbours(shuffle="chunks", shuffle_chunk_rows=4, shuffle_window_chunks=1)
    assert not neighbours()


def test_windows_are_announced_before_they_are_read(tmp_path: Path) -> None:
    """At the first step of each window its rows and those of the next have been asked for, in the view to come."""
    targets, local = Said(), {"shuffle": "chunks", "shuffle_chunk_rows": 10, "shuffle_window_chunks": 1}
    distil(tmp_path, params(epochs=2, batch_size=5, **local), targets=targets)

    assert [(step, view) for step, view, _ in targets.expected] == [(step, step // 8) for step in range(0, 16, 2)]
    for step, _, rows in targets.expected:
        epoch_end = 8 * (step // 8 + 1)
        assert rows == [row for _, asked in targets.asked[step : min(step + 4, epoch_end)] for row in asked]


def test_a_full_shuffle_announces_nothing(tmp_path: Path) -> None:
    """There is no part of the rows that comes first."""
    targets = Said()
    distil(tmp_path, params(), targets=targets)

    assert targets.expected == []


# What is written down


def test_both_losses_are_logged_apart(tmp_path: Path) -> None:
    """Every epoch has total, distillation and hard part, validation and learning rate, and the parts add up."""
    _, result = distil(tmp_path, params())

    names = ["epoch", "loss_total", "loss_distillation", "loss_hard", "validation_loss", "learning_rate"]
    names += ["validation_accuracy", "validation_nll", "validation_ece"]
    for record in result.history:
        assert set(record) == set(names)
        assert record["loss_total"] == pytest.approx(0.9 * record["loss_distillation"] + 0.1 * record["loss_hard"])
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_part_without_weight_is_logged_all_the_same(tmp_path: Path, alpha: float) -> None:
    """With alpha 0 or 1 the part that does not count is still measured."""
    _, result = distil(tmp_path, params(epochs=1), objective=kd.Params(alpha=alpha).build(spec(SPEC)))

    assert result.history[0]["loss_distillation"] > 0
    assert result.history[0]["loss_hard"] > 0


def test_progress_shows_losses_and_accuracy(tmp_path: Path) -> None:
    """A display is told both parts of the loss, and after the first epoch the validation accuracy."""
    shown: list[dict[str, float]] = []

    class Display(NoProgress):
        def advance(self, done: int, **values: float) -> None:
            shown.append({"done": done, **values})

    distil(tmp_path, params(epochs=2), progress=Display())

    assert {"loss_total", "loss_distillation", "loss_hard", "validation_accuracy"} <= set(shown[-1])
    assert shown[-1]["done"] == 8


def test_alpha_zero_is_the_hard_label_student(tmp_path: Path) -> None:
    """A student whose objective has no weight ends in the same bits as one without an objective."""
    distilled, _ = distil(tmp_path / "a", params(), objective=kd.Params(alpha=0.0).build(spec(SPEC)))
    hard, _ = hard_only(tmp_path / "b", params())

    assert same_bits(distilled, hard)


# Labels that are not there


def test_hard_part_covers_labelled_rows_only(tmp_path: Path) -> None:
    """The hard loss is the mean over labelled rows; the distillation loss over all of them."""
    labels = np.where(np.arange(N) % 4 == 0, LABELS, -1)
    chosen = params(epochs=1, batch_size=40, optimizer={"learning_rate": 1e-12})
    _, result = distil(tmp_path, chosen, labels=labels, validation_rows=VALIDATION, num_views=1)

    with torch.no_grad():
        logits = initialised(MODEL, SPEC, seed=3)(torch.from_numpy(SAMPLES[TRAIN]))
    labelled = TRAIN[labels[TRAIN] >= 0]
    hard = functional.cross_entropy(logits[labelled], torch.from_numpy(labels[labelled]))
    assert result.history[0]["loss_hard"] == pytest.approx(hard.item(), rel=1e-5)


def test_no_labels_at_all(tmp_path: Path) -> None:
    """Without one label the hard part is 0 and the student learns from its teacher alone."""
    _, result = distil(tmp_path, params(), labels=np.full(N, -1))

    assert {record["loss_hard"] for record in result.history} == {0.0}
    assert "validation_loss" not in result.history[0]
    assert result.history[-1]["loss_distillation"] < result.history[0]["loss_distillation"]


def test_without_a_teacher_only_labelled_rows_are_drawn(tmp_path: Path) -> None:
    """The hard-label student takes as many steps as a distilled one, over its labelled rows again and again."""
    labels = np.where(np.arange(N) % 4 == 0, LABELS, -1)
    views = Shifted()
    _, result = hard_only(tmp_path, params(), labels=labels, views=views)

    assert result.num_steps == 20
    rows = [row for _, asked in views.asked for row in asked]
    assert set(rows) == set(TRAIN[::4])
    assert len(rows) == 5 * len(TRAIN)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_rows": TRAIN[:0]}, "training split is empty"),
        ({"labels": np.full(N, -1), "objective": None, "targets": None}, "no training sample has a label"),
        ({"labels": np.full(N, -1), "objective": kd.Params(alpha=0.0).build(spec(SPEC))}, "alpha is 0"),
        ({"targets": None}, "needs the teacher's logits"),
    ],
    ids=["empty", "no labels", "alpha 0", "no targets"],
)
def test_nothing_to_learn_from(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """What cannot teach anything is said before the first step."""
    with pytest.raises(BadInputError, match=message):
        distil(tmp_path, params(), **changed)


def test_early_stopping_needs_something_to_judge(tmp_path: Path) -> None:
    """Early stopping without labelled validation samples is refused."""
    with pytest.raises(BadInputError, match="early_stopping_epochs needs labelled validation"):
        distil(tmp_path, params(early_stopping_epochs=2), validation_rows=VALIDATION[:0])


# Stopping


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_diverging_run_stops_at_once(tmp_path: Path, precision: str) -> None:
    """A loss that is no number ends the run within ten steps, and says where, at which rate, and what to try."""
    views = Shifted()
    wild = params(epochs=100, optimizer={"learning_rate": 1e30}, precision=precision, warmup_share=0)
    with pytest.raises(TrainingDivergedError, match=r"epoch \d+, step \d+ of 400 .*1e\+30.*clip_grad_norm") as raised:
        hard_only(tmp_path, wild, views=views)

    step = int(str(raised.value).partition("step ")[2].partition(" ")[0])
    assert len(views.asked) <= step + 10


def test_a_diverged_state_is_never_a_checkpoint(tmp_path: Path) -> None:
    """Even with a checkpoint after every step none holds a number that is not finite."""
    wild = params(epochs=100, optimizer={"learning_rate": 1e30}, checkpoint_seconds=0, warmup_share=0)
    with pytest.raises(TrainingDivergedError):
        hard_only(tmp_path, wild)

    written = list(tmp_path.glob("*.safetensors"))
    assert written
    for path in written:
        assert all(tensor.isfinite().all() for tensor in safetensors.torch.load_file(path).values())


def test_a_gradient_that_is_no_number_is_no_result(tmp_path: Path) -> None:
    """A finite loss whose gradient is not leaves neither weights nor a checkpoint, even at the very last step."""

    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(C))

        def forward(self, samples: Tensor) -> Tensor:
            return self.weight.abs().sqrt().expand(len(samples), C)

    one_step = params(epochs=1, batch_size=40, checkpoint_seconds=0)
    with pytest.raises(TrainingDivergedError, match="a weight is not a finite number at epoch 1, step 1 of 1"):
        hard_only(tmp_path, one_step, model=Rooted(), validation_rows=VALIDATION[:0])

    assert not list(tmp_path.iterdir())


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    """Training ends after so many epochs without a better validation loss, with the weights of the best epoch."""
    wrong = np.where(np.arange(N) < 40, LABELS, (LABELS + 1) % C)  # the better it learns, the worse validation gets
    chosen = params(epochs=30, early_stopping_epochs=3, optimizer={"learning_rate": 0.05})
    weights, result = hard_only(tmp_path / "a", chosen, labels=wrong, num_views=1)
    losses = [record["validation_loss"] for record in result.history]

    assert result.best_epoch == 1 + losses.index(min(losses))
    assert len(losses) == result.best_epoch + 3
    model = initialised(MODEL, SPEC, seed=3)
    model.load_state_dict(weights)
    with torch.no_grad():
        logits = model(torch.from_numpy(SAMPLES[VALIDATION]))
    kept = functional.cross_entropy(logits, torch.from_numpy(wrong[VALIDATION])).item()
    assert kept == pytest.approx(min(losses), rel=1e-5)


def test_without_early_stopping_the_last_weights_count(tmp_path: Path) -> None:
    """Validation is measured but decides nothing."""
    wrong = np.where(np.arange(N) < 40, LABELS, (LABELS + 1) % C)
    _, judged = hard_only(tmp_path / "a", params(epochs=6), labels=wrong)
    unjudged_weights, _ = hard_only(tmp_path / "b", params(epochs=6), labels=wrong, validation_rows=VALIDATION[:0])
    weights, _ = hard_only(tmp_path / "c", params(epochs=6), labels=wrong)

    assert judged.best_epoch == 6
    assert same_bits(weights, unjudged_weights)


# Interruption and resume

DROPS = convnet.Params(channels=(4, 4), dropout=0.3)
VARIED: dict[str, tuple[ModelParams, dict[str, Any]]] = {
    "sgd": (MODEL, {}),
    "adamw, dropout, clipping": (
        DROPS,
        {"optimizer": {"name": "adamw", "learning_rate": 0.01}, "clip_grad_norm": 0.5},
    ),
    "channels last, bf16": (DROPS, {"channels_last": True, "precision": "bf16"}),
    "early stopping": (mlp.Params(hidden=(8,), dropout=0.5), {"early_stopping_epochs": 2}),
    "no momentum": (MODEL, {"optimizer": {"momentum": 0.0}}),
    "within windows": (MODEL, {"shuffle": "chunks", "shuffle_chunk_rows": 3, "shuffle_window_chunks": 4}),
}


@pytest.mark.parametrize(("model_params", "values"), VARIED.values(), ids=VARIED)
def test_interrupted_anywhere_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_params: ModelParams, values: dict[str, Any]
) -> None:
    """Stopped once after every single step, the run still ends in the weights and history of an undisturbed one."""
    chosen = params(epochs=3, **values)
    weights, result = distil(tmp_path / "undisturbed", chosen, model_params=model_params)
    monkeypatch.setattr(loop, "TELL_EVERY_STEPS", 1)
    stops = 0
    for stop in range(1, result.num_steps + 1):
        try:
            distil(tmp_path / "stopped", chosen, model_params=model_params, progress=StopsAfter(stop))
        except InterruptedRunError:
            stops += 1
    resumed, again = distil(tmp_path / "stopped", chosen, model_params=model_params)

    assert stops == result.num_steps
    assert same_bits(resumed, weights)
    assert again == result


def test_an_interrupted_run_loses_nothing(tmp_path: Path) -> None:
    """A checkpoint is written before the interruption passes, however long the next one was away."""
    chosen = params(checkpoint_seconds=1000)
    stopped = StopsAfter(10)
    with pytest.raises(InterruptedRunError):
        distil(tmp_path, chosen, progress=stopped)
    views, progress = Shifted(), StopsAfter(1000)
    distil(tmp_path, chosen, views=views, progress=progress)

    assert f"going on from step {stopped.done} of 20" in progress.said
    assert len(views.asked) == 20 - stopped.done


def damage_tensors(folder: Path) -> None:
    newest = max(folder.glob("*.safetensors"), key=lambda path: int(path.stem.rpartition("-")[2]))
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)


def damage_state(folder: Path) -> None:
    newest = max(folder.glob("*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    newest.write_text(newest.read_text(encoding="utf-8").replace("num_rows", "num_raws"), encoding="utf-8")


def truncate_state(folder: Path) -> None:
    newest = max(folder.glob("*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    newest.write_bytes(newest.read_bytes()[:-9])


def remove_tensors(folder: Path) -> None:
    max(folder.glob("*.safetensors"), key=lambda path: int(path.stem.rpartition("-")[2])).unlink()


@pytest.mark.parametrize("damage", [damage_tensors, damage_state, truncate_state, remove_tensors])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """The checkpoint before the damaged one is used, and the end is the same."""
    weights, result = distil(tmp_path / "undisturbed", params())
    often = params(checkpoint_seconds=0)
    stopped = StopsAfter(10)
    with pytest.raises(InterruptedRunError):
        distil(tmp_path / "stopped", often, progress=stopped)
    damage(tmp_path / "stopped")
    progress = StopsAfter(1000)
    resumed, again = distil(tmp_path / "stopped", often, progress=progress)

    assert f"going on from step {stopped.done - 1} of 20" in progress.said
    assert same_bits(resumed, weights)
    assert again == result


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    """Other parameters in the same folder begin at the beginning, and clear what is in the way."""
    with pytest.raises(InterruptedRunError):
        distil(tmp_path, params(), progress=StopsAfter(10))
    progress = StopsAfter(1000)
    distil(tmp_path, params(epochs=4), progress=progress)

    assert progress.said == ""
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_a_disk_that_takes_no_checkpoint_is_said(tmp_path: Path) -> None:
    """A folder that cannot be made is a message with the way out, not a traceback."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match=r"checkpoint of step 1 cannot be written in .*same command goes on"):
        distil(tmp_path / "file" / "work", params(checkpoint_seconds=0))


RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_loop import DROPS, distil, params
weights, result = distil(Path(sys.argv[1]), params(epochs=60, checkpoint_seconds=0.05), model_params=DROPS)
import safetensors.torch
safetensors.torch.save_file(weights, sys.argv[2])
Path(sys.argv[2] + ".json").write_text(json.dumps(list(result.history)))
"""


@pytest.mark.slow
def test_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    """A process that is killed with SIGKILL at random moments ends in the bytes of one that was left alone."""
    code = RUN.format(folder=str(Path(__file__).parent))

    def start(work: str, out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(tmp_path / work), str(tmp_path / out)])

    assert start("alone", "alone.bin").wait() == 0
    draw = np.random.Generator(np.random.Philox(1))
    kills = 0
    while not (tmp_path / "killed.bin.json").exists():
        process = start("killed", "killed.bin")
        if kills < 4:
            until = time.monotonic() + 60
            known = {path.name for path in (tmp_path / "killed").glob("*.json")}
            while process.poll() is None and time.monotonic() < until:
                if {path.name for path in (tmp_path / "killed").glob("*.json")} - known:
                    time.sleep(float(draw.uniform(0, 0.2)))
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.002)
        process.wait()

    assert kills > 0
    assert (tmp_path / "killed.bin").read_bytes() == (tmp_path / "alone.bin").read_bytes()
    assert json.loads((tmp_path / "killed.bin.json").read_text()) == json.loads(
        (tmp_path / "alone.bin.json").read_text()
    )


# Choices that must not change more than they say


def test_twice_the_same(tmp_path: Path) -> None:
    """The same arguments give the same bits, whatever the process drew before."""
    first, _ = distil(tmp_path / "a", params(), model_params=DROPS)
    torch.rand(11)
    second, _ = distil(tmp_path / "b", params(), model_params=DROPS)
    other, _ = distil(tmp_path / "c", params(), model_params=DROPS, seed=4)

    assert same_bits(first, second)
    assert not same_bits(first, other)


def test_the_callers_world_is_left_alone(tmp_path: Path) -> None:
    """Random state and deterministic mode are afterwards what they were before."""
    torch.manual_seed(5)
    before, mode = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    distil(tmp_path, params(), model_params=DROPS)

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.are_deterministic_algorithms_enabled() is mode is False


@pytest.mark.parametrize(
    ("values", "tolerance"), [({"channels_last": True}, 1e-4), ({"precision": "bf16"}, 0.1)], ids=["layout", "bf16"]
)
def test_layout_and_precision_are_small_changes(tmp_path: Path, values: dict[str, Any], tolerance: float) -> None:
    """Channels-last changes rounding only, bf16 little more; weights end contiguous and in float32."""
    no_norm = convnet.Params(channels=(4, 4), norm="none")
    chosen = {"optimizer": {"learning_rate": 0.02}}
    plain, _ = distil(tmp_path / "a", params(**chosen), model_params=no_norm)
    changed, _ = distil(tmp_path / "b", params(**chosen, **values), model_params=no_norm)

    torch.testing.assert_close(changed, plain, rtol=tolerance, atol=tolerance)
    assert not same_bits(changed, plain)
    assert all(tensor.is_contiguous() and tensor.dtype == torch.float32 for tensor in changed.values())


def test_norms_and_biases_do_not_decay(tmp_path: Path) -> None:
    """With nothing but weight decay at work, only weights of two or more dimensions shrink."""
    decaying = params(epochs=1, optimizer=OptimizerParams(weight_decay=0.5, learning_rate=0.1, momentum=0.0))
    model = initialised(convnet.Params(channels=(4,)), SPEC, seed=0)
    for weight in model.parameters():
        weight.data.fill_(1.0)

    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, samples: Tensor) -> Tensor:
            return torch.zeros(len(samples), C) + 0 * sum(weight.sum() for weight in self.inner.parameters())

    hard_only(tmp_path, decaying, model=Nothing())
    shrunk = {name for name, weight in model.named_parameters() if (weight < 1).all()}
    kept = {name for name, weight in model.named_parameters() if (weight == 1).all()}

    assert shrunk == {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert kept == {name for name, weight in model.named_parameters() if weight.ndim == 1}


def test_an_objective_that_learns_is_trained_and_kept(tmp_path: Path) -> None:
    """The objective's own parameters move with the student's, and survive an interruption."""

    class Scaled(nn.Module):
        alpha, weight = 0.5, 1.0
        needs = frozenset({"logits"})
        student_taps = teacher_taps = ()
        reduction = "rows"

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, student: Any, teacher: Any, _: Any) -> Tensor:
            return ((self.scale * student.logits - teacher.logits) ** 2).mean(dim=1)

    undisturbed, stopped, resumed = Scaled(), Scaled(), Scaled()
    weights, _ = distil(tmp_path / "a", params(), objective=undisturbed)
    with pytest.raises(InterruptedRunError):
        distil(tmp_path / "b", params(), objective=stopped, progress=StopsAfter(7))
    found, _ = distil(tmp_path / "b", params(), objective=resumed)

    assert undisturbed.scale.item() != 1.0
    assert torch.equal(resumed.scale, undisturbed.scale)
    assert same_bits(found, weights)


def test_weights_of_the_parts_may_follow_a_schedule(tmp_path: Path) -> None:
    """Alpha 0 for the first half is a hard-label student till then, step by step the same bits."""
    objective = kd.Params(alpha=[[0, 0], [0.5, 0], [0.51, 0.9]]).build(spec(SPEC))
    _, scheduled = distil(tmp_path / "a", params(epochs=4), objective=objective)
    _, plain = hard_only(tmp_path / "b", params(epochs=4))

    same = [
        ours["validation_loss"] == theirs["validation_loss"]
        for ours, theirs in zip(scheduled.history, plain.history, strict=True)
    ]
    assert same == [True, True, False, False]
    assert scheduled.history[0]["loss_total"] == scheduled.history[0]["loss_hard"]
    assert scheduled.history[3]["loss_total"] != scheduled.history[3]["loss_hard"]


def test_a_part_that_weighs_nothing_moves_nothing(tmp_path: Path) -> None:
    """With alpha 1 and a weight of 0 there is no gradient at all, and that is no error."""
    objective = kd.Params(alpha=1.0, weight=[[0, 0], [1, 0]]).build(spec(SPEC))
    model = initialised(MODEL, SPEC, seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights, _ = distil(tmp_path, params(epochs=1), objective=objective, model=model)

    assert same_bits(weights, before)


def test_each_epoch_is_told_when_it_ends(tmp_path: Path) -> None:
    """The records of the history, one by one, while the training goes on."""
    listener = Listens()
    _, result = distil(tmp_path, params(), progress=listener)

    assert tuple(listener.records) == result.history
    assert len(listener.records) == 5
