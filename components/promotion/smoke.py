"""A registered model is loaded by a process that knows nothing of this project before it may serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from components.errors import ExportError
from components.programs import TOLERANCE
from components.registry import RegisteredVersion

CHILD = Path(__file__).with_name("_smoke_child.py")
LIMIT_SECONDS = 300


def smoke_test(version: RegisteredVersion, tracking_uri: str) -> None:
    """ExportError unless a fresh process that knows mlflow and torch alone gets the outputs that were stored with it."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_REGISTRY_URI": tracking_uri}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-I", str(CHILD), version.uri, scratch]
        try:
            # In a session of its own: a Ctrl-C is for the run, which stops at its next safe point.
            done = subprocess.run(
                command,
                start_new_session=True,
                env=environment,
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"{version.uri} did not answer a fresh process within {LIMIT_SECONDS} s") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise ExportError(
            f"{version.uri} cannot be served, since a fresh process could not load it and predict: {reason}"
        )
    difference = float(json.loads(done.stdout.strip().splitlines()[-1])["difference"])
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{version.uri} no longer predicts what it predicted when it was registered: outputs differ by "
            f"{difference:.3g}, and {TOLERANCE:g} is allowed"
        )
