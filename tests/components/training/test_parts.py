"""Facts about the parts of the loop: order, schedule, checkpoints."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.params import OptimizerParams, TrainParams
from components.training.checkpoints import KEPT, Checkpoint, Checkpoints
from components.training.history import History, Sums, learnt
from components.training.optimizer import learning_rate
from components.training.reproducible import Windows, epoch_batches, step_seeds


@given(count=st.integers(1, 300), batch_size=st.integers(1, 64), seed=st.integers(0, 2**70), epoch=st.integers(0, 1000))
def test_every_row_once_an_epoch(count: int, batch_size: int, seed: int, epoch: int) -> None:
    """Batches hold each row exactly once, none is larger than asked for, and sizes differ by one at most."""
    rows = np.arange(1000, 1000 + count)
    batches = epoch_batches(rows, num_drawn=count, batch_size=batch_size, seed=seed, epoch=epoch)
    sizes = {len(batch) for batch in batches}

    assert sorted(np.concatenate(batches).tolist()) == rows.tolist()
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // batch_size)


@given(seed=st.integers(0, 2**70), epoch=st.integers(0, 1000))
def test_order_is_a_function_of_seed_and_epoch(seed: int, epoch: int) -> None:
    """Asked twice it is the same; another epoch or another seed has another order."""

    def order(seed: int, epoch: int) -> list[int]:
        (batch,) = epoch_batches(np.arange(50), num_drawn=50, batch_size=50, seed=seed, epoch=epoch)
        return batch.tolist()

    assert order(seed, epoch) == order(seed, epoch)
    assert order(seed, epoch) != order(seed, epoch + 1)
    assert order(seed, epoch) != order(seed + 1, epoch)


@given(
    count=st.integers(1, 300),
    chunk_rows=st.integers(1, 50),
    window_chunks=st.integers(1, 6),
    batch_size=st.integers(1, 64),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 1000),
)
def test_windows_hold_every_row_once_and_few_chunks_at_a_time(
    count: int, chunk_rows: int, window_chunks: int, batch_size: int, seed: int, epoch: int
) -> None:
    """An epoch within windows is a permutation, asked twice the same, and no window uses more chunks than it may."""

    def order() -> list[int]:
        batches = epoch_batches(
            np.arange(count),
            num_drawn=count,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            windows=Windows(chunk_rows, window_chunks),
        )
        return [int(row) for batch in batches for row in batch]

    found = order()
    assert sorted(found) == list(range(count))
    assert found == order()
    chunks_in_order = list(dict.fromkeys(row // chunk_rows for row in found))
    while chunks_in_order:
        window = set(chunks_in_order[:window_chunks])
        size = sum(len(range(chunk * chunk_rows, min(count, (chunk + 1) * chunk_rows))) for chunk in window)
        assert {row // chunk_rows for row in found[:size]} == window
        found, chunks_in_order = found[size:], [c for c in chunks_in_order if c not in window]


def test_windows_mix_rows_and_change_with_the_epoch() -> None:
    """Rows of a window's chunks alternate, and the next epoch puts other chunks together."""

    def order(epoch: int) -> np.ndarray:
        (batch,) = epoch_batches(
            np.arange(800), num_drawn=800, batch_size=800, seed=0, epoch=epoch, windows=Windows(50, 4)
        )
        return batch // 50

    first, second = order(0), order(1)
    windows = [frozenset(first[start : start + 200].tolist()) for start in range(0, 800, 200)]
    again = [frozenset(second[start : start + 200].tolist()) for start in range(0, 800, 200)]
    assert [len(window) for window in windows] == [4, 4, 4, 4]
    assert (np.diff(first[:200]) != 0).mean() > 0.5
    assert set(windows) != set(again)


@given(count=st.integers(1, 40), drawn=st.integers(40, 200))
def test_few_rows_come_round_evenly(count: int, drawn: int) -> None:
    """Where more are drawn than exist, each is drawn as often as any other, give or take one."""
    batches = epoch_batches(np.arange(count), num_drawn=drawn, batch_size=16, seed=0, epoch=0)
    times = np.bincount(np.concatenate(batches), minlength=count)

    assert times.sum() == drawn
    assert times.max() - times.min() <= 1


def test_dropout_of_a_step_has_a_seed_of_its_own() -> None:
    """Seeds differ between steps, epochs and runs."""
    seeds = [*step_seeds(50, seed=0, epoch=0), *step_seeds(50, seed=0, epoch=1), *step_seeds(50, seed=1, epoch=0)]

    assert len(set(seeds)) == 150


def test_learning_rate_by_hand() -> None:
    """Of 12 steps two rise to the peak of 1.0, the cosine is halfway after five more, and the last has the final share."""
    params = TrainParams(
        warmup_share=2 / 12, final_learning_rate_share=0.2, optimizer=OptimizerParams(learning_rate=1.0)
    )
    rates = [learning_rate(params, step, 12) for step in range(12)]

    assert rates[:2] == [0.5, 1.0]
    assert rates[6] == pytest.approx(0.6)
    assert rates[11] == pytest.approx(0.2)
    assert all(before > after for before, after in itertools.pairwise(rates[1:]))


@given(warmup=st.floats(0, 1), final=st.floats(0, 1), steps=st.integers(1, 50))
def test_learning_rate_never_leaves_its_bounds(warmup: float, final: float, steps: int) -> None:
    """Any shares give rates above 0 (or 0 at the very end) and up to the peak."""
    params = TrainParams(warmup_share=warmup, final_learning_rate_share=final)
    rates = [learning_rate(params, step, steps) for step in range(steps)]

    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)
    assert all(rate > 0 for rate in rates[:-1])


def test_sums_do_not_care_when_they_are_looked_at() -> None:
    """Means are over rows, not over batches, and labelled rows count for themselves."""
    sums = Sums()
    sums.add((1.0, 2.0, 3.0), num_rows=10, num_labelled=1)
    sums.add((4.0, 5.0, 6.0), num_rows=20, num_labelled=3)

    assert sums.means() == {"loss_total": 3.0, "loss_distillation": 4.0, "loss_hard": 5.25}


def test_patience_counts_from_the_first_best() -> None:
    """An equal validation loss is not a better one."""
    history = History([{"validation_loss": loss} for loss in (3.0, 1.0, 1.0, 1.0)])

    assert history.best_epoch == 2
    assert history.out_of_patience(2)
    assert not history.out_of_patience(3)
    assert not history.out_of_patience(None)


def test_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Tensors of any shape, type and layout, and floats of the state, are the same bits afterwards."""
    tensors = {
        "scalar": torch.tensor(7),
        "strided": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "half": torch.rand(3).bfloat16(),
    }
    state = {"values": [0.1, 1e-300, 1 / 3]}
    Checkpoints(tmp_path, identity="x").write(Checkpoint(5, tensors, state))
    found = Checkpoints(tmp_path, identity="x").latest()

    assert found is not None
    assert (found.step, found.state) == (5, state)
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    """Two are kept: the newest, and one in case it is damaged."""
    checkpoints = Checkpoints(tmp_path, identity="x")
    for step in (9, 10, 11):
        checkpoints.write(Checkpoint(step, {"a": torch.zeros(1)}, {}))

    assert len(list(tmp_path.iterdir())) == 2 * KEPT
    assert {path.stem for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-11"}


def test_learning_lowers_the_loss_on_hard_labels_or_that_of_the_teacher_where_there_are_none() -> None:
    def records(*losses: tuple[float, float]) -> list[dict[str, float]]:
        return [{"loss_distillation": distillation, "loss_hard": hard} for distillation, hard in losses]

    assert learnt(records((1.0, 2.0), (9.0, 1.9)))
    assert not learnt(records((9.0, 2.0), (1.0, 2.0)))
    assert learnt(records((9.0, 0.0), (8.0, 0.0)))
    assert not learnt(records((9.0, 0.0), (9.5, 0.0)))
