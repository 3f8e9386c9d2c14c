"""torch.export programs as files: any batch size, the same bytes for the same weights, nothing pickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import Tokenized
from components.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

EXAMPLE_ROWS = 2
"""A batch of one would be taken for a constant."""
TOKENIZER = "tokenizer.json"
"""Beside a program that takes tokens, what makes them of texts."""
TOLERANCE = 1e-5
"""Largest difference of an output between a live model and its export; beyond 1, as a share of the output."""


def program_of(module: nn.Module, samples: Tensor) -> tuple[nn.Module, Tensor]:
    """The part of *module* that can be exported, and what that part takes of uint8 *samples* [B, *S]."""
    return (module.core, module.tokens(samples)) if isinstance(module, Tokenized) else (module, samples)


def trace(module: nn.Module, sample_shape: tuple[int, ...], sample_dtype: str = "uint8") -> ExportedProgram:
    """Export *module*, which takes [B, *S] of that type, for every B; raises ExportError where it cannot be.

    Of a `Tokenized` one, the part that takes tokens int64 [B, T].
    """
    import torch

    samples = torch.zeros(EXAMPLE_ROWS, *sample_shape, dtype=getattr(torch, sample_dtype))
    exported, example = program_of(module.eval(), samples)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(exported.eval(), (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # the exporter raises dozens of types, and all mean the same to the user
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{type(module).__name__} cannot be exported for every batch size: {reason}") from error
    forget_traces(program)
    return program


def forget_traces(program: ExportedProgram) -> None:
    """Drop the source lines and paths of the machine that traced it: they would change the bytes and nothing else."""
    from torch.fx import GraphModule

    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write *program*; the name of *path* is in the archive, so equal bytes need an equal name.

    Without its example inputs no record of the archive is a pickle.
    """
    import torch

    program.example_inputs = None
    torch.export.save(program, path)


def load_whole(path: Path) -> nn.Module:
    """A saved program with its tokenizer, if there is one beside it: uint8 [B, *S] -> float32 [B, C].

    Raises ExportError on anything else.
    """
    return with_tokenizer(load_program(path), path.with_name(TOKENIZER))


def with_tokenizer(program: nn.Module, tokenizer: Path) -> nn.Module:
    """*program* behind the tokenizer in that file; the program itself where there is no such file."""
    if not tokenizer.is_file():
        return program
    from components.models._tokens import TokenizedProgram

    return TokenizedProgram(program, tokenizer.read_text(encoding="utf-8"))


def load_program(path: Path) -> nn.Module:
    """The module of a saved program, which takes what it was exported with; raises ExportError on anything else."""
    import torch

    try:
        return torch.export.load(path).module()
    except Exception as error:  # whatever a damaged archive provokes
        raise ExportError(f"{path} is not a torch.export archive that this torch can read: {error}") from error


def largest_difference(live: nn.Module, other: nn.Module, samples: NDArray[Any], batches: tuple[int, ...]) -> float:
    """Largest difference of any output between two modules over batches of these sizes of *samples* [N, *S].

    Of outputs larger than 1, as a share of their size.

    Not finite when either of them says something that is not, or rows of another shape.
    """
    return max(_difference(live, other, _batch(samples, size)) for size in batches)


def _batch(samples: NDArray[Any], size: int) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(samples[np.arange(size) % len(samples)]))


def _difference(live: nn.Module, other: nn.Module, batch: Tensor) -> float:
    import torch

    with torch.no_grad():
        expected, found = live(batch), other(batch)
    if expected.shape != found.shape:
        return float("inf")
    # NaN minus NaN stays NaN and would win no comparison: say infinity instead.
    difference = (expected.double() - found.double()).abs() / expected.double().abs().clamp(min=1.0)
    return float(difference.max().nan_to_num(nan=float("inf")))


def demand_parity(difference: float, what: str) -> None:
    """Raise ExportError when *difference* is beyond TOLERANCE."""
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{what} differs from the live model by up to {difference:.3g} in an output (allowed: {TOLERANCE:g}); "
            "look for randomness, training-mode layers or branches on the data in the model's forward"
        )
