"""The Prefect and MLflow servers of a run: the configured ones are asked, the local ones started once and reused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from components.artifacts.disk import free_bytes
from components.errors import ServerError
from components.settings import TELEMETRY_OFF, Settings
from flows import server_processes as processes
from flows.server_processes import HOST, Recipe, State

if TYPE_CHECKING:
    from rich.table import Table

START_SECONDS = 120.0
GRACE_SECONDS = 15.0
"""How long a server that should be up already may take to answer."""
POLL_SECONDS = 0.1
NEWS_SECONDS = 10.0
PROBE_SECONDS = 5.0
STATUS_SECONDS = 1.0
DATABASE_ROOM_BYTES = 4 * 2**20
"""With less than that on its disk, a local server's database soon refuses to write."""

QUIET = {
    # Prefect logs every exception with its traceback; the command line says in one message what went wrong.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Prefect's run logs reach the server and not the terminal; a dead MLflow is noticed in seconds."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the two servers answer."""

    prefect_api_url: str
    prefect_ui_url: str
    tracking_uri: str
    mlflow_ui_url: str
    """Empty where the tracking URI is no web address."""
    local: tuple[str, ...]
    """Those of the two that run here in the background."""
    started: tuple[str, ...]
    """Those that this call had to start."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A server that somebody else runs."""

    name: str
    title: str
    url: str
    variables: tuple[str, ...]
    """That may have set it, the stronger first."""
    health_path: str
    expected: str
    """What a healthy server of this kind says."""
    hint: str

    @property
    def set_by(self) -> str:
        present = {name.upper() for name in os.environ}
        return next((name for name in self.variables if name in present), self.variables[0])


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How one server is doing."""

    name: str
    title: str
    state: Literal["running", "starting", "stopped", "damaged", "unreachable"]
    where: str
    """Address for people; empty when stopped."""
    text: str
    local: bool
    pid: int | None = None
    memory_bytes: int | None = None

    @property
    def ok(self) -> bool:
        return self.state == "running"


def _nothing(*_: str) -> None:
    return None


def ensure_servers(
    settings: Settings,
    *,
    say: Callable[[str], None] = _nothing,
    check: Callable[[], None] = _nothing,
    deadline_seconds: float = START_SECONDS,
    dispensable: Collection[str] = (),
) -> Endpoints:
    """Have both servers answer, starting the local ones in parallel where none is configured.

    *say* gets messages for people; *check* is called while waiting and may raise. A configured server that is named in
    *dispensable* may be down: that is said.

    Raises ServerError if a configured server does not answer (before anything is started), or if a local one
    does not come up in *deadline_seconds*; the end of its log is in the message.
    """
    servers = _servers(settings)
    problems = {server.name: probe(server) for server in servers if isinstance(server, Configured)}
    needed = [problem for name, problem in problems.items() if problem and name not in dispensable]
    if needed:
        raise ServerError("\n".join(needed))
    for name in filter(problems.get, dispensable):
        say(f"{problems[name]}. Going on without it")
    recipes = [server for server in servers if isinstance(server, Recipe)]
    states, started = bring_up(recipes, say, check, deadline_seconds)
    return _endpoints(settings, states, started)


@contextmanager
def told_of_servers(endpoints: Endpoints, settings: Settings) -> Iterator[None]:
    """What a server does not do in the middle of a run is one ServerError, with the reason where this machine shows it.

    Enter it after the environment is set, since it imports what Prefect's client stands on.
    """
    import httpx

    try:
        yield
    except ServerError as error:
        raise ServerError(f"{error}{_why(settings, endpoints)}") from error
    except httpx.HTTPError as error:
        reason = str(error).strip().partition("\n")[0]
        where = without_password(endpoints.prefect_api_url)
        raise ServerError(f"{where}: Prefect failed: {reason}{_why(settings, endpoints)}") from error


def _why(settings: Settings, endpoints: Endpoints) -> str:
    """The way out, for those that run here."""
    if not endpoints.local:
        return ""
    if free_bytes(settings.var_dir) < DATABASE_ROOM_BYTES:
        return f". No space is left for the servers in {settings.var_dir}: free some and run again"
    return f". The servers' logs are in {prefect_recipe(settings).folder}; run the same command to go on"


def running_tracking_uri(settings: Settings) -> str:
    """Where MLflow is for a run that no command line prepared: as configured, or the local server that is up.

    Nothing is started; ServerError where there is neither.
    """
    if settings.tracking_uri:
        return settings.tracking_uri
    recipe = mlflow_recipe(settings)
    state = processes.find(recipe)
    if state is None:
        raise ServerError(
            f"no MLflow server: MLFLOW_TRACKING_URI is not set, and no local one runs for {settings.var_dir}. "
            "`potstill up` starts it"
        )
    return _local(state.port)


def stop_servers(settings: Settings) -> tuple[str, ...]:
    """Stop the local servers, configured or not; the names of those that ran."""
    stopped = []
    for recipe in (prefect_recipe(settings), mlflow_recipe(settings)):
        if not recipe.folder.exists():
            continue
        with processes.locked(recipe):
            if processes.stop(recipe):
                stopped.append(recipe.title)
    return tuple(stopped)


def server_status(settings: Settings) -> tuple[ServerStatus, ...]:
    """How Prefect and MLflow are doing, without changing anything."""
    return tuple(
        _configured_status(server) if isinstance(server, Configured) else _local_status(server)
        for server in _servers(settings)
    )


def status_table(settings: Settings) -> Table:
    """What `potstill status` shows."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("server", "state", "where", ""):
        table.add_column(column, overflow="fold")
    for status in server_status(settings):
        style = "green" if status.ok else "yellow" if status.state in ("stopped", "starting") else "red"
        table.add_row(status.title, f"[{style}]{status.state}[/]", status.where, status.text)
    return table


def environment_for(endpoints: Endpoints, settings: Settings) -> dict[str, str]:
    """Variables to set before prefect or mlflow is imported; what the user has set of the quiet kind stays."""
    knobs = {name: value for name, value in {**TELEMETRY_OFF, **QUIET}.items() if name not in os.environ}
    addresses = {"PREFECT_API_URL": endpoints.prefect_api_url, "MLFLOW_TRACKING_URI": endpoints.tracking_uri}
    # A profile of the user's own may hold another address or the key of a hosted server: only that one may use it.
    home = {} if settings.prefect_api_url else {"PREFECT_HOME": str(_var(settings) / "prefect")}
    return {**knobs, **addresses, **home, **_past_the_proxy()}


def _past_the_proxy() -> dict[str, str]:
    """Requests to this machine must not take the way through a proxy that does not know it."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return {}
    known = [part for part in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if part]
    value = ",".join(dict.fromkeys((*known, HOST, "localhost")))
    return {"NO_PROXY": value, "no_proxy": value}


def prefect_recipe(settings: Settings) -> Recipe:
    """The local Prefect server: SQLite, with its services, since schedules need them."""
    home = _var(settings) / "prefect"
    return Recipe(
        name="prefect",
        title="Prefect",
        distribution="prefect",
        folder=_var(settings) / "servers",
        database=home / "prefect.db",
        port=settings.prefect_port,
        health_path="/api/health",
        arguments=lambda port: ("-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment=lambda port: {
            **TELEMETRY_OFF,
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
            "PREFECT_SERVER_UI_API_URL": f"{_local(port)}/api",
            "PREFECT_API_URL": f"{_local(port)}/api",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        },
        drop=("PREFECT_",),
        make=(home,),
    )


def mlflow_recipe(settings: Settings) -> Recipe:
    """The local MLflow server: SQLite and artifacts in a folder, one worker, no job runner."""
    home = _var(settings) / "mlflow"
    return Recipe(
        name="mlflow",
        title="MLflow",
        distribution="mlflow",
        folder=_var(settings) / "servers",
        database=home / "mlflow.db",
        port=settings.mlflow_port,
        health_path="/health",
        arguments=lambda port: (
            *("-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
            *("--artifacts-destination", str(home / "artifacts"), "--serve-artifacts"),
            "--uvicorn-opts=--no-access-log",
        ),
        environment=lambda _: {**TELEMETRY_OFF, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        drop=("MLFLOW_",),
        make=(home, home / "artifacts"),
    )


def _var(settings: Settings) -> Path:
    return settings.var_dir.absolute()


def _local(port: int) -> str:
    return f"http://{HOST}:{port}"


def _servers(settings: Settings) -> tuple[Recipe | Configured, Recipe | Configured]:
    """Prefect and MLflow, each either ours to start or somebody else's."""
    prefect = _configured_prefect(settings.prefect_api_url) if settings.prefect_api_url else prefect_recipe(settings)
    mlflow = _configured_mlflow(settings.tracking_uri) if settings.tracking_uri else mlflow_recipe(settings)
    return prefect, mlflow


def _configured_prefect(url: str) -> Configured:
    return Configured(
        name="prefect",
        title="Prefect",
        url=url.rstrip("/"),
        variables=("POTSTILL_PREFECT_API_URL", "PREFECT_API_URL"),
        health_path="/health",
        expected="true",
        hint="the address of a Prefect API usually ends with /api",
    )


def _configured_mlflow(url: str) -> Configured:
    return Configured(
        name="mlflow",
        title="MLflow",
        url=url.rstrip("/"),
        variables=("POTSTILL_TRACKING_URI", "MLFLOW_TRACKING_URI"),
        health_path="/health",
        expected="OK",
        hint="it should be the address of an MLflow server",
    )


def probe(server: Configured) -> str:
    """What to tell the user about a configured server; empty if it answers, or if it is no web address."""
    trouble = _trouble(server, PROBE_SECONDS)
    if not trouble:
        return ""
    return (
        f"the {server.title} server at {without_password(server.url)} (set by {server.set_by}) {trouble}. "
        f"Start it, correct {server.set_by}, or unset it to use a local server"
    )


def _trouble(server: Configured, timeout_seconds: float) -> str:
    if urlsplit(server.url).scheme not in ("http", "https"):
        return ""
    import ssl
    import urllib.error
    import urllib.request

    url = _bare(server.url) + server.health_path
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:  # noqa: S310 the scheme is http or https
            said = response.read(100).decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        # Some hosted servers ask for a key even here: they are there, and the vendor's client will show it.
        refused = error.code in (401, 403)
        error.close()
        return "" if refused else f"answers with HTTP status {error.code}; {server.hint}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        # The vendor's client may know a certificate authority that Python does not.
        return "" if isinstance(reason, ssl.SSLCertVerificationError) else f"does not answer: {reason}"
    return "" if said == server.expected else f"answers, but not like {server.title}; {server.hint}"


def without_password(url: str) -> str:
    """*url* as it may be shown."""
    parts = urlsplit(url)
    if not parts.password and not parts.username:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def prefect_api_address(settings: Settings, status: ServerStatus) -> str:
    """Of the Prefect server with that *status*, without a password."""
    return f"{status.where}/api" if status.local else _bare(settings.prefect_api_url.rstrip("/"))


def _endpoints(settings: Settings, states: Mapping[str, State], started: Sequence[str]) -> Endpoints:
    api = settings.prefect_api_url.rstrip("/") or f"{_local(states['prefect'].port)}/api"
    tracking = settings.tracking_uri.rstrip("/") or _local(states["mlflow"].port)
    is_web = urlsplit(tracking).scheme in ("http", "https")
    return Endpoints(
        prefect_api_url=api,
        prefect_ui_url=without_password(api.removesuffix("/api")),
        tracking_uri=tracking,
        mlflow_ui_url=without_password(tracking) if is_web else "",
        local=tuple(states),
        started=tuple(started),
    )


def bring_up(
    recipes: Sequence[Recipe], say: Callable[[str], None], check: Callable[[], None], deadline_seconds: float
) -> tuple[dict[str, State], list[str]]:
    """Find or start all of *recipes*, then wait for all of them together."""
    waiting = {recipe.name: _Start(recipe, say, check, deadline_seconds) for recipe in recipes}
    starts = tuple(waiting.values())
    if started := [start.recipe.title for start in starts if start.new]:
        say(f"starting the local {' and '.join(started)} server{'s' * (len(started) > 1)} in the background")
    news = time.monotonic() + NEWS_SECONDS
    while waiting:
        waiting = {name: start for name, start in waiting.items() if not start.is_ready()}
        check()
        if waiting and time.monotonic() > news:
            titles = " and ".join(start.recipe.title for start in waiting.values())
            say(f"still waiting for {titles} ({time.monotonic() - starts[0].began:.0f} s)")
            news += NEWS_SECONDS
        time.sleep(POLL_SECONDS if waiting else 0)
    return {start.recipe.name: start.state for start in starts}, [start.recipe.name for start in starts if start.new]


class _Start:
    """One local server on its way up."""

    def __init__(
        self, recipe: Recipe, say: Callable[[str], None], check: Callable[[], None], deadline_seconds: float
    ) -> None:
        self.recipe = recipe
        self.say = say
        self.check = check
        self.began = time.monotonic()
        self.attempts = 0
        self.new = False
        self.state = self._find_or_start()
        self.deadline = self.began + max(
            deadline_seconds - self.state.age_seconds, min(GRACE_SECONDS, deadline_seconds)
        )

    def _find_or_start(self) -> State:
        with processes.locked(self.recipe, self.check):
            state = processes.find(self.recipe)
            if state is not None and (reason := _outdated(self.recipe, state)):
                self.say(f"{reason}: starting it again")
                processes.stop(self.recipe)
                state = None
            if state is None:
                self.new = True
                self.attempts += 1
                state = processes.start(self.recipe)
        return state

    def is_ready(self) -> bool:
        """Whether it answers; a ServerError if it died or takes too long."""
        if processes.answers(self.recipe, self.state):
            self._remember_database()
            return True
        if not processes.is_ours(self.recipe, self.state):
            self._died()
        elif time.monotonic() > self.deadline:
            raise ServerError(
                f"{self.recipe.title} (process {self.state.pid}) does not answer on port {self.state.port} after "
                f"{time.monotonic() - self.began:.0f} s; `potstill down` ends it. "
                f"The end of its log {self.recipe.log_file}:\n{processes.log_tail(self.recipe)}"
            )
        return False

    def _remember_database(self) -> None:
        if not self.state.database:
            self.state = replace(self.state, database=processes.database_identity(self.recipe))
            with processes.locked(self.recipe, self.check):
                if processes.find(self.recipe) is not None:
                    processes.write_state(self.recipe, self.state)

    def _died(self) -> None:
        """Another process may have taken the port in the moment between choosing and using it: then once more."""
        lost_port = processes.is_taken(self.state.port)
        if self.attempts < processes.START_ATTEMPTS and (lost_port or not self.new):
            self.state = self._find_or_start()
            return
        with processes.locked(self.recipe, self.check):
            processes.forget_dead(self.recipe)
        raise ServerError(
            f"{self.recipe.title} ended while it was starting. "
            f"The end of its log {self.recipe.log_file}:\n{processes.log_tail(self.recipe)}"
        )


def _outdated(recipe: Recipe, state: State) -> str:
    """Why a running server cannot be used any more; empty if it can."""
    if state.version != recipe.version:
        return f"{recipe.title} {state.version} is running, but {recipe.version} is installed"
    if processes.database_lost(recipe, state):
        return f"the database of the running {recipe.title} server was deleted ({recipe.database})"
    return ""


def _configured_status(server: Configured) -> ServerStatus:
    trouble = _trouble(server, STATUS_SECONDS)
    return ServerStatus(
        name=server.name,
        title=server.title,
        state="unreachable" if trouble else "running",
        where=without_password(server.url),
        text=f"set by {server.set_by}" + f"; {trouble}" * bool(trouble),
        local=False,
    )


def _local_status(recipe: Recipe) -> ServerStatus:
    state = processes.find(recipe)
    stopped = ServerStatus(
        name=recipe.name, title=recipe.title, state="stopped", where="", text="started by the next run", local=True
    )
    if state is None:
        return stopped
    memory = sum(_resident(state))
    running = replace(
        stopped,
        state="running",
        where=_local(state.port),
        text=f"process {state.pid}, since {_minute(state.started)}, {memory / 2**20:.0f} MB",
        pid=state.pid,
        memory_bytes=memory,
    )
    if reason := _outdated(recipe, state):
        return replace(running, state="damaged", text=f"{reason}; the next run starts it again")
    if not processes.answers(recipe, state):
        return replace(running, state="starting", text=f"does not answer yet; log: {recipe.log_file}")
    return running


def _minute(started: str) -> str:
    """'2026-01-31T09:05:00+00:00' -> '2026-01-31 09:05 UTC'."""
    return f"{started[:16].replace('T', ' ')} UTC"


def _resident(state: State) -> Iterator[int]:
    import psutil

    for process in processes.tree(state.pid):
        try:
            yield process.memory_info().rss
        except psutil.Error:
            continue
