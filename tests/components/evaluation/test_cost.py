"""What a model costs: counts that are exact, latencies that are plausible."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from components.artifacts.artifact import Artifact
from components.evaluation import cost


class Counting(nn.Module):
    """A linear layer that counts its calls and refuses gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.calls: list[int] = []

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        self.calls.append(len(samples))
        return self.layer(samples.float())


def test_parameters_are_counted_without_buffers() -> None:
    """4 · 3 weights and 3 biases; the normalisation is no parameter."""
    assert cost.num_parameters(Counting()) == 15


def test_latency_of_each_batch_size() -> None:
    """p50 <= p95, throughput is batch over p50, and the warm-up comes on top of the repeats."""
    module = Counting().eval()
    found = cost.measure_latency(module, np.zeros((1, 4), np.uint8), [1, 8], 20)
    assert list(found) == ["1", "8"]
    for size, cell in found.items():
        assert 0 < cell["latency_p50_ms"] <= cell["latency_p95_ms"]
        assert np.isclose(cell["throughput_per_second"], int(size) / cell["latency_p50_ms"] * 1000)
    assert module.calls == [1] * (20 + cost.WARM_UP_CALLS) + [8] * (20 + cost.WARM_UP_CALLS)


def test_what_is_remembered_is_no_latency() -> None:
    """A model that has an answer ready is timed at finding it."""

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.afresh_calls = 0

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            raise AssertionError("asked for what is remembered")

        def remember(self, samples: torch.Tensor) -> None: ...

        def afresh(self, samples: torch.Tensor) -> torch.Tensor:
            self.afresh_calls += 1
            return samples

    module = Remembering()
    cost.measure_latency(module, np.zeros((1, 4), np.uint8), [1], 10)
    assert module.afresh_calls == 10 + cost.WARM_UP_CALLS


def test_weights_on_disk(tmp_path) -> None:
    """The file of weights counts, its description does not."""
    (tmp_path / "weights.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "model.json").write_text("{}")
    assert cost.weight_bytes(Artifact("student", "k", "d", tmp_path)) == 100


def test_the_first_calls_do_not_count() -> None:
    """A model that is slow until it is warm is as fast as it is then."""

    class Waking(nn.Module):
        calls = 0

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls <= cost.WARM_UP_CALLS:
                time.sleep(0.03)
            return samples

    times_ns = cost._call_times_ns(Waking(), np.zeros((1, 4), np.uint8), 1, 10)
    assert len(times_ns) == 10
    assert min(times_ns) < 30e6


def test_a_slow_model_is_called_fewer_times_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counts(nn.Module):
        calls = 0

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            time.sleep(0.002)
            return samples.float()

    monkeypatch.setattr(cost, "LONGEST_NS", 1_000_000)
    slow = Counts()
    cost.measure_latency(slow, np.zeros((1, 4), np.uint8), [1], 500)
    assert slow.calls == cost.WARM_UP_CALLS + cost.FEWEST_CALLS
