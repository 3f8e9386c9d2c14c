"""Logits in fixed batches: the bits of a row depend on nothing but the row."""

import numpy as np
import pytest
import torch
from torch import nn

from components.contracts import NoProgress
from components.errors import BadInputError, InterruptedRunError, RefusedError
from components.evaluation.predict import predict_logits


class Small(nn.Module):
    """A convolution and a linear layer on raw samples; remembers the shapes it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(samples.shape))
        return self.layers(samples.float() / 255)


SAMPLES = np.random.default_rng(0).integers(0, 256, (70, 1, 8, 8), dtype=np.uint8)


def test_a_rows_bits_do_not_depend_on_how_many_there_are() -> None:
    """70 rows, the first 33, and one alone give the same bits for the same row."""
    module = Small().eval()
    every = predict_logits(module, SAMPLES, np.arange(70), batch_size=32)
    assert np.array_equal(predict_logits(module, SAMPLES, np.arange(33), batch_size=32), every[:33])
    assert np.array_equal(predict_logits(module, SAMPLES, np.array([40]), batch_size=32)[0], every[40])


def test_every_batch_has_one_shape() -> None:
    """The last one is padded."""
    module = Small().eval()
    predict_logits(module, SAMPLES, np.arange(70), batch_size=32)
    assert module.seen == [(32, 1, 8, 8)] * 3


def test_rows_come_back_in_the_order_asked() -> None:
    """[N, C] float32, row i for rows[i]."""
    module = Small().eval()
    every = predict_logits(module, SAMPLES, np.arange(70))
    found = predict_logits(module, SAMPLES, np.array([9, 3, 9]))
    assert found.dtype == np.float32
    assert np.array_equal(found, every[[9, 3, 9]])


def test_memory_mapped_samples_are_read_only_and_fine(tmp_path) -> None:
    """The data artifact's arrays are mapped read-only; gathering copies only the rows of a batch."""
    np.save(tmp_path / "samples.npy", SAMPLES)
    mapped = np.load(tmp_path / "samples.npy", mmap_mode="r")
    module = Small().eval()
    expected = predict_logits(module, SAMPLES, np.arange(5))
    assert np.array_equal(predict_logits(module, mapped, np.arange(5)), expected)


def test_logits_that_are_not_finite_are_refused() -> None:
    """The message counts the samples and names some."""
    module = Small().eval()
    with torch.no_grad():
        module.layers[3].bias.fill_(float("nan"))
    with pytest.raises(RefusedError, match=r"7 of 7 samples \(rows 0, 1, 2, 3, 4 and 2 more\)"):
        predict_logits(module, SAMPLES, np.arange(7))


def test_no_rows_is_an_error() -> None:
    """An empty holdout is never measured as something."""
    with pytest.raises(BadInputError, match="no rows"):
        predict_logits(Small().eval(), SAMPLES, np.arange(0))


def test_a_stop_is_heard_between_batches() -> None:
    """progress.check is asked before each batch."""

    class Impatient(NoProgress):
        def check(self) -> None:
            raise InterruptedRunError("stop")

    with pytest.raises(InterruptedRunError):
        predict_logits(Small().eval(), SAMPLES, np.arange(5), progress=Impatient())
