"""Validate a data version: a critical failure stops the flow before any training, warnings go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components import plugins
from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.contracts import Resolved, Workload
from components.errors import DataRefusedError, StoreError
from components.params import Params
from components.steps.step import Step, StepContext, World
from components.validation import accepted
from components.validation.report import RESULT, load_report

if TYPE_CHECKING:
    import pandas as pd

    from components.validation.gx import Inspection
    from components.validation.profile import Drift, Profile

SUITE = "suite.json"
DOCS = "data_docs"
PLACE_OF_USER_EXPECTATIONS = "validation.expectations"


def _reads(params: Params) -> Mapping[str, Any]:
    return {
        "validation": params.validation.model_dump(mode="json"),
        "workload": params.workload.model_dump(mode="json"),
    }


def _workload_module(params: Params) -> tuple[str]:
    return (plugins.module_name("workloads", params.workload.name),)


def _resolve(world: World) -> Resolved:
    """The version to compare with, once: later acceptances do not change what this run means."""
    entry = accepted.reference_for(world.store, accepted.line_of(world.params), world.inputs["data"].digest)
    found = entry and world.store.find("validate", entry.validate_key)
    if not found:
        return Resolved(facts={"reference": None})
    return Resolved(facts={"reference": found.digest}, notes={"reference_key": found.key})


def _run(context: StepContext) -> None:
    from components.validation import gx, suite
    from components.validation.profile import PROFILE, plain, profile

    gx.require_valid(suite.user_expectations(context.params.validation), place=PLACE_OF_USER_EXPECTATIONS)
    table = plain(read_table(context.inputs["data"], context.params.workload.build()))
    inspections = _inspections(context, table)
    report = gx.validate_tables(inspections, docs_dir=context.out / MEASURED / DOCS)
    write_json(context.out / RESULT, report.as_json())
    write_json(context.out / PROFILE, profile(table).as_json())
    write_json(context.out / SUITE, {each.name: suite.as_json(each.expectations) for each in inspections})
    if report.success:
        context.progress.say(report.text())


def _inspections(context: StepContext, table: pd.DataFrame) -> list[Inspection]:
    """The samples, and the tables derived from them that hold what no row of a sample can say."""
    from components.data.packed import open_packed
    from components.validation import suite
    from components.validation.gx import Inspection
    from components.validation.profile import drifts

    params, reference = context.params.validation, _reference(context)
    spec = open_packed(context.inputs["data"]).spec
    workload = context.params.workload_for(spec)
    expected = suite.sample_expectations(
        params,
        workload.expectations(spec),
        described=workload.columns,
        labels=spec.label_kind,
        columns=list(table.columns),
        reference=reference,
    )
    moved = drifts(reference, table) if reference else {}
    inspections = [
        Inspection("samples", table, expected),
        Inspection("drift", _indices(moved), suite.drift_expectations(params, moved)),
    ]
    if spec.label_kind == "classes":
        classes = _classes(table, spec.class_names)
        inspections.insert(1, Inspection("classes", classes, suite.class_expectations(params), "class_name"))
    return [inspection for inspection in inspections if inspection.expectations]


def _reference(context: StepContext) -> Profile | None:
    from components.artifacts.store import Store
    from components.validation.profile import PROFILE, Profile

    digest = context.resolved.facts["reference"]
    if digest is None:
        return None
    found = Store(context.settings).find("validate", context.resolved.notes["reference_key"])
    if found is None or found.digest != digest:
        raise StoreError(
            f"the last accepted version's result (validate {digest[:12]}) left the store during this run; run again"
        )
    return Profile.from_json(found.read_json(PROFILE))


def read_table(data: Artifact, workload: Workload) -> pd.DataFrame:
    """A row a sample: what the data step knows of it, then what the workload sees in it, then the source's own columns."""
    import pandas as pd

    from components.data.packed import TABLE, open_packed
    from components.validation.suite import core_columns

    packed = open_packed(data)
    core = list(core_columns(packed.spec.label_kind))
    known = pd.read_parquet(data.file(TABLE))
    seen = pd.DataFrame(dict(workload.describe(packed.samples)))
    own = known.drop(columns=core)
    own = own.rename(columns={name: f"source_{name}" for name in own.columns if name in seen.columns})
    return pd.concat([known[core], seen, own], axis=1)


def _classes(table: pd.DataFrame, class_names: tuple[str, ...]) -> pd.DataFrame:
    """[C] rows: class_name, count, and the share of the labelled samples."""
    import pandas as pd

    counts = [int((table["label"] == label).sum()) for label in range(len(class_names))]
    labelled = max(1, int((table["label"] >= 0).sum()))
    return pd.DataFrame(
        {"class_name": list(class_names), "count": counts, "share": [count / labelled for count in counts]}
    )


def _indices(moved: Mapping[str, Drift]) -> pd.DataFrame:
    """One row: the population stability index of every column."""
    import pandas as pd

    return pd.DataFrame({name: [drift.psi] for name, drift in moved.items()})


def _check(artifact: Artifact, params: Params) -> None:
    report = load_report(artifact)
    if report.success:
        return
    drifted = any(failure.table == "drift" for failure in report.critical)
    softer = f", raise validation.drift_max ({params.validation.drift_max:g}) or soften validation.drift_severity"
    raise DataRefusedError(
        f"this version of {params.data.path} may not be used: {report.text()}\n"
        f"Data Docs: {artifact.measured(DOCS) / 'index.html'}\n"
        f"Fix the data, or change section validation of the parameters{softer if drifted else ''}."
    )


STEP = Step(
    name="validate",
    title="validate the data",
    inputs=("data",),
    reads=_reads,
    run=_run,
    libraries=("great-expectations", "pandas", "numpy"),
    plugins=_workload_module,
    resolve=_resolve,
    check=_check,
)
