"""Real DVC registries, built once and copied for each test that damages one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{key}": "x@example.invalid" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
    "DVC_NO_ANALYTICS": "1",
}


@dataclass(frozen=True)
class Registry:
    """A git repository with DVC and a remote inside it."""

    root: Path

    def run(self, *command: str) -> str:
        result = subprocess.run(
            command, cwd=self.root, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def commit(self, message: str, tag: str | None = None) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        if tag:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD")

    def state(self) -> tuple[str, str]:
        return self.git("status", "--porcelain"), self.dvc("status")

    def stored(self, where: str, md5: str) -> Path:
        """The file of *md5* in 'cache' or in 'remote'."""
        base = {"cache": self.root / ".dvc" / "cache", "remote": self.root / "remote"}[where]
        return base / "files" / "md5" / md5[:2] / md5[2:]

    def damage(self, where: str, md5: str) -> None:
        path = self.stored(where, md5)
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
        path.chmod(0o444)


def picture(seed: int, *, size: tuple[int, int] = (8, 8), channels: int = 1) -> NDArray[np.uint8]:
    """[height, width] or [height, width, 3], the same for the same seed."""
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def save_picture(path: Path, seed: int, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, **how)).save(path)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def save() -> Callable[..., None]:
    """Writes the picture of a seed to a path."""
    return save_picture


@pytest.fixture(autouse=True)
def _dvc_keeps_nothing_between_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc-site"))


@pytest.fixture(scope="session")
def _built_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    root = tmp_path_factory.mktemp("registry") / "registry"
    root.mkdir()
    registry = Registry(root)
    registry.git("init", "--quiet", "--initial-branch=main", "--template=", ".")
    registry.dvc("init", "--quiet")
    (root / ".dvc" / "config").write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = ../remote\n")
    (root / ".gitignore").write_text("/pictures\n/lone.txt\n/remote\n")
    (root / "notes.md").write_text("in git\n")
    (root / "lone.txt").write_text("one\n")
    for number in range(4):
        save_picture(root / "pictures" / f"{number % 2}" / f"{number}.png", number)
    registry.dvc("add", "--quiet", "pictures", "lone.txt")
    registry.dvc(
        "push", "--quiet"
    )  # not all commits at the end: DVC takes a relative remote of an old commit for /remote
    registry.commit("one", "v1")
    save_picture(root / "pictures" / "1" / "4.png", 4)
    registry.dvc("add", "--quiet", "pictures")
    registry.commit("two", "v2")
    registry.dvc("push", "--quiet")
    return registry


@pytest.fixture
def registry(_built_registry: Registry, tmp_path: Path) -> Registry:
    """pictures/ (tag v1: 4 files, v2: 5) and lone.txt under DVC, notes.md in git."""
    shutil.copytree(_built_registry.root, tmp_path / "registry", symlinks=True)
    return Registry(tmp_path / "registry")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty data cache."""
    return tmp_path / "cache"
