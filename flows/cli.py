"""`potstill`: the command line; each command imports what it needs and nothing else."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Optional

import typer

from components.errors import PotstillError
from flows import artifact_commands, data_commands
from flows.output import DEFAULT_PARAMS, Overrides, ParamsFile

app = typer.Typer(
    name="potstill",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Distil large teachers into small students that earn their place in the registry.\n\n"
        "Start with [bold]potstill example-data[/bold] and [bold]potstill run[/bold]; look at what a run would do with "
        "[bold]potstill plan[/bold], at every parameter with [bold]potstill params[/bold].\n\n"
        "Exit codes: 0 done, 1 failed, 2 bad input, 3 refused by a gate, 130 interrupted."
    ),
)

DataRevision = Annotated[
    Optional[str],
    typer.Option("--data-rev", metavar="REV", help="Tag, branch or commit of the data; overrides data.revision."),
]
app.add_typer(data_commands.data, name="data", rich_help_panel="Store")
app.add_typer(artifact_commands.targets, name="targets", rich_help_panel="Store")
app.add_typer(artifact_commands.artifacts, name="artifacts", rich_help_panel="Store")


@app.command(rich_help_panel="Work")
def run(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, data_rev: DataRevision = None) -> None:
    """Run the whole story: data, teacher, soft targets, student, evaluation, gate, champion.

    What was computed before is found by its content: the same command goes on where a killed run stopped.

    Starts the local servers if none is configured.

    Example: [bold]potstill run --data-rev v2 --set student.objective.temperature=8[/bold]
    """
    from flows.launch import launch_distill

    raise typer.Exit(launch_distill(params, _overrides(set_, data_rev)))


@app.command(rich_help_panel="Work")
def refresh(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None) -> None:
    """Look for a new data version (refresh.tags or refresh.branch), and only then run the whole story on it.

    Running it again without new data does nothing. Schedule this one.
    """
    from flows.launch import launch_refresh

    raise typer.Exit(launch_refresh(params, set_ or ()))


@app.command(rich_help_panel="Work")
def stage(
    name: Annotated[
        str,
        typer.Argument(
            help="data, validate, teacher, fold_teachers, soft_targets, baseline, student, evaluate or export."
        ),
    ],
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    data_rev: DataRevision = None,
) -> None:
    """Run one step without any server, as dvc.yaml does; its result goes to the same store."""
    from components.steps.pipeline import ORDER

    if name not in ORDER:
        raise typer.BadParameter(f"{name!r} is not one of: {', '.join(ORDER)}")
    from flows.launch import launch_stage

    launch_stage(name, params, _overrides(set_, data_rev))


@app.command(rich_help_panel="Work")
def repeat(
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="How many seeds of each student.")] = 5,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    data_rev: DataRevision = None,
) -> None:
    """Train both students with several seeds under one teacher, and say how sure their difference is."""
    from flows.repeat import launch_repeat

    launch_repeat(params, _overrides(set_, data_rev), seeds=seeds)


@app.command(rich_help_panel="Work")
def compare(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, data_rev: DataRevision = None) -> None:
    """Compare objectives under one teacher: each one's best configuration on validation, then several seeds on the test.

    Killed, the same command goes on: students that are there are not trained again.

    Example: [bold]potstill compare --params recipes/methods_fashion.yaml[/bold]
    """
    from flows.compare import launch_compare

    launch_compare(params, _overrides(set_, data_rev))


@app.command(rich_help_panel="Work")
def sweep(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, data_rev: DataRevision = None) -> None:
    """Train many students from one set of soft targets, as the section sweep says, and recommend values.

    Only the validation split is looked at. Trials run in processes; the same command goes on where a killed one stopped.

    Example: [bold]potstill sweep --set sweep.seeds=5[/bold]
    """
    from flows.launch import launch_sweep

    launch_sweep(params, _overrides(set_, data_rev))


@app.command(rich_help_panel="Work")
def plan(params: ParamsFile = DEFAULT_PARAMS, set_: Overrides = None, data_rev: DataRevision = None) -> None:
    """Say what a run would do: which steps are there already, and for the others why not."""
    from flows.plan import print_plan

    print_plan(params, _overrides(set_, data_rev))


@app.command("example-data", rich_help_panel="Work")
def example_data(
    name: Annotated[
        str, typer.Option("--set", help="digits (5,000 pictures) or diabetes (442 rows of numbers).")
    ] = "digits",
) -> None:
    """Build an example data registry under var/: a small real data set under DVC, in two tagged versions."""
    from components.data.example import SETS, build_example_registry
    from components.errors import BadInputError
    from components.settings import Settings

    if name not in SETS:
        raise BadInputError(f"--set {name!r} is no example data (there are: {', '.join(SETS)})")
    folder = Settings().var_dir / SETS[name].folder
    for version in build_example_registry(folder, name=name):
        typer.echo(f"{version.tag}  {version.commit[:12]}  {version.rows:,} samples")
    typer.echo(f"in {folder}")


@app.command(rich_help_panel="Work")
def demo() -> None:
    """Tell the whole story on this machine, with real digits, flows and servers, in a few minutes.

    A first champion, a better one on new data, a damaged data version, a poor student, a rollback, the lineage: each act
    says how it ended and where to look. One that ends otherwise than the story fails the demo.

    It has a folder of its own, var/demo, which the next demo replaces, and models of its own (recipes/demo.yaml).
    """
    from flows.demo import launch_demo

    launch_demo()


DeploymentsFile = Annotated[Path, typer.Option("--file", "-f", help="The file of deployments.", metavar="FILE")]


@app.command(rich_help_panel="Schedules")
def deploy(file: DeploymentsFile = Path("infra/prefect.yaml")) -> None:
    """Create the deployments of a file on the Prefect server, with schedules, triggers and messages; again renews them.

    A worker runs what is due: [bold]prefect worker start --pool potstill[/bold]
    """
    from flows.launch import launch_deploy

    for line in launch_deploy(file):
        typer.echo(line)


@app.command(rich_help_panel="Schedules")
def serve(file: DeploymentsFile = Path("infra/prefect.yaml")) -> None:
    """Run the same deployments in this one process, until Ctrl-C."""
    from flows.launch import launch_serve

    launch_serve(file)


@app.command(rich_help_panel="Registry")
def promote(
    version: Annotated[str, typer.Argument(help="Number of a registered version of the student.")],
    force: Annotated[
        Optional[str], typer.Option("--force", metavar="REASON", help="Promote even against the gate, for this reason.")
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    data_rev: DataRevision = None,
) -> None:
    """Put a registered version through the gate, on the test split of the data, and make it champion if it passes."""
    from flows.promotion_commands import launch_promote

    if force is not None and not force.strip():
        raise typer.BadParameter("--force needs a reason, which stands in the history")
    raise typer.Exit(launch_promote(version, params, _overrides(set_, data_rev), force_reason=force or ""))


@app.command(rich_help_panel="Registry")
def rollback(
    to: Annotated[Optional[str], typer.Option("--to", help="A version that was champion once.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
) -> None:
    """Make the champion before the present one champion again, once it has been loaded and tried."""
    from flows.promotion_commands import place_of, roll_back

    line = roll_back(place_of(params, set_ or ()), to, reason)
    typer.echo(f"{line.model} version {line.version} is champion again (before: version {line.previous_version})")


@app.command(rich_help_panel="Registry")
def history(
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List every change of champion with its reason, and say if an alias was moved by something else."""
    from flows.promotion_commands import place_of, show_history

    show_history(place_of(params, set_ or ()), as_json=as_json)


Version = Annotated[
    str, typer.Argument(help="A number, champion, previous or challenger, or a run's name or id.", metavar="VERSION")
]


@app.command(rich_help_panel="Registry")
def lineage(
    version: Version = "champion",
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    html: Annotated[
        Optional[Path], typer.Option("--html", metavar="FILE", help="Draw it as a page of its own, too.")
    ] = None,
) -> None:
    """Say what exactly made a model: data, code, parameters, every result, the decision, and what it cost."""
    from flows.lineage_commands import show_lineage
    from flows.promotion_commands import place_of

    show_lineage(place_of(params, set_ or ()), version, as_json=as_json, html=html)


@app.command(rich_help_panel="Registry")
def diff(
    first: Version,
    second: Version,
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what differs between two versions: data, code, parameters, results, metrics, and where they disagree."""
    from flows.difference import show_difference
    from flows.promotion_commands import place_of

    show_difference(place_of(params, set_ or ()), first, second, as_json=as_json)


@app.command(rich_help_panel="Registry")
def reproduce(
    version: Version = "champion",
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
    threads: Annotated[
        Optional[int],
        typer.Option("--threads", min=1, help="Of torch: other numbers, other bits. As many as made it, if left out."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Largest difference of a metric, relative where it exceeds 1.")
    ] = 0.02,
) -> None:
    """Make a model again from its commits of code and data, without the cache, and compare digests and metrics.

    Exit code 0 where all digests are equal, or every metric is within the tolerance; else 1.
    """
    from flows.promotion_commands import place_of
    from flows.reproduction import print_reproduction
    from flows.reproduction import reproduce as make_again

    found = make_again(place_of(params, set_ or ()), version, threads=threads, say=typer.echo)
    raise typer.Exit(print_reproduction(found, tolerance))


@app.command(rich_help_panel="Registry")
def adopt(
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
) -> None:
    """Accept a champion that something else than Potstill put in place."""
    from flows.promotion_commands import mend, place_of

    line = mend(place_of(params, set_ or ()), "adopt", reason)
    typer.echo(f"{line.model} version {line.version} is adopted as champion")


@app.command(rich_help_panel="Registry")
def restore(
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    params: ParamsFile = DEFAULT_PARAMS,
    set_: Overrides = None,
) -> None:
    """Move the champion's alias back to where the journal put it."""
    from flows.promotion_commands import mend, place_of

    line = mend(place_of(params, set_ or ()), "restore", reason)
    typer.echo(f"the alias is back on {line.model} version {line.version}")


@app.command(rich_help_panel="Servers")
def up() -> None:
    """Start the local Prefect and MLflow servers in the background, unless they run or others are configured."""
    from components.settings import Settings
    from flows.servers import ensure_servers, status_table

    ensure_servers(Settings())
    _print(status_table(Settings()))


@app.command(rich_help_panel="Servers")
def down() -> None:
    """Stop the local servers; what they hold stays under var/."""
    from components.settings import Settings
    from flows.servers import stop_servers

    for name in stop_servers(Settings()) or ("nothing",):
        typer.echo(f"stopped {name}")


@app.command(rich_help_panel="Servers")
def status() -> None:
    """Say which servers run, where, and since when."""
    from components.settings import Settings
    from flows.servers import status_table

    _print(status_table(Settings()))


@app.command("params", rich_help_panel="Look")
def params_(
    section: Annotated[Optional[str], typer.Argument(help="Only this part, such as student.train.")] = None,
    params: ParamsFile = DEFAULT_PARAMS,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the Markdown page of docs/params.md.")] = False,
) -> None:
    """Show every parameter: type, default, bounds, meaning, and its value in the file."""
    from flows.describe import params_markdown, params_tree

    if markdown:
        typer.echo(params_markdown())
    else:
        _print(params_tree(params, section))


@app.command(rich_help_panel="Look")
def plugins() -> None:
    """List the plugin files that exist, one line each: models, objectives, formats, transforms and more."""
    from flows.describe import plugins_table

    _print(plugins_table())


@app.command(rich_help_panel="Look")
def doctor(params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Check versions, disk, write access, servers and parameters, and say what a run would use."""
    from components.settings import Settings
    from flows.doctor import diagnose, print_diagnosis

    raise typer.Exit(print_diagnosis(diagnose(Settings(), params)))


def _overrides(set_: list[str] | None, data_rev: str | None) -> tuple[str, ...]:
    revision = (f"data.revision={data_rev!r}",) if data_rev else ()
    return (*(set_ or ()), *revision)


def _print(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


def main() -> None:
    """The entry point: an error that Potstill raises on purpose is one message and an exit code, never a traceback."""
    from components.settings import turn_telemetry_off

    turn_telemetry_off()
    try:
        app()
    except PotstillError as error:
        _tell(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("interrupted; what was committed is kept, run the same command to go on")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from components.artifacts.disk import refusal
        from components.settings import Settings

        reason = refusal(error, Settings().var_dir)
        if reason is None:
            raise
        _tell(reason)
        sys.exit(1)


def _tell(message: str) -> None:
    """The one message of a command that did not end well: broken between words for a terminal, in whole lines for a pipe."""
    text = f"potstill: {message}"
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        text = "\n".join(_wrapped(line, width) for line in text.splitlines())
    typer.echo(text, err=True)


def _wrapped(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
