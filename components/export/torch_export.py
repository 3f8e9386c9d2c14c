"""torch.export archive (.pt2): runs wherever torch does, without this project's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.contracts import PluginParams

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "student.pt2"


class Params(PluginParams):
    """Nothing to choose."""

    name: Literal["torch_export"] = "torch_export"


def export(module: nn.Module, sample_shape: tuple[int, ...], out: Path, *, sample_dtype: str = "uint8") -> Path:
    """Write *module* ([B, *S] of that type -> [B, C], any B) into the folder *out*; the same weights give the same bytes.

    Of a `Tokenized` one the program takes tokens, and tokenizer.json beside it says how texts become those.
    """
    from components.contracts import Tokenized
    from components.programs import TOKENIZER, save_program, trace

    path = out / FILE_NAME
    save_program(trace(module, sample_shape, sample_dtype), path)
    if isinstance(module, Tokenized):
        (out / TOKENIZER).write_text(module.tokenizer, encoding="utf-8")
    return path


def load(path: Path) -> nn.Module:
    """Read what export wrote, as a user of it would: uint8 [B, *S] -> [B, C]."""
    from components.programs import load_whole

    return load_whole(path)
