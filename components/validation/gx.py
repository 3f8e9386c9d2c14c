"""The one door to Great Expectations: plain expectations and tables in, a bounded report and HTML out."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.disk import explained
from components.contracts import Expectation
from components.errors import BadInputError
from components.validation.docs import publish
from components.validation.profile import plain
from components.validation.report import MAX_EXAMPLES, CheckFailure, ValidationReport, merge

if TYPE_CHECKING:
    import pandas as pd

COMMON_ARGUMENTS = {
    *("batch_id", "catch_exceptions", "description", "id", "meta"),
    *("notes", "rendered_content", "result_format", "severity", "windows"),
}
"""Of every expectation, and ours to set."""
UNREADABLE = ("partition_object", "condition_parser")
MAX_TEXT = 160
_one_at_a_time = threading.Lock()
"""Great Expectations keeps its current context in a global."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """One table, what is expected of it, and the column that names its rows to people."""

    name: str
    table: pd.DataFrame
    expectations: Sequence[Expectation]
    row_name: str = "source"


def validate_table(
    table: pd.DataFrame, expectations: Sequence[Expectation], *, docs_dir: Path | None, suite_name: str
) -> ValidationReport:
    """Check one *table*; see `validate_tables`."""
    return validate_tables([Inspection(suite_name, table, expectations)], docs_dir=docs_dir)


def validate_tables(inspections: Sequence[Inspection], *, docs_dir: Path | None) -> ValidationReport:
    """Check every table and write the Data Docs to *docs_dir*, with index.html to begin at.

    Raises BadInputError for an expectation that Great Expectations does not know, and for a
    suite without expectations, which would pass whatever the data.
    """
    for inspection in inspections:
        if not inspection.expectations:
            raise BadInputError(f"the suite {inspection.name!r} holds no expectation: it would pass whatever the data")
        require_valid(inspection.expectations, place=inspection.name)
    with _great_expectations(), tempfile.TemporaryDirectory() as folder:
        with explained(Path(tempfile.gettempdir())):
            context = _context(Path(folder))
            reports = [_inspect(context, inspection, with_docs=docs_dir is not None) for inspection in inspections]
        report = merge(reports)
        if docs_dir:
            publish(Path(folder) / "gx" / "uncommitted" / "data_docs" / "local_site", docs_dir, report)
    return report


def require_valid(expectations: Sequence[Expectation], *, place: str) -> None:
    """Raise BadInputError that names, as place[i], every expectation of unknown type or with wrong arguments."""
    with _great_expectations():
        problems = [f"{place}[{i}].{problem}" for i, each in enumerate(expectations) for problem in _problems(each)]
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise BadInputError(f"{place} has {count}:\n" + "\n".join(f"  {problem}" for problem in problems))


@contextmanager
def _great_expectations() -> Iterator[None]:
    """Hold the door: one caller at a time, nothing sent, printed, logged or left on the import path."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logger, path = logging.getLogger("great_expectations"), list(sys.path)
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level, disabled = logger.level, logger.disabled
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.disabled = disabled
            sys.path[:] = path


def _context(folder: Path) -> Any:
    """A file context even where no docs are wanted: an ephemeral one leaves folders behind."""
    import great_expectations as gx

    context: Any = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.data_docs_sites["local_site"]["show_how_to_buttons"] = False
    context.variables.progress_bars = {"globally": False}
    return context


def _inspect(context: Any, inspection: Inspection, *, with_docs: bool) -> ValidationReport:
    table = plain(inspection.table)
    results = _run_checkpoint(context, inspection, table, with_docs=with_docs)
    failures = [
        _failure(inspection, table, inspection.expectations[result.expectation_config.meta["order"]], result)
        for result in sorted(results, key=lambda result: result.expectation_config.meta["order"])
        if not result.success
    ]
    return ValidationReport(num_rows=len(table), num_checks=len(results), failures=tuple(failures))


def _run_checkpoint(context: Any, inspection: Inspection, table: pd.DataFrame, *, with_docs: bool) -> Sequence[Any]:
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    name = inspection.name
    asset = context.data_sources.add_pandas(name).add_dataframe_asset("table")
    suite = context.suites.add(
        gx.ExpectationSuite(
            name=name, expectations=[_build(each, order=order) for order, each in enumerate(inspection.expectations)]
        )
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=asset.add_batch_definition_whole_dataframe("whole"), suite=suite)
    )
    names = {"unexpected_index_column_names": [inspection.row_name]} if inspection.row_name in table.columns else {}
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name="docs")] if with_docs else [],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": 20, **names},
        )
    )
    (validation,) = checkpoint.run(batch_parameters={"dataframe": table}).run_results.values()
    return list(validation.results)


def _implementation(kind: str) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    return get_expectation_impl(kind)


def _build(expectation: Expectation, *, order: int) -> Any:
    return _implementation(expectation.type)(**expectation.kwargs, severity=expectation.severity, meta={"order": order})


def _problems(expectation: Expectation) -> Iterator[str]:
    """What is wrong with one expectation, as 'type: ...' or 'kwargs.<name>: ...'."""
    from great_expectations.expectations.registry import list_registered_expectation_implementations
    from pydantic.v1 import ValidationError

    known = list_registered_expectation_implementations()
    if expectation.type not in known:
        yield f"type: Great Expectations has no {expectation.type!r}{_did_you_mean(expectation.type, known)}"
        return
    arguments = sorted(set(_implementation(expectation.type).__fields__) - COMMON_ARGUMENTS)
    reserved = sorted(COMMON_ARGUMENTS & set(expectation.kwargs))
    yield from (f"kwargs.{name}: is not an argument of the expectation itself" for name in reserved)
    if reserved:
        return
    try:
        _build(expectation, order=0)
    except ValidationError as error:
        yield from _argument_problems(error.errors(), expectation, arguments)
    except (TypeError, ValueError) as error:
        yield f"kwargs: {error}"


def _argument_problems(errors: Sequence[Any], expectation: Expectation, arguments: Sequence[str]) -> Iterator[str]:
    # An argument that may have several types fails once for each of them: its first message says enough.
    first: dict[str, Any] = {}
    for error in errors:
        first.setdefault(str(error["loc"][0]), error)
    for name, error in first.items():
        place = "kwargs" if name == "__root__" else f"kwargs.{name}"
        if error["type"] == "value_error.extra":
            yield f"{place}: {expectation.type} has no such argument{_did_you_mean(name, arguments)}"
        elif error["type"] == "value_error.missing":
            yield f"{place}: is required"
        else:
            value = f" (is {expectation.kwargs[name]!r})" if name in expectation.kwargs else ""
            yield f"{place}: {error['msg']}{value}"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it has: {', '.join(known)}" if len(known) < 20 else ""


def _failure(inspection: Inspection, table: pd.DataFrame, expectation: Expectation, result: Any) -> CheckFailure:
    kwargs = expectation.kwargs
    found = result.result or {}
    copies = _copies(expectation, inspection, table)
    return CheckFailure(
        table=inspection.name,
        expectation=expectation.type,
        column=" and ".join(_columns(kwargs)),
        severity=expectation.severity,
        expected=_short(", ".join(_expected(kwargs))),
        observed=_short(_not_evaluated(result, kwargs, table) or _observed(found, kwargs)),
        failing_count=int(found.get("unexpected_count") or 0) if "element_count" in found else len(copies),
        examples=tuple(_examples(found, inspection.row_name, kwargs) or copies[:MAX_EXAMPLES]),
    )


def _columns(kwargs: Mapping[str, Any]) -> list[str]:
    return [str(kwargs[name]) for name in ("column", "column_A", "column_B") if name in kwargs]


def _expected(kwargs: Mapping[str, Any]) -> Iterator[str]:
    for name, value in kwargs.items():
        if name == "row_condition":
            yield f"where {value}"
        elif "column" not in name and name not in UNREADABLE:
            yield f"{name} {_value(value)}"


def _not_evaluated(result: Any, kwargs: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Why the expectation could not be evaluated, if so: a missing column, values of another type."""
    info = result.exception_info or {}
    each = [info] if "raised_exception" in info else [value for value in info.values() if isinstance(value, Mapping)]
    messages = [str(one.get("exception_message")) for one in each if one.get("raised_exception")]
    absent = [name for name in _columns(kwargs) if name not in table.columns]
    if messages and absent:
        return f"no such column{_did_you_mean(absent[0], list(map(str, table.columns)))}"
    return f"nothing: it could not be evaluated ({messages[0].removeprefix('Error: ')})" if messages else ""


def _observed(found: Mapping[str, Any], kwargs: Mapping[str, Any]) -> str:
    if "column_list" in kwargs or "column_set" in kwargs:
        return _other_columns(kwargs.get("column_list") or kwargs.get("column_set") or (), found["observed_value"])
    if found.get("element_count") == 1:
        return _value(found["partial_unexpected_list"][0])
    if "element_count" in found:
        return f"{found.get('unexpected_count')} of {found['element_count']} rows failing"
    sets = {"missing": found.get("partial_missing_list"), "unexpected": found.get("partial_unexpected_list")}
    if any(sets.values()):
        return "; ".join(f"{kind} {_value(values)}" for kind, values in sets.items() if values)
    return "no finite value" if (value := found.get("observed_value")) is None else _value(value)


def _other_columns(expected: Sequence[str], found: Sequence[str]) -> str:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    named = [f"{kind} {_value(names)}" for kind, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return "; ".join(named) or "the same columns in another order"


def _examples(found: Mapping[str, Any], row_name: str, kwargs: Mapping[str, Any]) -> list[str]:
    rows = found.get("partial_unexpected_index_list") or []
    return [_example(row, row_name, kwargs) for row in rows[:MAX_EXAMPLES] if isinstance(row, Mapping)]


def _example(row: Mapping[str, Any], row_name: str, kwargs: Mapping[str, Any]) -> str:
    values = [_value(value) for name, value in row.items() if name != row_name or kwargs.get("column") == row_name]
    return f"{_value(row[row_name])} ({', '.join(values)})" if values else _value(row[row_name])


def _copies(expectation: Expectation, inspection: Inspection, table: pd.DataFrame) -> list[str]:
    """Rows that repeat an earlier one, where that is what was asked: the aggregate itself names none."""
    column = expectation.kwargs.get("column")
    if "proportion_of_unique" not in expectation.type or not {column, inspection.row_name} <= set(table.columns):
        return []
    return [_value(name) for name in table.loc[table[column].duplicated(), inspection.row_name]]


def _value(value: Any) -> str:
    """A value as a person would write it, the same on every run."""
    if value is None or value != value:  # noqa: PLR0124 (NaN is the one value that is not itself)
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value[:10])) + (f", and {len(value) - 10} more]" if len(value) > 10 else "]")
    return _short(str(value))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
