"""Whether a model artifact can become a program, told without loading torch."""

from __future__ import annotations

from components.artifacts.artifact import Artifact

MODEL = "model.json"


def can_be_exported(artifact: Artifact) -> bool:
    """Whether the model is a program, or can become one that needs none of this code."""
    return bool(artifact.read_json(MODEL).get("exportable", True))
