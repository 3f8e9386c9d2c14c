"""On what a result was computed: bits may differ between two fingerprints, so it stands in the manifest, not in the key."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from components.settings import Settings

INSTRUCTION_SETS = ("amx_tile", "avx512f", "avx2", "avx", "asimd", "neon")


def fingerprint(settings: Settings) -> Mapping[str, str | int]:
    """Device, instruction set, threads and library builds, found without importing torch."""
    return {
        "device": device_name(settings),
        "machine": platform.machine(),
        "instructions": _instruction_set(),
        "threads": num_threads(settings),
        "torch": importlib.metadata.version("torch"),
        "numpy": importlib.metadata.version("numpy"),
    }


def num_threads(settings: Settings) -> int:
    """Threads of torch: as set, or one a physical core."""
    import psutil

    return settings.num_threads or psutil.cpu_count(logical=False) or 1


def device_name(settings: Settings) -> str:
    """The torch device: as set, or the best that this machine seems to have."""
    if settings.device != "auto":
        return settings.device
    if Path("/dev/nvidia0").exists() and "cpu" not in importlib.metadata.version("torch"):
        return "cuda"
    return "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"


@cache
def _instruction_set() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "unknown"
    return next((name for name in INSTRUCTION_SETS if name in flags), "baseline")
