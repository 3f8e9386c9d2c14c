"""Far more rows than anybody holds in memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak
NUM_ROWS, NUM_CLASSES, GIB = 10_000_000, 100, 2**30
NEEDED_BYTES = 3 * 2 * NUM_ROWS * NUM_CLASSES
"""Chunks, the assembled file, and air."""


@pytest.mark.timeout(1800)
def test_ten_million_rows_in_a_gibibyte(tmp_path: Path) -> None:
    """10 M rows of 100 classes are written and read in shuffled order in at most 1 GiB besides the page cache."""
    free = shutil.disk_usage(tmp_path).free
    if free < NEEDED_BYTES:
        pytest.skip(f"needs {NEEDED_BYTES / GIB:.1f} GiB of disk, and {free / GIB:.1f} are free")
    command = [
        sys.executable,
        str(Path(__file__).parent / "many_rows.py"),
        str(tmp_path),
        str(NUM_ROWS),
        str(NUM_CLASSES),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for folder in ("out", "work"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    print(
        f"\n{NUM_ROWS:,} rows x {NUM_CLASSES} classes, {found['bytes_stored'] / 1e9:.2f} GB: written in "
        f"{found['seconds_writing']:.0f} s with {found['peak_anonymous_bytes_writing'] / GIB:.2f} GiB, read shuffled in "
        f"{found['seconds_reading']:.1f} s with {found['peak_anonymous_bytes_reading'] / GIB:.2f} GiB "
        f"({found['anonymous_bytes_at_start'] / GIB:.2f} GiB before either: interpreter, torch, pictures and their ids)"
    )
    assert found["rows_read"] == NUM_ROWS
    assert found["peak_anonymous_bytes_writing"] <= GIB
    assert found["peak_anonymous_bytes_reading"] <= GIB
