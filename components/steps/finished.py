"""Parts of a step's result that a kill does not undo."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def once(work: Path, make: Callable[[Path, Path], None]) -> Path:
    """The folder that *make* has filled below *work*, now or in an attempt that was killed later.

    *make* gets the folder and one for its checkpoints, which is removed at the end.
    """
    done, unfinished, checkpoints = work / "finished", work / "unfinished", work / "checkpoints"
    if not done.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished, checkpoints)
        _sync(unfinished)
        unfinished.rename(done)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return done


def _sync(folder: Path) -> None:
    """After a power cut a folder that is finished must be whole."""
    for path in (*(found for found in folder.rglob("*")), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
