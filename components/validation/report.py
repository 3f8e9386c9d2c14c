"""What validation found, bounded in size however large the data is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from components.artifacts.artifact import Artifact
from components.contracts import Severity
from components.errors import some_of

RESULT = "result.json"
MAX_CHECKS = 10
MAX_EXAMPLES = 5
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """One expectation that does not hold."""

    table: str
    """'samples', or one derived from it: 'classes', 'drift'."""
    expectation: str
    """Great Expectations type."""
    column: str
    """Empty where the expectation is about the whole table."""
    severity: Severity
    expected: str
    """The arguments, in one line."""
    observed: str
    failing_count: int
    """Rows; 0 where the expectation is about an aggregate."""
    examples: tuple[str, ...] = ()
    """At most MAX_EXAMPLES samples by name, with the value that is wrong."""

    @property
    def subject(self) -> str:
        """What it is about: a column, a column of a derived table, or the table."""
        parts = ("" if self.table == "samples" else self.table, self.column)
        return " ".join(part for part in parts if part) or "table"

    @property
    def line(self) -> str:
        """One line for people."""
        what = self.expectation.removeprefix("expect_").replace("_", " ")
        expected = f" ({self.expected})" if self.expected else ""
        examples = f", such as {some_of(self.examples, limit=MAX_EXAMPLES)}" if self.examples else ""
        return f"{self.subject}: {what}{expected}; found {self.observed}{examples}"


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The verdict on a data version; equal data and expectations give equal reports."""

    num_rows: int
    num_checks: int
    failures: tuple[CheckFailure, ...]
    """The most severe first, then in the order of the suite."""

    @property
    def success(self) -> bool:
        """No critical expectation failed."""
        return not self.critical

    @property
    def critical(self) -> tuple[CheckFailure, ...]:
        return tuple(failure for failure in self.failures if failure.severity == "critical")

    @property
    def warnings(self) -> tuple[CheckFailure, ...]:
        """Failures of severity warning and info: the flow goes on."""
        return tuple(failure for failure in self.failures if failure.severity != "critical")

    @property
    def headline(self) -> str:
        passed = self.num_checks - len(self.failures)
        counts = f"{passed} of {self.num_checks} checks hold on {self.num_rows} samples"
        failed = f": {len(self.critical)} critical, {len(self.warnings)} lesser failures" if self.failures else ""
        return counts + failed

    def text(self) -> str:
        """For a terminal: at most MAX_CHECKS lines of failures."""
        return "\n".join([self.headline, *(f"  {f.severity}  {f.line}" for f in self._shown()), *self._rest("  ")])

    def markdown(self) -> str:
        """For a report: a table of at most MAX_CHECKS failures."""
        if not self.failures:
            return f"{self.headline}.\n"
        rows = [_row(failure) for failure in self._shown()]
        head = ["| severity | what | expectation | expected | found | examples |", "|---|---|---|---|---|---|"]
        return "\n".join([f"{self.headline}.", "", *head, *rows, *("\n" + rest for rest in self._rest(""))]) + "\n"

    def _shown(self) -> tuple[CheckFailure, ...]:
        return self.failures[:MAX_CHECKS]

    def _rest(self, indent: str) -> list[str]:
        left = len(self.failures) - MAX_CHECKS
        return [f"{indent}and {left} more; all of them are in the Data Docs"] if left > 0 else []

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "success": self.success}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ValidationReport:
        failures = tuple(CheckFailure(**{**each, "examples": tuple(each["examples"])}) for each in raw["failures"])
        return cls(num_rows=raw["num_rows"], num_checks=raw["num_checks"], failures=failures)


def load_report(artifact: Artifact) -> ValidationReport:
    """The report inside an artifact of the validate step."""
    return ValidationReport.from_json(artifact.read_json(RESULT))


def merge(reports: Sequence[ValidationReport]) -> ValidationReport:
    """One report of several tables; the rows counted are those of the first."""
    failures = [failure for report in reports for failure in report.failures]
    return ValidationReport(
        num_rows=reports[0].num_rows,
        num_checks=sum(report.num_checks for report in reports),
        failures=tuple(sorted(failures, key=lambda failure: SEVERITIES.index(failure.severity))),
    )


def _row(failure: CheckFailure) -> str:
    cells = (
        failure.severity,
        failure.subject,
        f"`{failure.expectation}`",
        failure.expected,
        failure.observed,
        some_of(failure.examples, limit=MAX_EXAMPLES),
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
