"""Processes that share the work: spawned, spoken to in lines of JSON, and gone when the one that started them is.

Spawned and never forked, since a forked child would keep the store's lock alive. A worker ends when its standard
input does, which also happens when the process that started it is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from components import errors
from components.errors import PotstillError, WorkerError


class WorkerProcess:
    """One process that runs *module*; what it prints on its own account goes to *log*.

    *what* and *way_out* are for the message when it is gone: 'a process that ...', 'run again, with ...'.
    """

    def __init__(self, module: str, log: Path, *, what: str, way_out: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._what, self._way_out = log, what, way_out
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> IO[bytes]:
        """To wait on; `receive` reads it."""
        return _stream(self._process.stdout)

    def send(self, message: Mapping[str, Any]) -> None:
        """WorkerError if the process is gone."""
        stream = _stream(self._process.stdin)
        try:
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def receive(self) -> dict[str, Any]:
        """Its next line, once there is one; raises the error that the process reports, WorkerError if it is gone."""
        line = self.output.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _raised(answer)
        return answer

    def hang_up(self) -> None:
        """Say that no request will follow."""
        with suppress(OSError):
            _stream(self._process.stdin).close()

    def end(self, *, patience_seconds: float) -> None:
        """Wait for it to end by itself after `hang_up`, and kill it if it does not."""
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.output.close()

    def _gone(self) -> WorkerError:
        code = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return WorkerError(f"{self._what} {how}{': ' + lines[-1] if lines else ''}; {self._way_out}")


def answers() -> IO[str]:
    """A worker's standard output, for answers alone: whatever else is printed goes to the log."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def say(stream: IO[str], answer: Mapping[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


def told_as_error(error: PotstillError) -> dict[str, str]:
    """The answer that `WorkerProcess.receive` raises."""
    return {"error": type(error).__name__, "message": str(error)}


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _raised(answer: Mapping[str, str]) -> PotstillError:
    """The error of a process, as if it had been raised here."""
    kind = getattr(errors, answer["error"], WorkerError)
    error = kind(answer["message"])
    assert isinstance(error, PotstillError)
    return error
