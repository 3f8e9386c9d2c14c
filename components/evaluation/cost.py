"""What a model costs to keep and to run: parameters, bytes, and latency on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.artifacts.artifact import Artifact
from components.contracts import Remembers
from components.evaluation.predict import device_of

WARM_UP_CALLS = 10
"""The first calls allocate and choose kernels; they say nothing about serving."""
FEWEST_CALLS = 10
LONGEST_NS = 10_000_000_000
MODEL_FILES = ("weights.safetensors", "model.pt2")


def num_parameters(module: nn.Module) -> int:
    """Trainable or not; buffers (running statistics, the normalisation of the data) are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def weight_bytes(model: Artifact) -> int:
    """Bytes of the weights as they lie on disk; of an ensemble those of all its members."""
    return sum(path.stat().st_size for name in MODEL_FILES for path in model.root.rglob(name))


def measure_latency(
    module: nn.Module, sample: NDArray[Any], batches: Sequence[int], repeats: int
) -> dict[str, dict[str, float]]:
    """Milliseconds from samples to logits on the module's device, for each batch size; sample is [1, *S] as stored.

    {'64': {'latency_p50_ms', 'latency_p95_ms', 'throughput_per_second'}}: percentiles over *repeats* single
    calls after a warm-up, with nothing remembered of the sample; of a slow model fewer, as many as ten seconds hold
    and at least ten. The machine is shared with whatever else runs, so p50 is the steadier of the two.
    """
    return {str(size): _summary(_call_times_ns(module, sample, size, repeats), size) for size in batches}


def _call_times_ns(module: nn.Module, sample: NDArray[Any], size: int, repeats: int) -> list[int]:
    device = device_of(module)
    batch = torch.from_numpy(np.repeat(sample, size, axis=0)).to(device)
    answer = module.afresh if isinstance(module, Remembers) else module
    times = []
    with torch.inference_mode():
        began = perf_counter_ns()
        for call in range(WARM_UP_CALLS + repeats):
            if call >= WARM_UP_CALLS + FEWEST_CALLS and perf_counter_ns() - began > LONGEST_NS:
                break
            _wait_for(device)
            start = perf_counter_ns()
            answer(batch)
            _wait_for(device)
            times.append(perf_counter_ns() - start)
    return times[WARM_UP_CALLS:]


def _wait_for(device: torch.device) -> None:
    """Accelerators return before they are done; a clock must not."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _summary(times_ns: Sequence[int], size: int) -> dict[str, float]:
    p50, p95 = (float(value) / 1e6 for value in np.percentile(times_ns, [50, 95]))
    return {"latency_p50_ms": p50, "latency_p95_ms": p95, "throughput_per_second": size / (p50 / 1e3)}
