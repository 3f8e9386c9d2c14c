"""What the reader of a study sets: other tests run without it."""

import os

import pytest

ASKED = {name: os.environ.get(name) for name in ("POTSTILL_INDEX_FILES", "POTSTILL_NUM_THREADS")}


@pytest.fixture(autouse=True)
def _as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """INDEX_FILES: a folder of index files, named as the recipes are. NUM_THREADS: 1 where two studies run at once."""
    for name, value in ASKED.items():
        if value:
            monkeypatch.setenv(name, value)
