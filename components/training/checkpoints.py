"""Checkpoints that a kill at any moment leaves either whole or ignored: safetensors beside JSON that holds its hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from components.errors import StoreError

KEPT = 2
"""The newest, and the one before in case the newest is damaged."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training after some of its steps."""

    step: int
    """Steps done."""
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """JSON-able."""


class Checkpoints:
    """Those of one training in the directory *folder*; *identity* tells them from those of another."""

    def __init__(self, folder: Path, *, identity: str) -> None:
        self.folder = folder
        self.identity = identity

    def write(self, taken: Checkpoint) -> None:
        """Make *taken* durable; StoreError where the disk does not take it."""
        payload = safetensors.torch.save({name: _plain(tensor) for name, tensor in taken.tensors.items()})
        body = {
            "identity": self.identity,
            "step": taken.step,
            "state": taken.state,
            "tensors_sha256": hashlib.sha256(payload).hexdigest(),
        }
        try:
            self._publish(taken.step, payload, _sealed(body))
        except OSError as error:
            raise StoreError(
                f"the checkpoint of step {taken.step} cannot be written in {self.folder}: {error.strerror or error}; "
                "make space or correct the permissions, and the same command goes on from the checkpoint before"
            ) from error

    def _publish(self, step: int, payload: bytes, sealed: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self._tensors(step), payload)
        # The JSON comes last: its presence means that the tensors are there.
        _replace(self._state(step), sealed)
        for old in self._steps()[KEPT:]:
            self._forget(old)

    def latest(self) -> Checkpoint | None:
        """The newest whole one of this training, if there is any; what cannot be used is removed."""
        for step in self._steps():
            found = self._read(step)
            if found:
                return found
            self._forget(step)
        return None

    def _read(self, step: int) -> Checkpoint | None:
        try:
            body = _unsealed(self._state(step).read_bytes())
            if body["identity"] != self.identity:
                return None
            payload = self._tensors(step).read_bytes()
            if hashlib.sha256(payload).hexdigest() != body["tensors_sha256"]:
                return None
            return Checkpoint(step, safetensors.torch.load(payload), body["state"])
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
            return None

    def _steps(self) -> list[int]:
        """Newest first."""
        names = (path.stem.removeprefix("checkpoint-") for path in self.folder.glob("checkpoint-*.json"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _forget(self, step: int) -> None:
        self._state(step).unlink(missing_ok=True)
        self._tensors(step).unlink(missing_ok=True)

    def _tensors(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}.safetensors"

    def _state(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}.json"


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().clone()


def _sealed(body: Mapping[str, Any]) -> bytes:
    """JSON with its own hash; floats keep every bit, since Python writes the shortest text that reads back equal."""
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    return json.dumps({"body": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def _unsealed(content: bytes) -> Any:
    sealed = json.loads(content)
    if hashlib.sha256(sealed["body"].encode()).hexdigest() != sealed["sha256"]:
        raise ValueError("the state is not the one that was written")
    return json.loads(sealed["body"])


def _replace(path: Path, content: bytes) -> None:
    """Write *path* so that after a crash it holds its old content or all of the new."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of *tensors* whose name begins with *prefix* and a dot, under the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
