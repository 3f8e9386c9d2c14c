"""Background processes of this project's own: started once, found again by later commands, never confused with others."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from components.artifacts import lock
from components.errors import ServerError

HOST = "127.0.0.1"
OWNER = "POTSTILL_SERVER_STATE"
"""Variable in a server's environment that names its state file, so that a lost one is still recognised."""
LOG_TAIL_LINES = 10
STOP_SECONDS = 10.0
START_ATTEMPTS = 3
LOCK_SECONDS = 60.0
CREATE_TIME_TOLERANCE_SECONDS = 2.0
PORTS_TRIED = 100


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of server is started and asked whether it is well."""

    name: str
    title: str
    distribution: str
    """Its package: a server of another version is replaced."""
    folder: Path
    """Holds the state file, the lock and the log."""
    database: Path
    port: int
    """Wished for; the next free one is taken."""
    health_path: str
    arguments: Callable[[int], Sequence[str]]
    """Of python, for a port."""
    environment: Callable[[int], Mapping[str, str]]
    drop: tuple[str, ...] = ()
    """Prefixes of variables that the server must not inherit."""
    make: tuple[Path, ...] = field(default=())
    """Folders that must exist."""

    @property
    def state_file(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.distribution)


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a server that was started."""

    pid: int
    create_time: float
    port: int
    started: str
    version: str
    database: str = ""
    """Device and inode of its database once it answers; empty before."""

    @property
    def age_seconds(self) -> float:
        return max(0.0, time.time() - self.create_time)


@contextmanager
def locked(recipe: Recipe, check: Callable[[], None] | None = None) -> Iterator[None]:
    """Only one command at a time starts or stops this server; *check* is called while another one does."""

    def waiting(_holder: str) -> None:
        if check is not None:
            check()

    with (
        explained(recipe.folder),
        lock.held(recipe.folder / f"{recipe.name}.lock", wait_seconds=LOCK_SECONDS, waiting=waiting),
    ):
        yield


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the file system says into a ServerError with the way out."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServerError(
            f"cannot write {error.filename or folder}: {reason}; make room or give another place with POTSTILL_VAR_DIR"
        ) from error


def find(recipe: Recipe) -> State | None:
    """The running server, or None; a state file of a dead or foreign process is not believed."""
    state = read_state(recipe)
    return state if state is not None and is_ours(recipe, state) else None


def read_state(recipe: Recipe) -> State | None:
    try:
        return State(**json.loads(recipe.state_file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(recipe: Recipe, state: State) -> None:
    """Replace the state file in one step, so that a reader sees the old or the new one."""
    staged = recipe.state_file.with_suffix(f".{os.getpid()}.tmp")
    with staged.open("w", encoding="utf-8") as stream:
        json.dump(asdict(state), stream)
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(recipe.state_file)


def is_ours(recipe: Recipe, state: State) -> bool:
    """Whether the process is alive and the one that was started: same pid, same birth, same command."""
    try:
        process = psutil.Process(state.pid)
        same_birth = abs(process.create_time() - state.create_time) < CREATE_TIME_TOLERANCE_SECONDS
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and same_birth and _has_arguments(process, recipe.arguments(state.port))
    except psutil.Error:
        return False


def _has_arguments(process: psutil.Process, arguments: Sequence[str]) -> bool:
    return process.cmdline()[-len(arguments) :] == list(arguments)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants, as far as they are alive."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def strays(recipe: Recipe) -> list[psutil.Process]:
    """Processes of this server that no state file names: their starter, or their parent, was killed."""
    me = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in me and _belongs(process, recipe)]


def _belongs(process: psutil.Process, recipe: Recipe) -> bool:
    try:
        return process.environ().get(OWNER) == str(recipe.state_file)
    except (psutil.Error, OSError):
        return False


def start(recipe: Recipe) -> State:
    """Start the server detached from this process and its terminal; the caller holds the lock."""
    stop_processes(strays(recipe))
    for folder in (recipe.folder, *recipe.make):
        folder.mkdir(parents=True, exist_ok=True)
    port = free_port(recipe.port)
    if recipe.log_file.exists():
        recipe.log_file.replace(recipe.log_file.with_suffix(".log.1"))
    with recipe.log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *recipe.arguments(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=recipe.folder,
            env=_environment(recipe, port),
            start_new_session=True,
        )
    state = State(
        pid=process.pid,
        create_time=_create_time(process.pid),
        port=port,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        version=recipe.version,
    )
    # It outlives this process on purpose; without a return code Popen would warn about that.
    process.returncode = 0
    write_state(recipe, state)
    return state


def _create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return time.time()


def _environment(recipe: Recipe, port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(recipe.drop)}
    return {**inherited, **recipe.environment(port), OWNER: str(recipe.state_file)}


def free_port(wished: int) -> int:
    """The first port from *wished* on that nobody listens to on this machine."""
    for port in range(wished, min(wished + PORTS_TRIED, 65536)):
        if not is_taken(port):
            return port
    raise ServerError(f"no free port on {HOST} in {wished}..{min(wished + PORTS_TRIED, 65536) - 1}")


def is_taken(port: int) -> bool:
    """Whether somebody listens on *port* of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        # Where a wildcard listener does not stop a bind to the loopback address, connecting still shows it.
        if probe.connect_ex((HOST, port)) == 0:
            return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def answers(recipe: Recipe, state: State) -> bool:
    """Whether this server, and not another one on its port, says it is healthy."""
    connection = http.client.HTTPConnection(HOST, state.port, timeout=3)
    try:
        connection.request("GET", recipe.health_path)
        healthy = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return healthy and listens(state)


def listens(state: State) -> bool:
    """Whether one of the server's own processes holds its port."""
    return any(_holds(process, state.port) for process in tree(state.pid))


def _holds(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)


def stop(recipe: Recipe) -> bool:
    """Stop the server and whatever is left of it; whether there was anything. The caller holds the lock."""
    state = find(recipe)
    running = {process.pid: process for process in (*(tree(state.pid) if state else ()), *strays(recipe))}
    stop_processes(running.values())
    recipe.state_file.unlink(missing_ok=True)
    return bool(running)


def stop_processes(processes: Iterable[psutil.Process]) -> None:
    """Ask politely, wait, then kill."""
    waiting = list(processes)
    for process in waiting:
        _signal(process.terminate)
    _, stubborn = psutil.wait_procs(waiting, timeout=STOP_SECONDS)
    for process in stubborn:
        _signal(process.kill)
    psutil.wait_procs(stubborn, timeout=STOP_SECONDS)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def forget_dead(recipe: Recipe) -> None:
    """Remove the state file of a server that is gone. The caller holds the lock."""
    if find(recipe) is None:
        recipe.state_file.unlink(missing_ok=True)


def log_tail(recipe: Recipe) -> str:
    """The last lines of the server's log, indented."""
    try:
        lines = recipe.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (nothing)"


def database_identity(recipe: Recipe) -> str:
    try:
        found = recipe.database.stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def database_lost(recipe: Recipe, state: State) -> bool:
    """Whether the database that the running server was started on has been deleted or replaced."""
    return bool(state.database) and (state.database != database_identity(recipe) or not _has_tables(recipe.database))


def _has_tables(database: Path) -> bool:
    # A server whose file was deleted creates an empty one at its next connection, perhaps with the same inode.
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            query = "select count(*) from sqlite_master where name = 'alembic_version'"
            return bool(connection.execute(query).fetchone()[0])
    except sqlite3.Error:
        return True
