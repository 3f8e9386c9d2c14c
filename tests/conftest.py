"""What every test may count on: telemetry off, a world of its own, no leftovers of the user's settings."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from components.artifacts.store import Store
from components.settings import Settings, turn_telemetry_off

turn_telemetry_off()
# A machine that is busy for a moment has not broken anything.
hypothesis.settings.register_profile("potstill", deadline=None)
hypothesis.settings.load_profile("potstill")
VENDOR_SETTINGS = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "MLFLOW_RUN_ID")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POTSTILL_")]:
        monkeypatch.delenv(name)
    for name in VENDOR_SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems of a given size, such as "1m", which are gone after the test."""
    with ExitStack() as mounted:

        def mount(size: str) -> Path:
            folder = tmp_path / f"disk-{size}"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"only root may mount a small disk: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
            return folder

        yield mount


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose whole world is the test's own folder."""
    return Settings(var_dir=tmp_path / "var", num_threads=1, device="cpu")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An empty store in the test's own folder."""
    yield Store(settings)
