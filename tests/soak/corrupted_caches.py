"""What the caches of Prefect and DVC, as they come, make of a damaged file; run as `corrupted_caches.py CACHE FOLDER COUNT`.

Prints one JSON list: for each corruption [its kind, "noticed" | "used" | "harmless"]. Noticed is an error or a result that
was computed again; used is other bytes than were stored, without a word; harmless is the right bytes all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.settings import turn_telemetry_off

PAGE_BYTES = 4096


def flip_a_byte(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :]


def truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def delete(content: bytes, draw: random.Random) -> None:
    """None: no file at all."""


def zero_a_page(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(0, len(content), PAGE_BYTES)
    return content[:start] + bytes(len(content[start : start + PAGE_BYTES])) + content[start + PAGE_BYTES :]


CORRUPTIONS = (flip_a_byte, truncate, delete, zero_a_page)


def corruptions(path: Path, count: int, *, mode: int) -> Iterator[str]:
    """*count* times the kind of a corruption, while *path* is as it was but for that corruption and *mode*."""
    content, draw = path.read_bytes(), random.Random(count)
    for number in range(count):
        corrupt = CORRUPTIONS[number % len(CORRUPTIONS)]
        changed = corrupt(content, draw)
        assert changed != content
        _put(path, changed, mode)
        yield corrupt.__name__
    _put(path, content, mode)


def _put(path: Path, content: bytes | None, mode: int) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)


def prefect_results(folder: Path, count: int) -> list[tuple[str, str]]:
    """A task whose result is persisted under a key of its own, asked for again and again by one flow."""
    os.environ |= {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_LOCAL_STORAGE_PATH": str(folder / "results"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    import numpy as np
    from prefect import flow, task

    calls: list[None] = []

    # A later run is another process, which has nothing of it in memory.
    @task(persist_result=True, cache_key_fn=lambda *_: "soft-targets", cache_result_in_memory=False)
    def soft_targets() -> Any:
        calls.append(None)
        return np.random.default_rng(0).normal(size=(1000, 10)).astype(np.float32)

    def outcome(expected: Any) -> str:
        before = len(calls)
        state = soft_targets(return_state=True)
        if not state.is_completed() or len(calls) > before:
            return "noticed"
        try:
            found = state.result()
        except Exception:
            return "noticed"
        return "harmless" if np.array_equal(found, expected) else "used"

    @flow
    def ask() -> list[tuple[str, str]]:
        expected = soft_targets()
        assert outcome(expected) == "harmless"
        record = folder / "results" / "soft-targets"
        return [(kind, outcome(expected)) for kind in corruptions(record, count, mode=0o644)]

    return ask()


def dvc_checkouts(folder: Path, count: int, *, mode: int) -> list[tuple[str, str]]:
    """`dvc checkout` from a cache, one file of which is damaged and has the given mode."""
    tracked, cached, _ = _repository(folder)
    assert _brought(["checkout"], tracked) == "harmless"
    return [(kind, _brought(["checkout"], tracked)) for kind in corruptions(cached, count, mode=mode)]


def dvc_pulls(folder: Path, count: int) -> list[tuple[str, str]]:
    """`dvc pull` with an empty cache from a remote folder, one file of which is damaged."""
    tracked, cached, stored = _repository(folder)
    found = []
    for kind in corruptions(stored, count, mode=0o644):
        cached.unlink(missing_ok=True)
        found.append((kind, _brought(["pull"], tracked)))
    assert _brought(["pull"], tracked) == "harmless"
    return found


CONTENT = random.Random(0).randbytes(100_000)


def _repository(folder: Path) -> tuple[Path, Path, Path]:
    """A tracked file, its copy in the cache, and that in the remote."""
    home = {
        name: str(folder / name) for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
    }
    os.environ |= home
    place = folder / "repository"
    place.mkdir()
    os.chdir(place)
    subprocess.run(["git", "init", "-q"], check=True)
    (place / "data.bin").write_bytes(CONTENT)
    for arguments in (["init"], ["add", "data.bin"], ["remote", "add", "-d", "away", str(folder / "away")], ["push"]):
        assert _dvc(arguments) == 0, arguments
    (cached,) = (place / ".dvc" / "cache" / "files").rglob("*/*/*")
    (stored,) = (folder / "away" / "files").rglob("*/*/*")
    return place / "data.bin", cached, stored


def _dvc(arguments: list[str]) -> int:
    """The exit status of the command, which runs in this process."""
    from dvc.cli import main

    with contextlib.redirect_stdout(sys.stderr):
        return main([*arguments, "-q"])


def _brought(command: list[str], tracked: Path) -> str:
    tracked.unlink(missing_ok=True)
    if _dvc(command) != 0 or not tracked.exists():
        return "noticed"
    return "harmless" if tracked.read_bytes() == CONTENT else "used"


CACHES: Mapping[str, Callable[[Path, int], list[tuple[str, str]]]] = {
    "prefect": prefect_results,
    "dvc-writable": lambda folder, count: dvc_checkouts(folder, count, mode=0o644),
    "dvc-protected": lambda folder, count: dvc_checkouts(folder, count, mode=0o444),
    "dvc-pull": dvc_pulls,
}


def main() -> None:
    turn_telemetry_off()
    name, folder, count = sys.argv[1:]
    found = CACHES[name](Path(folder), int(count))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
