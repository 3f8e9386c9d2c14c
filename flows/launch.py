"""What `potstill run`, `potstill sweep` and `potstill stage` do around a flow: servers, environment, progress, the last words."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.params import Params, load_params
from components.settings import Settings
from flows.console import ConsoleProgress, interruptible, saved_text
from flows.run import PROGRESS, open_run

if TYPE_CHECKING:
    from rich.console import Console

    from flows.servers import Endpoints
    from flows.sweep_tasks import Swept
    from flows.tasks import Verdict


def launch_distill(params_file: Path, overrides: Sequence[str]) -> int:
    """Run the flow with the servers it needs; returns the exit code. Raises what the flow raises."""
    params = load_params(params_file, overrides)
    with with_servers() as (console, endpoints):
        verdict = _run_flow(params_file, overrides, params.data.revision)
    _last_words(console, params, verdict, endpoints)
    return verdict.exit_code


def launch_refresh(params_file: Path, overrides: Sequence[str]) -> int:
    """Run the flow `refresh`; returns the exit code, 0 also where there is no new data."""
    params = load_params(params_file, overrides)
    with with_servers() as (console, endpoints):
        verdict = _run_refresh(params_file, overrides)
    if verdict is None:
        return 0
    _last_words(console, params, verdict, endpoints)
    return verdict.exit_code


def _run_refresh(params_file: Path, overrides: Sequence[str]) -> Verdict | None:
    """None where there was nothing new."""
    from flows.refresh import refresh

    state: Any = refresh(params_file=str(params_file), overrides=list(overrides), return_state=True)
    verdict: Verdict | None = state.result()
    return verdict


def launch_deploy(file: Path) -> list[str]:
    """Deploy to the Prefect server that is configured, or the local one; a file with problems starts none."""
    from rich.console import Console

    from flows.deployments import deploy, read_deployments

    read_deployments(file)
    progress = ConsoleProgress(Console())
    with interruptible(progress):
        connect(Settings(), progress)
        return deploy(file, Settings().notify_url.get_secret_value())


def launch_serve(file: Path) -> None:
    """Serve with the servers that are configured, or the local ones."""
    from rich.console import Console

    from flows.deployments import read_deployments, serve

    read_deployments(file)
    connect(Settings(), ConsoleProgress(Console()))
    serve(file, Settings().notify_url.get_secret_value())


def launch_sweep(params_file: Path, overrides: Sequence[str]) -> None:
    """Run the flow `sweep`, which goes on without MLflow; what is wrong with the space is said before anything starts."""
    from components.sweeps.space import refuse_unfit

    params = load_params(params_file, overrides)
    refuse_unfit(params)
    with with_servers(dispensable=("mlflow",)) as (console, _):
        swept = _run_sweep(params_file, overrides, params.data.revision)
    _say_what_was_swept(console, swept)


def _run_sweep(params_file: Path, overrides: Sequence[str], data_rev: str) -> Swept:
    from flows.sweep import sweep

    state: Any = sweep(params_file=str(params_file), overrides=list(overrides), data_rev=data_rev, return_state=True)
    swept: Swept = state.result()
    return swept


def _say_what_was_swept(console: Console, swept: Swept) -> None:
    from components.sweeps import page
    from components.sweeps.results import not_complete, to_paste

    result = swept.result
    console.print()
    console.print(page.to_rich(result))
    for sentence in not_complete(result):
        console.print(sentence, style="dim", highlight=False)
    console.print(f"[bold]{page.headline(result)}[/]\n", highlight=False)
    for sentence in page.sentences(result):
        console.print(f"- {sentence}", highlight=False)
    for each in swept.diagnoses:
        colour = "green" if each.verdict == "fine" else "yellow"
        console.print(f"[{colour}]{each.question}[/] {each.answer}", highlight=False)
    if result.recommendation:
        console.print(f"\n{to_paste(result.recommendation.trial.values)}\n", highlight=False, markup=False)
    console.print(page.total(result), highlight=False)
    for label, place in (("report", str(swept.report)), ("MLflow run", swept.run_url)):
        if place:
            console.print(f"  {label:<12} {place}", soft_wrap=True, highlight=False)


@contextmanager
def with_servers(dispensable: Sequence[str] = ()) -> Iterator[tuple[Console, Endpoints]]:
    """Around a flow: progress on the terminal, Ctrl-C at safe points, and servers whose troubles are told from bugs."""
    from rich.console import Console

    from flows.servers import told_of_servers

    console = Console()
    progress = ConsoleProgress(console)
    with interruptible(progress):
        PROGRESS.set(progress)
        endpoints = connect(Settings(), progress, dispensable)
        with told_of_servers(endpoints, Settings()):
            yield console, endpoints


def connect(settings: Settings, progress: ConsoleProgress, dispensable: Sequence[str] = ()) -> Endpoints:
    """Servers first: one that does not answer is said before any work starts."""
    from flows.servers import ensure_servers, environment_for

    endpoints = ensure_servers(settings, say=progress.say, check=progress.check, dispensable=dispensable)
    os.environ.update(environment_for(endpoints, settings))
    logging.raiseExceptions = False  # a log line that cannot be delivered is no message of its own
    return endpoints


def _run_flow(params_file: Path, overrides: Sequence[str], data_rev: str) -> Verdict:
    from flows.distill import distill

    state: Any = distill(params_file=str(params_file), overrides=list(overrides), data_rev=data_rev, return_state=True)
    verdict: Verdict = state.result()
    return verdict


def _last_words(console: Console, params: Params, verdict: Verdict, endpoints: Endpoints) -> None:
    from components.artifacts.store import Store
    from components.report.data import ReportData
    from components.report.findings import find
    from components.report.table import final_table, to_rich

    evaluation = Store(Settings()).find("evaluate", verdict.evaluation_key)
    assert evaluation is not None
    console.print()
    console.print(to_rich(final_table(ReportData(artifacts={"evaluate": evaluation}, params=params))))
    console.print(f"{find(evaluation.read_json('metrics.json'), params.workload.build()).headline}.\n", highlight=False)
    colour = "green" if verdict.exit_code == 0 else "yellow"
    console.print(
        f"[bold {colour}]{verdict.student.name} version {verdict.student.version}: {verdict.decision.summary()}[/]"
    )
    if verdict.saved:
        console.print(f"{saved_text(verdict.saved)}.", highlight=False)
    for label, place in _places(verdict, endpoints):
        console.print(f"  {label:<12} {place}", soft_wrap=True, highlight=False)
    if endpoints.local:
        console.print("The servers go on in the background; [bold]potstill down[/bold] stops them.")


def _places(verdict: Verdict, endpoints: Endpoints) -> list[tuple[str, str]]:
    from components.tracking import MODEL_PAGES

    tracking_uri = endpoints.tracking_uri
    return [
        ("report", verdict.report),
        ("MLflow run", verdict.run_url or tracking_uri),
        ("registry", f"{endpoints.mlflow_ui_url}/#/models{MODEL_PAGES}" if endpoints.mlflow_ui_url else tracking_uri),
        ("Prefect", endpoints.prefect_ui_url),
    ]


def launch_stage(name: str, params_file: Path, overrides: Sequence[str]) -> None:
    """Run one stage of dvc.yaml; no server is asked for."""
    from rich.console import Console

    from flows.stage import run_stage

    progress = ConsoleProgress(Console())
    with interruptible(progress):
        PROGRESS.set(progress)
        run_stage(open_run(params_file, overrides, name=f"stage {name}"), name)
