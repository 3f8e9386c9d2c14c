"""What a step costs: seconds, processor seconds and peak memory, sampled from the side."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

PERIOD_SECONDS = 1.0


class Meter:
    """A context manager that samples this process about once a second."""

    def __init__(self) -> None:
        self.samples: list[Mapping[str, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, daemon=True)

    def __enter__(self) -> Self:
        self._started, self._cpu_started = time.monotonic(), time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._seconds = time.monotonic() - self._started
        self._cpu_seconds = time.process_time() - self._cpu_started

    def cost(self) -> Mapping[str, float]:
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"seconds": self._seconds, "cpu_seconds": self._cpu_seconds, "peak_memory_bytes": peak_kib * 1024}

    def _sample_until_done(self) -> None:
        import psutil

        process = psutil.Process()
        process.cpu_percent()
        while not self._done.wait(PERIOD_SECONDS):
            self.samples.append(
                {
                    "seconds": round(time.monotonic() - self._started, 3),
                    "cpu_percent": process.cpu_percent(),
                    "memory_bytes": process.memory_info().rss,
                }
            )
