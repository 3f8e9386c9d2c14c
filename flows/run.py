"""What one run of a flow works with: parameters, settings, store, and what it has done so far."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact, sha256_of
from components.artifacts.store import Store
from components.contracts import NoProgress, Progress
from components.params import Params, load_params
from components.settings import Settings
from components.steps.execute import Outcome, execute
from components.steps.pipeline import load_step
from components.steps.step import Step
from components.validation.accepted import line_of, record_accepted

PROGRESS: ContextVar[Progress | None] = ContextVar("progress", default=None)
"""What the command line draws on; a scheduled run says nothing and leaves the talking to Prefect's log."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a flow."""

    params: Params
    params_file: Path
    settings: Settings
    store: Store
    progress: Progress
    name: str
    """Of the flow run or stage; results name it as their producer."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    """What the orchestrator knows of each task that was handed to it."""

    def artifacts(self) -> Mapping[str, Artifact]:
        return {name: outcome.artifact for name, outcome in self.outcomes.items()}

    def step(self, name: str) -> Outcome:
        """Find or compute one step's result from those before it."""
        step = load_step(name)
        outcome = self._execute(step)
        if outcome.cached:
            self.store.storage.touch(name, outcome.artifact.key)
            if not outcome.artifact.root.exists():  # collected before it was marked as used
                outcome = self._execute(step)
        self.outcomes[name] = outcome
        if name == "validate":
            record_accepted(self.store, line_of(self.params), self.outcomes["data"].artifact.digest, outcome.artifact)
        if not step.idle(self.params):
            self.progress.step_line(
                step.title,
                cached=outcome.cached,
                producer=outcome.producer,
                seconds=outcome.seconds,
                digest=outcome.artifact.digest,
            )
        return outcome

    def shown(self) -> Mapping[str, Outcome]:
        """What there is to tell of: outcomes of steps that had something to do."""
        return {name: outcome for name, outcome in self.outcomes.items() if not load_step(name).idle(self.params)}

    def _execute(self, step: Step) -> Outcome:
        return execute(
            step,
            params=self.params,
            settings=self.settings,
            store=self.store,
            inputs=self.artifacts(),
            producer=self.name,
            progress=self.progress,
        )


def open_run(params_file: Path, overrides: Sequence[str], *, name: str) -> Run:
    """Load and check everything that a run needs before its first step."""
    settings = Settings()
    return Run(
        params=load_params(params_file, overrides),
        params_file=params_file,
        settings=settings,
        store=Store(settings),
        progress=PROGRESS.get() or NoProgress(),
        name=name,
    )


def who() -> str:
    """The person or service that runs this."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def params_digest(params: Params) -> str:
    text = json.dumps(params.model_dump(mode="json", exclude={"sweep", "refresh"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def lock_digest() -> str:
    """Of constraints.txt, which pins every package; '' where there is none."""
    lock = Path(__file__).resolve().parents[1] / "constraints.txt"
    return sha256_of(lock) if lock.exists() else ""


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """Which code is running."""

    commit: str
    dirty: bool


def code_version() -> CodeVersion:
    """The commit of this checkout, and whether its files differ from it; 'unknown' outside git."""
    root = Path(__file__).resolve().parents[1]
    commit = _git(root, "rev-parse", "HEAD")
    return CodeVersion(
        commit=commit or "unknown", dirty=bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
