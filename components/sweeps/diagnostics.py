"""What usually goes wrong in distillation, asked of this sweep: each answer with its number, its bound and a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.params import with_values
from components.report.table import change_interval, changed, percent, written
from components.schedules import value_at
from components.sweeps.conduct import Sweep
from components.sweeps.results import SweepResult, TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from components.data.packed import PackedData

ONE_HOT_SHARE, UNIFORM_SHARE = 0.05, 0.95
"""Of log C: mean entropies of the softened teacher that are called too sharp and too flat; rules of thumb."""
FAITHFUL_AGREEMENT = 0.95
"""A student that repeats its teacher less often, on the very rows that it learnt from, has not learnt them."""
MEMORISED_GAP = 0.02
"""Of a share, training less validation: beyond it the student has room to learn rows by heart."""
MAX_ROWS = 10_000
"""Training rows that are looked at."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One question and its answer."""

    question: str
    verdict: Literal["fine", "warning"]
    answer: str


def diagnose(sweep: Sweep, result: SweepResult) -> tuple[Diagnosis, ...]:
    """Of the recommended trial; what a workload or an objective cannot answer is left out."""
    if result.recommendation is None:
        return ()
    trial = result.recommendation.trial
    return (*_temperature(sweep, trial), *_teacher(sweep, result), *_size(sweep, result, trial))


def _temperature(sweep: Sweep, trial: TrialResult) -> Iterator[Diagnosis]:
    """Whether the softened teacher says more than a label, and less than nothing."""
    objective = with_values(sweep.params, trial.values).student.objective
    temperature = value_at(getattr(objective, "temperature", 0.0), 1.0)
    logits = _first_view(sweep)
    if sweep.params.workload.build().labels != "classes" or not temperature or logits.shape[1] < 2:
        return
    share = entropy_share(logits, temperature)
    said = (
        f"At T = {temperature:g} the teacher's mean entropy is {percent(share)} of that of a uniform answer "
        f"(bounds: {ONE_HOT_SHARE:.0%} and {UNIFORM_SHARE:.0%}, rules of thumb)"
    )
    if share < ONE_HOT_SHARE:
        advice = (
            "so it says hardly more than the label: try a higher T. What the teacher knows beyond the label lies in its "
            "small probabilities (Hinton et al. 2015, section 1)."
        )
    elif share > UNIFORM_SHARE:
        advice = (
            "so all classes look nearly alike: try a lower T. In the limit only differences of logits are matched, noise "
            "among them (Hinton et al. 2015, section 2.1)."
        )
    else:
        advice = "which is neither near one-hot nor near uniform."
    yield Diagnosis(
        "Is T too low or too high for this teacher?",
        "fine" if ONE_HOT_SHARE <= share <= UNIFORM_SHARE else "warning",
        f"{said}, {advice}",
    )


def entropy_share(logits: NDArray[np.float32], temperature: float) -> float:
    """Mean entropy of softmax(logits / T) as a share of log C; [N, C]."""
    import numpy as np

    from components.evaluation.metrics import log_softmax

    log_p = log_softmax(logits, temperature=temperature)
    return float(-(np.exp(log_p) * log_p).sum(axis=1).mean() / np.log(logits.shape[1]))


def _teacher(sweep: Sweep, result: SweepResult) -> Iterator[Diagnosis]:
    """Whether it knows measurably more than the same student learns from hard labels."""
    from components.evaluation.predict import predict_logits
    from components.evaluation.scores import compare

    if result.control is None:
        return
    data, workload = _data(sweep), sweep.params.workload.build(_data(sweep).spec)
    rows = data.labelled_rows("validation")
    models = (_model(sweep, "teacher", ""), _model(sweep, "baseline", result.control.students[0].key))
    teacher, student = (predict_logits(model, data.samples, rows) for model in models)
    found = compare(workload, teacher, student, data.labels[rows], sweep.params.evaluate)
    if result.metric not in found:
        return
    measure, change = result.measure, found[result.metric]
    low, high = (change[end] for end in ("low", "high"))
    leads = low > 0 if measure.better == "higher" else high < 0
    advice = (
        "so it has something to teach."
        if leads
        else "which is no measurable lead: something can be gained all the same (Furlanello et al., ICML 2018), but a better "
        "teacher is likely to bring more."
    )
    yield Diagnosis(
        "Is the teacher good enough?",
        "fine" if leads else "warning",
        f"On the {len(rows):,} validation samples its {measure.title} differs from that of the hard-label student (seed "
        f"{result.control.students[0].seed}) by {changed(measure, change['difference'])} "
        f"({change_interval(measure, low, high)}, paired bootstrap; bound: 0, a rule of thumb), {advice}",
    )


def _size(sweep: Sweep, result: SweepResult, trial: TrialResult) -> Iterator[Diagnosis]:
    """Whether the student repeats its teacher on the rows that it learnt from, and whether it knows those by heart."""
    from components.evaluation.predict import predict_logits

    views, first = sweep.params.student.views, trial.students[0]
    workload = sweep.params.workload.build(_data(sweep).spec)
    if result.measure.unit != "share" or not (views.first_is_identity or not views.transforms):
        return
    data, rows = _data(sweep), _rows(sweep)
    said = predict_logits(_model(sweep, "student", first.key), data.samples, rows)
    name, fidelity = next(iter(workload.fidelity_measures.items()))
    if fidelity.unit != "share":
        return
    agreement = workload.fidelity(said, _first_view(sweep)[: len(rows)])[name]
    known = rows[_is_labelled(data, rows)]
    gap = (
        workload.metrics(said[_is_labelled(data, rows)], data.labels[known])[result.metric]
        - first.metrics[result.metric]
    )
    too_small = agreement < FAITHFUL_AGREEMENT and gap < MEMORISED_GAP
    advice = (
        "so it cannot follow its teacher: it is too small, or was trained too briefly (Cho and Hariharan, ICCV 2019; "
        "Stanton et al., NeurIPS 2021)."
        if too_small
        else "so it follows its teacher on what it has seen."
        if agreement >= FAITHFUL_AGREEMENT
        else "so it learns rows by heart rather than lacking room: more views or more samples help before more width."
    )
    yield Diagnosis(
        "Is the student too small?",
        "warning" if too_small else "fine",
        f"On {len(rows):,} samples that it learnt from its {fidelity.title} is {written(fidelity, agreement)} (bound: "
        f"{FAITHFUL_AGREEMENT:.0%}), and its {result.measure.title} there differs from validation by "
        f"{changed(result.measure, gap)} (bound: {100 * MEMORISED_GAP:g} points), {advice}",
    )


def _is_labelled(data: PackedData, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    from components.contracts import is_labelled

    return is_labelled(data.labels[rows])


def _data(sweep: Sweep) -> PackedData:
    from components.data.packed import open_packed

    return open_packed(sweep.artifacts["data"])


def _rows(sweep: Sweep) -> NDArray[np.int64]:
    """The first of those that the teacher was asked about."""
    from components.soft_targets.reader import SoftTargets

    return SoftTargets.open(sweep.artifacts["soft_targets"]).rows[:MAX_ROWS]


def _first_view(sweep: Sweep) -> NDArray[np.float32]:
    """The teacher's logits on view 0 of `_rows`, [N, C]."""
    import numpy as np

    from components.soft_targets.reader import SoftTargets

    targets = SoftTargets.open(sweep.artifacts["soft_targets"])
    return np.array(targets.take(targets.places(targets.rows[:MAX_ROWS]), 0).numpy())


def _model(sweep: Sweep, kind: str, key: str) -> nn.Module:
    from components.saved_models import load_model

    artifact = sweep.artifacts[kind] if kind in sweep.artifacts else sweep.store.find(kind, key)
    assert artifact is not None, "it was found a moment ago"
    return load_model(artifact)
