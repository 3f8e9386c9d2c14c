"""Where things are: endpoints, directories and worker counts, from the environment only.

Settings never enter a key, a log or a run; what changes a number belongs in params.yaml.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def outermost_repository(start: Path) -> Path:
    """The outermost git repository around *start*, so that an experiment's copy finds the one store."""
    around = [folder for folder in (start, *start.parents) if (folder / ".git").exists()]
    return around[-1] if around else start


def find_local(path: str | Path) -> Path | None:
    """An existing *path*: from the working directory, else from the outermost repository around it.

    The second is what makes `dvc exp run --temp`, which works in a copy, find what git does not track.
    """
    given = Path(path).expanduser()
    starts = (Path.cwd(), outermost_repository(Path.cwd()))
    return next((start / given for start in starts if (start / given).exists()), None)


class Settings(BaseSettings):
    """POTSTILL_... variables, and the vendors' own names where they have one."""

    model_config = SettingsConfigDict(env_prefix="POTSTILL_", frozen=True, extra="ignore", populate_by_name=True)

    var_dir: Path = Field(
        default_factory=lambda: outermost_repository(Path.cwd()) / "var",
        description="everything Potstill writes when nothing else is set",
    )
    store: str = Field("", description="URL or directory of the artifact store; empty: <var_dir>/store")
    tracking_uri: str = Field(
        "",
        validation_alias=AliasChoices("POTSTILL_TRACKING_URI", "MLFLOW_TRACKING_URI"),
        description="MLflow; empty: the local server of `potstill up`",
    )
    prefect_api_url: str = Field(
        "",
        validation_alias=AliasChoices("POTSTILL_PREFECT_API_URL", "PREFECT_API_URL"),
        description="Prefect; empty: the local server of `potstill up`",
    )
    journal_url: str = Field(
        "", description="the promotion journal, sqlite:///... or postgresql://...; empty: <var_dir>/journal.db"
    )
    notify_url: SecretStr = Field(
        SecretStr(""),
        description='incoming webhook that takes {"text": ...}; `potstill deploy` has Prefect send its messages there',
    )
    prefect_port: int = Field(
        4200, ge=1, le=65535, description="port of the local Prefect server (the next free one from here)"
    )
    mlflow_port: int = Field(
        5000, ge=1, le=65535, description="port of the local MLflow server (the next free one from here)"
    )
    num_threads: int = Field(0, ge=0, description="threads of torch; 0: one a physical core")
    device: str = Field("auto", description="torch device; auto: cuda, then mps, then cpu")
    strict_fingerprint: bool = Field(False, description="refuse results that other hardware or library builds made")
    lock_wait_seconds: float = Field(
        3600, gt=0, description="how long to wait for another run that computes the same thing"
    )
    store_deadline_seconds: float = Field(
        300, gt=0, description="how long one request to a remote store may go on failing, attempts and pauses included"
    )
    study_url: str = Field(
        "", description="database of the sweeps' Optuna studies; empty: SQLite below <var_dir>/sweeps"
    )
    view_bank_bytes: int = Field(
        512 * 2**20,
        ge=0,
        description="views are kept ready in memory up to this size, and replayed on the fly above it",
    )

    generation_processes: int = Field(
        1, ge=1, description="processes that ask the teacher for soft targets, each with num_threads threads"
    )

    @property
    def store_url(self) -> str:
        return self.store or str(self.var_dir / "store")

    @property
    def promotion_journal(self) -> str:
        """URL of the promotion journal."""
        return self.journal_url or f"sqlite:///{self.var_dir.absolute() / 'journal.db'}"

    @property
    def data_cache(self) -> Path:
        return self.var_dir / "cache" / "data"

    @property
    def store_cache(self) -> Path:
        """Local copies of what lies in a remote store."""
        return self.var_dir / "cache" / "store"


def turn_telemetry_off() -> None:
    """Set the vendors' own switches, before any of them is imported, unless the user has."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
