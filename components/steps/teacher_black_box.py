"""A teacher that only predicts, as an artifact: a table of what it said, or the name of the function to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.artifacts.artifact import write_json
from components.params import BlackBoxTeacher
from components.steps import fitting
from components.steps.step import StepContext

if TYPE_CHECKING:
    from torch import nn

    from components.data.packed import PackedData
    from components.models._black_box import Convert, Table


def make(ctx: StepContext, source: BlackBoxTeacher) -> None:
    """A table of what it said, or the name of the function to ask."""
    from components.black_boxes import conversion
    from components.data.packed import open_packed
    from components.models._black_box import Convert, Function
    from components.saved_models import save_description

    data = open_packed(ctx.inputs["data"])
    convert = conversion(source, data.spec)
    described = {"says": "log_probabilities", "exportable": False, "convert": convert}
    if source.function:
        module: nn.Module = Function(source.function, source.arguments, Convert(**convert))
        asked = {"function": source.function, "arguments": dict(source.arguments)}
        save_description(ctx.out, "black_box", **described, **asked)
    else:
        module = _table(ctx, source, data, Convert(**convert))
        rows, outputs = module.log_probabilities.shape
        save_description(ctx.out, "black_box", **described, table_rows=rows, num_classes=outputs)
    write_json(ctx.out / fitting.HISTORY, [])
    fitting.write_metrics(ctx, module.eval(), data)


def _table(ctx: StepContext, source: BlackBoxTeacher, data: PackedData, convert: Convert) -> Table:
    from components.black_boxes import read_answers
    from components.models._black_box import Table
    from components.saved_models import save_weights
    from components.teachers import black_box_file, refuse_change

    file = black_box_file(source)
    ids, answers = read_answers(file, source, ctx.inputs["data"], data)
    refuse_change(file, ctx.resolved.facts["file_sha256"])
    said = convert(answers)
    table = Table(*said.shape).fill(ids, said)
    save_weights(ctx.out, table)
    return table
