"""Listening to a model at its tap points while it answers."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from components.contracts import ModelTaps, Signals
from components.errors import BadInputError

Precision = Literal["fp32", "bf16"]


class Tapped:
    """A model and the submodules that it is listened to at; without taps it costs nothing over the model alone."""

    def __init__(self, model: nn.Module, taps: Sequence[str], *, precision: Precision) -> None:
        """BadInputError for a tap that the model does not have."""
        self.model, self.precision = model, precision
        self.heard: dict[str, Tensor] = {}
        self.hooks = [submodule(model, tap).register_forward_hook(partial(self._hear, tap)) for tap in taps]

    def _hear(self, tap: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.heard[tap] = output

    def __call__(self, samples: Tensor) -> Signals:
        """[B, *S] as stored -> logits [B, C] and features [B, ...], float32 whatever the precision of the forward pass."""
        with autocast(samples.device, self.precision):
            logits: Tensor = self.model(samples)
        features = {tap: heard.float() for tap, heard in self.heard.items()}
        self.heard.clear()
        return Signals(logits.float(), features)

    def detach(self) -> None:
        """Listen no longer."""
        for hook in self.hooks:
            hook.remove()
        self.heard.clear()


class FeatureTeacher:
    """A teacher that answers beside the student, for what is too large to be stored."""

    def __init__(self, model: nn.Module, taps: Sequence[str], *, precision: Precision) -> None:
        self.tapped = Tapped(model.eval(), taps, precision=precision)

    def features(self, samples: Tensor) -> Mapping[str, Tensor]:
        """[B, *S], the very views that the student sees -> features by tap point, outside any graph."""
        with torch.no_grad():
            return self.tapped(samples).features


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def taps_of(model: nn.Module, samples: Tensor) -> ModelTaps:
    """Every tap point of *model* with the shape of what is heard there, from one pass over a few samples [B, *S].

    What says something else than one tensor, as many blocks of transformers do, is none.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    with _listening(model, shapes), torch.no_grad():
        model(samples)
    points = {name: path for name, path in tap_points(model).items() if path in shapes}
    return ModelTaps(tuple(points), shapes | {name: shapes[path] for name, path in points.items()})


def tap_points(model: nn.Module) -> Mapping[str, str]:
    """Name -> submodule of those that the model names itself; none for one that names none."""
    return getattr(model, "tap_points", {})


def submodule(model: nn.Module, tap: str) -> nn.Module:
    """The submodule behind a tap point or a submodule's own name; BadInputError says what there is."""
    path = tap_points(model).get(tap, tap)
    modules = dict(model.named_modules())
    if path and path in modules:
        return modules[path]
    close = difflib.get_close_matches(tap, (*tap_points(model), *filter(None, modules)), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(tap_points(model)) or "none of its own"
    raise BadInputError(
        f"{type(model).__name__} has no tap point {tap!r} (it has: {known}; the name of any submodule is one too){hint}"
    )


@contextmanager
def _listening(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """In eval mode, with the shape of every submodule's output written to *shapes*."""

    def hear(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape[1:])

    was_training = model.training
    hooks = [module.register_forward_hook(partial(hear, name)) for name, module in model.eval().named_modules() if name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
