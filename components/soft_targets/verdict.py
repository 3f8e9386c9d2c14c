"""What is expected of the figures of soft targets before a student may learn from them, and what a failure means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.contracts import Expectation

if TYPE_CHECKING:
    from components.params import SoftTargetParams

ROUNDING = 1e-6
STANDARD_ERRORS = 3.0
BY_CHANCE = 2.0
"""Of numbers: a few random rows spread less, or err more, than all of them."""
LARGEST = 3.4e38
"""Beyond it a number is not finite in fp32."""


def summary(figures: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The figures that are judged, as the columns of a table with one row."""
    if not figures["finite"]:
        return {"finite": [False]}
    if "entropy" not in figures:
        return {"finite": [True], "relative_rmse": [figures["live"]["relative_rmse"]]}
    kl = {f"mean_kl_T{temperature}": [error["mean_kl"]] for temperature, error in figures["live"]["kl"].items()}
    return {"finite": [True], "mean_entropy_nats": [figures["entropy"]["1"]["mean"]], **kl}


def standard_error(values: Sequence[float | None]) -> float:
    """Of the mean of a random sample; 0 of fewer than two values."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else 0.0


def largest_mean_kl(kl: Sequence[float | None], max_kl: float) -> float:
    """The largest mean of random rows, of which *kl* are the KLs, that need not be of a set whose own mean is above *max_kl*.

    STANDARD_ERRORS above, since only some rows are asked about; but at most twice *max_kl*, since a few rows that are
    wholly wrong make the standard error as large as the mean.
    """
    return max_kl + min(STANDARD_ERRORS * standard_error(kl), max_kl)


def summary_expectations(
    figures: Mapping[str, Any], rows: Mapping[str, Sequence[Any]], params: SoftTargetParams
) -> list[Expectation]:
    """Finite, of classes neither one-hot nor uniform, and true to the live teacher as far as *rows* can tell."""
    one_row = Expectation("expect_table_row_count_to_equal", {"value": 1})
    finite = Expectation("expect_column_values_to_be_in_set", {"column": "finite", "value_set": [True]})
    if not figures["finite"]:
        return [one_row, finite]
    if "entropy" not in figures:
        return [one_row, finite, *_between({"relative_rmse": (0.0, BY_CHANCE * params.max_relative_error)})]
    most = params.max_entropy_share * figures["log_num_classes"]
    bounds = {"mean_entropy_nats": (params.min_entropy_nats, most)}
    if params.max_kl is not None:
        bounds |= {
            f"mean_kl_T{temperature}": (-ROUNDING, largest_mean_kl(rows[f"kl_T{temperature}"], params.max_kl))
            for temperature in figures["live"]["kl"]
        }
    return [one_row, finite, *_between(bounds)]


def row_expectations(figures: Mapping[str, Any], columns: Sequence[str]) -> list[Expectation]:
    """What must hold of each of the random rows, however good the teacher."""
    entropy = {"entropy_nats": (0.0, figures["log_num_classes"] + ROUNDING)} if "entropy" in figures else {}
    bounds = {
        **entropy,
        "largest_logit": (0.0, LARGEST),
        **{name: (-ROUNDING, LARGEST) for name in columns if name.startswith("kl_T")},
    }
    return [
        Expectation("expect_table_row_count_to_equal", {"value": figures["live"]["rows"]}),
        Expectation("expect_table_columns_to_match_ordered_list", {"column_list": list(columns)}),
        *(Expectation("expect_column_values_to_not_be_null", {"column": name}) for name in bounds),
        *_between(bounds),
    ]


def _between(bounds: Mapping[str, tuple[float, float]]) -> list[Expectation]:
    return [
        Expectation("expect_column_values_to_be_between", {"column": name, "min_value": least, "max_value": most})
        for name, (least, most) in bounds.items()
    ]


def explanations(
    figures: Mapping[str, Any], rows: Mapping[str, Sequence[Any]], params: SoftTargetParams
) -> Iterator[str]:
    """What each figure beyond its bound means, for people."""
    if not figures["finite"]:
        yield "some stored logits are not finite numbers"
        return
    if "entropy" not in figures:
        lost = figures["live"]["relative_rmse"]
        if lost > BY_CHANCE * params.max_relative_error:
            yield (
                f"RMSE to the live teacher is {lost:.3g} of the outputs' spread over {figures['live']['rows']} random rows, "
                f"above soft_targets.max_relative_error = {params.max_relative_error:g} by more than chance"
            )
        return
    entropy, uniform = figures["entropy"]["1"]["mean"], figures["log_num_classes"]
    if entropy < params.min_entropy_nats:
        yield (
            f"mean entropy at T=1 is {entropy:.3g} nats, below soft_targets.min_entropy_nats = {params.min_entropy_nats:g}: "
            "as good as one-hot, so a student learns no more from them than from labels (an over-trained teacher?)"
        )
    if entropy > params.max_entropy_share * uniform:
        yield (
            f"mean entropy at T=1 is {entropy:.4g} nats, {entropy / uniform:.1%} of log C, above "
            f"soft_targets.max_entropy_share = {params.max_entropy_share:g}: as good as uniform (an untrained teacher?)"
        )
    for temperature, error in figures["live"]["kl"].items():
        kl = rows[f"kl_T{temperature}"]
        if params.max_kl is not None and error["mean_kl"] > largest_mean_kl(kl, params.max_kl):
            yield (
                f"mean KL to the live teacher is {error['mean_kl']:.3g} nats at T={temperature} over "
                f"{figures['live']['rows']} random rows (standard error {standard_error(kl):.2g}), above "
                f"soft_targets.max_kl = {params.max_kl:g} by more than chance"
            )
