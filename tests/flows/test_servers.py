"""Local servers are started once, found again, stopped whole, and never mistaken for somebody else's."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from components.contracts import NoProgress
from components.errors import InterruptedRunError, ServerError
from components.settings import Settings
from flows import server_processes as processes
from flows.server_processes import HOST, Recipe
from flows.servers import (
    Endpoints,
    bring_up,
    ensure_servers,
    environment_for,
    mlflow_recipe,
    prefect_recipe,
    server_status,
    status_table,
    stop_servers,
    without_password,
)
from tests.conftest import free_ports

ROOT = Path(__file__).parents[2]
SMALL = """
import http.server, os, sys, time
wait, port = float(sys.argv[1]), int(sys.argv[-1])
print("a small server", flush=True)
if wait < 0:
    sys.exit("cannot go on: the reason")
time.sleep(wait)
http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def small(folder: Path, *, wait: float = 0.0, port: int | None = None) -> Recipe:
    """A real server that is up in a moment; *wait* seconds before it listens, or it ends at once if negative."""
    script = folder / "small.py"
    script.write_text(SMALL)
    return Recipe(
        name="small",
        title="Small",
        distribution="psutil",
        folder=folder / "servers",
        database=folder / "small.db",
        port=port or free_ports(1)[0],
        health_path="/",
        arguments=lambda chosen: (str(script), str(wait), str(chosen)),
        environment=lambda _: {},
    )


def up(recipe: Recipe, *, seconds: float = 30) -> tuple[processes.State, bool]:
    """Its state, and whether it had to be started."""
    states, started = bring_up([recipe], str, NoProgress().check, seconds)
    return states[recipe.name], bool(started)


@contextmanager
def stopped_after(*recipes: Recipe) -> Iterator[None]:
    """Whatever happens, nothing is left running."""
    try:
        yield
    finally:
        for recipe in recipes:
            recipe.folder.mkdir(parents=True, exist_ok=True)
            with processes.locked(recipe):
                processes.stop(recipe)
            assert processes.strays(recipe) == []


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Recipe]:
    recipe = small(tmp_path)
    with stopped_after(recipe):
        yield recipe


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with this project."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def test_a_server_is_started_once_and_found_again(recipe: Recipe):
    """The second call neither starts nor changes anything."""
    first, started = up(recipe)
    again, restarted = up(recipe)
    assert (started, restarted) == (True, False)
    assert first == again
    assert processes.answers(recipe, first)


def test_it_outlives_the_command_that_started_it(recipe: Recipe):
    """It has a session of its own, so that neither Ctrl-C nor a closed terminal reaches it."""
    state, _ = up(recipe)
    assert os.getsid(state.pid) == state.pid
    assert os.getpgid(state.pid) == state.pid


def test_stop_ends_it_and_forgets_it(recipe: Recipe):
    """A second stop says that there was nothing."""
    state, _ = up(recipe)
    with processes.locked(recipe):
        assert processes.stop(recipe)
        assert not processes.stop(recipe)
    assert not psutil.pid_exists(state.pid)
    assert not recipe.state_file.exists()


def test_a_taken_port_is_passed_over(tmp_path: Path):
    """The next free one is used, and the one who listens on the wished one is left alone."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        recipe = small(tmp_path, port=taken.getsockname()[1])
        with stopped_after(recipe):
            assert up(recipe)[0].port > recipe.port


def test_a_port_lost_while_starting_is_no_failure(tmp_path: Path):
    """Somebody takes the port between the choice and the use of it: the server starts again on another one."""
    recipe = small(tmp_path, wait=1.0)
    with stopped_after(recipe), socket.socket() as taken:

        def take() -> None:
            if taken.getsockname()[1] == 0:
                state = processes.find(recipe)
                assert state is not None
                taken.bind((HOST, state.port))
                taken.listen()

        states, _ = bring_up([recipe], str, take, 30)
        assert states["small"].port != taken.getsockname()[1] > 0


def test_somebody_elses_answer_on_the_port_does_not_count(tmp_path: Path):
    """A healthy answer must come from the server's own process."""
    mine, other = small(tmp_path, wait=600), small(tmp_path)
    mine = replace(mine, folder=tmp_path / "mine")
    with stopped_after(mine, other):
        state, _ = up(other)
        mine.folder.mkdir()
        with processes.locked(mine):
            silent = processes.start(mine)
        assert not processes.answers(mine, replace(silent, port=state.port))


def test_one_that_ends_while_starting_shows_the_end_of_its_log(tmp_path: Path):
    """With the path of the log; no state file stays."""
    recipe = small(tmp_path, wait=-1)
    with stopped_after(recipe), pytest.raises(ServerError) as failure:
        up(recipe)
    assert "ended while it was starting" in str(failure.value)
    assert "  a small server\n  cannot go on: the reason" in str(failure.value)
    assert str(recipe.log_file) in str(failure.value)
    assert not recipe.state_file.exists()


def test_one_that_does_not_answer_is_given_up_in_time(tmp_path: Path):
    """It is left running, since it may be slow; the message says how to end it."""
    recipe = small(tmp_path, wait=600)
    with stopped_after(recipe):
        with pytest.raises(ServerError, match=r"does not answer on port \d+ after 1 s; `potstill down` ends it"):
            up(recipe, seconds=1)
        assert processes.find(recipe) is not None


def test_waiting_can_be_interrupted(tmp_path: Path):
    """Ctrl-C during the start is heard; the next command finds the server on its way."""
    recipe = small(tmp_path, wait=600)

    def interrupt() -> None:
        raise InterruptedRunError

    with stopped_after(recipe):
        with pytest.raises(InterruptedRunError):
            bring_up([recipe], str, interrupt, 30)
        assert processes.find(recipe) is not None


def test_slow_starts_are_talked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who waits is told for what."""
    monkeypatch.setattr("flows.servers.NEWS_SECONDS", 0.3)
    recipe, said = small(tmp_path, wait=1.0), []
    with stopped_after(recipe):
        bring_up([recipe], said.append, NoProgress().check, 30)
    assert said[0] == "starting the local Small server in the background"
    assert said[1].startswith("still waiting for Small (")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"pid": 1}', "[1]", '{"pid": 1, "x": 2}'])
def test_a_damaged_state_file_is_as_good_as_none(recipe: Recipe, text: str):
    """The next start replaces it."""
    recipe.folder.mkdir(parents=True)
    recipe.state_file.write_text(text)
    assert processes.find(recipe) is None
    assert up(recipe)[1]


def test_a_reused_pid_is_not_taken_for_the_server(recipe: Recipe, stranger: subprocess.Popen[bytes]):
    """A process with the remembered pid but another command is neither used nor ended."""
    state, _ = up(recipe)
    with processes.locked(recipe):
        processes.stop(recipe)
    born = psutil.Process(stranger.pid).create_time()
    processes.write_state(recipe, replace(state, pid=stranger.pid, create_time=born))
    assert processes.find(recipe) is None
    with processes.locked(recipe):
        assert not processes.stop(recipe)
    assert stranger.poll() is None
    assert up(recipe)[1]


def test_the_same_command_born_at_another_time_is_not_taken_for_the_server(recipe: Recipe):
    """The birth of the process is part of its identity."""
    state, _ = up(recipe)
    processes.write_state(recipe, replace(state, create_time=state.create_time - 60))
    assert processes.find(recipe) is None


def test_a_lost_state_file_leaves_no_second_server(recipe: Recipe):
    """The stray is recognised by its environment and ended before a new one starts."""
    first, _ = up(recipe)
    recipe.state_file.unlink()
    second, started = up(recipe)
    assert started
    assert not psutil.pid_exists(first.pid)
    assert [process.pid for process in processes.strays(recipe)] == [second.pid]


def test_a_killed_server_is_started_again(recipe: Recipe):
    """SIGKILL leaves a state file that is not believed."""
    first, _ = up(recipe)
    psutil.Process(first.pid).kill()
    psutil.wait_procs([psutil.Process(first.pid)] if psutil.pid_exists(first.pid) else [], timeout=10)
    second, started = up(recipe)
    assert started
    assert second.pid != first.pid


def test_another_installed_version_replaces_the_running_one(recipe: Recipe):
    """Client and server must not differ."""
    first, _ = up(recipe)
    processes.write_state(recipe, replace(first, version="0.0.1"))
    second, started = up(recipe)
    assert started
    assert second.version == recipe.version
    assert not psutil.pid_exists(first.pid)


@pytest.mark.slow
def test_many_commands_at_once_start_one_server(tmp_path: Path):
    """Six processes, one pid."""
    recipe = small(tmp_path, wait=0.5)
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\nfrom test_servers import small, up\n"
        f"print(up(small(Path({str(tmp_path)!r}), wait=0.5, port={recipe.port}))[0].pid)"
    )
    with stopped_after(recipe):
        commands = [
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(6)
        ]
        pids = {command.communicate(timeout=60)[0].strip() for command in commands}
        assert pids == {str(up(recipe)[0].pid)}
        assert len(processes.strays(recipe)) == 1


def test_a_read_only_place_is_a_clear_error(tmp_path: Path):
    """With the place and the variable that names another one, not a traceback."""
    (tmp_path / "file").write_text("")
    recipe = replace(small(tmp_path), folder=tmp_path / "file" / "servers")
    with pytest.raises(ServerError, match="POTSTILL_VAR_DIR"):
        up(recipe)


def test_a_configured_server_that_does_not_answer_stops_everything(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Both are named with the variables that set them, and nothing has been started."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("POTSTILL_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    configured = Settings(var_dir=settings.var_dir)
    with pytest.raises(ServerError) as failure:
        ensure_servers(configured)
    for part in ("Prefect server at http://127.0.0.1:9/api (set by PREFECT_API_URL)", "(set by POTSTILL_TRACKING_URI)"):
        assert part in str(failure.value)
    assert "secret" not in str(failure.value)
    assert not configured.var_dir.exists()
    assert [status.state for status in server_status(configured)] == ["unreachable", "unreachable"]


def test_one_configured_server_that_is_down_keeps_the_local_one_from_starting(settings: Settings):
    """It is said first, so that nothing is left behind by a run that cannot go on."""
    with pytest.raises(ServerError, match="MLflow"):
        ensure_servers(settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"}))
    assert not settings.var_dir.exists()


def test_an_address_that_is_something_else_is_told_apart(recipe: Recipe, settings: Settings):
    """A web server answers, but not like Prefect or MLflow."""
    port = up(recipe)[0].port
    wrong = {"tracking_uri": f"http://{HOST}:{port}/", "prefect_api_url": f"http://{HOST}:{port}"}
    with pytest.raises(ServerError) as failure:
        ensure_servers(settings.model_copy(update=wrong))
    assert "answers with HTTP status 404; the address of a Prefect API usually ends with /api" in str(failure.value)
    assert "answers with HTTP status 404; it should be the address of an MLflow server" in str(failure.value)


def test_a_tracking_uri_that_is_no_web_address_is_not_asked(settings: Settings, tmp_path: Path):
    """sqlite:///... has no server; it has no pages to look at either."""
    configured = settings.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/x.db"})
    assert server_status(configured)[1].state == "running"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("http://me:pa@ss@host:5000/x", "http://***@host:5000/x"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("https://token@host", "https://***@host"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str):
    """Neither a password nor a token before the host."""
    assert without_password(url) == shown


def test_the_environment_keeps_what_the_user_has_set(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Addresses are this run's, quiet logging and time limits only where nothing was said; a proxy is passed by."""
    endpoints = Endpoints("http://127.0.0.1:1/api", "", "http://127.0.0.1:2", "", local=(), started=())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "intranet")
    found = environment_for(endpoints, settings)
    assert found["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert found["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:2"
    assert found["PREFECT_HOME"] == str(settings.var_dir / "prefect")
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in found
    assert found["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    hosted = settings.model_copy(update={"prefect_api_url": "https://hosted/api"})
    assert "PREFECT_HOME" not in environment_for(endpoints, hosted)


# The real ones.


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def send(url: str, *, body: object = None, raw: bytes = b"", method: str = "POST") -> str:
    data = raw or json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def experiments(endpoints: Endpoints) -> list[str]:
    found = json.loads(send(f"{endpoints.tracking_uri}/api/2.0/mlflow/experiments/search", body={"max_results": 100}))
    return [experiment["name"] for experiment in found["experiments"]]


def pids(settings: Settings) -> list[int | None]:
    return [status.pid for status in server_status(settings)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A folder with a blank in its name, and free ports."""
    settings = Settings(
        var_dir=tmp_path_factory.mktemp("a world") / "var", prefect_port=free_ports(1)[0], mlflow_port=free_ports(1)[0]
    )
    yield settings
    stop_servers(settings)
    for recipe in (prefect_recipe(settings), mlflow_recipe(settings)):
        assert processes.strays(recipe) == []


@pytest.fixture
def endpoints(world: Settings) -> Endpoints:
    return ensure_servers(world)


@pytest.mark.service
def test_both_servers_come_up_with_their_pages(world: Settings):
    """The pages in a browser talk to the port that was chosen."""
    endpoints = ensure_servers(world)
    assert endpoints.local == ("prefect", "mlflow")
    assert get(f"{endpoints.prefect_api_url}/health") == "true"
    assert json.loads(get(f"{endpoints.prefect_ui_url}/ui-settings"))["api_url"] == endpoints.prefect_api_url
    for page in (endpoints.prefect_ui_url, endpoints.mlflow_ui_url):
        assert "<html" in get(page)
    assert [status.state for status in server_status(world)] == ["running", "running"]
    assert status_table(world).row_count == 2
    assert all(" UTC, " in status.text for status in server_status(world))


@pytest.mark.service
def test_a_later_command_uses_the_running_servers(world: Settings, endpoints: Endpoints):
    """In well under a second, with nothing started."""
    before, began = pids(world), time.monotonic()
    again = ensure_servers(world)
    assert time.monotonic() - began < 1
    assert again.started == ()
    assert again.tracking_uri == endpoints.tracking_uri
    assert pids(world) == before


@pytest.mark.service
def test_they_listen_to_this_machine_only_and_stay_small(world: Settings, endpoints: Endpoints):
    """Every listening socket is on the loopback address; each server is under 2 GiB."""
    for status in server_status(world):
        assert status.pid is not None
        assert status.memory_bytes is not None
        assert status.memory_bytes < 2 * 2**30
        listening = [
            connection.laddr.ip
            for process in processes.tree(status.pid)
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {HOST}


@pytest.mark.service
def test_mlflow_keeps_artifacts_under_var(world: Settings, endpoints: Endpoints):
    """A client needs only the address: artifacts go through the server."""
    created = json.loads(send(f"{endpoints.tracking_uri}/api/2.0/mlflow/experiments/create", body={"name": "kept"}))
    url = f"{endpoints.tracking_uri}/api/2.0/mlflow-artifacts/artifacts/{created['experiment_id']}/x.txt"
    send(url, raw=b"some bytes", method="PUT")
    assert get(url) == "some bytes"
    found = list((world.var_dir / "mlflow" / "artifacts").rglob("x.txt"))
    assert [path.read_bytes() for path in found] == [b"some bytes"]


@pytest.mark.service
def test_configured_servers_that_answer_are_used_and_not_touched(endpoints: Endpoints, settings: Settings):
    """With both addresses given, nothing is started and no folder appears."""
    given = {"prefect_api_url": endpoints.prefect_api_url, "tracking_uri": endpoints.tracking_uri}
    found = ensure_servers(settings.model_copy(update=given))
    assert (found.local, found.started) == ((), ())
    assert found.prefect_ui_url == endpoints.prefect_ui_url
    assert not settings.var_dir.exists()
    forgot_the_api = settings.model_copy(update={"prefect_api_url": endpoints.prefect_ui_url})
    with pytest.raises(ServerError, match="usually ends with /api"):
        ensure_servers(forgot_the_api)


FLOW = """
import logging
from prefect import flow, get_run_logger
@flow(name="quiet")
def quiet():
    get_run_logger().info("news for the server")
    get_run_logger().error("an error for the server")
    get_run_logger().critical("the worst for both")
quiet()
"""


@pytest.mark.service
def test_the_terminal_stays_quiet_and_the_server_gets_everything(world: Settings, endpoints: Endpoints, tmp_path: Path):
    """Prefect's log stays off the console, tracebacks included, while its page shows the whole log of the run."""
    script = tmp_path / "quiet.py"
    script.write_text(FLOW)
    environment = {**os.environ, **environment_for(endpoints, world)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "the worst for both" in done.stderr
    assert done.stdout + done.stderr == done.stderr
    assert len(done.stderr.splitlines()) == 1
    logged = json.loads(send(f"{endpoints.prefect_api_url}/logs/filter", body={"limit": 100}))
    messages = [entry["message"] for entry in logged]
    assert "news for the server" in messages
    assert "an error for the server" in messages
    assert "the worst for both" in messages


@pytest.mark.service
def test_a_database_deleted_under_a_running_server_is_noticed(world: Settings, endpoints: Endpoints):
    """status says so, and the next run starts that server again, empty, and leaves the other one alone."""
    send(f"{endpoints.tracking_uri}/api/2.0/mlflow/experiments/create", body={"name": "lost"})
    prefect_pid = pids(world)[0]
    (world.var_dir / "mlflow" / "mlflow.db").unlink()
    # The server answers from the file it still holds open, or makes an empty one, which is no database any more.
    with suppress(urllib.error.HTTPError):
        experiments(endpoints)
    status = server_status(world)[1]
    assert status.state == "damaged"
    assert "was deleted" in status.text
    said: list[str] = []
    again = ensure_servers(world, say=said.append)
    assert again.started == ("mlflow",)
    assert "the database of the running MLflow server was deleted" in said[0]
    assert experiments(again) == ["Default"]
    assert pids(world)[0] == prefect_pid


@pytest.mark.service
def test_a_database_deleted_while_it_is_down_is_an_empty_mlflow(world: Settings, endpoints: Endpoints):
    """Nothing complains; what belongs there is logged again by the next run."""
    send(f"{endpoints.tracking_uri}/api/2.0/mlflow/experiments/create", body={"name": "gone"})
    assert sorted(stop_servers(world)) == ["MLflow", "Prefect"]
    assert stop_servers(world) == ()
    assert [status.state for status in server_status(world)] == ["stopped", "stopped"]
    (world.var_dir / "mlflow" / "mlflow.db").unlink()
    assert experiments(ensure_servers(world)) == ["Default"]


@pytest.mark.service
def test_a_killed_mlflow_leaves_no_orphan(world: Settings, endpoints: Endpoints):
    """Its worker outlives the parent and holds the port: the next start ends it."""
    pid = pids(world)[1]
    assert pid is not None
    worker = _children(pid)
    psutil.Process(pid).kill()
    assert any(process.is_running() for process in worker)
    again = ensure_servers(world)
    assert again.started == ("mlflow",)
    assert not any(process.is_running() for process in worker)


def _children(pid: int) -> Sequence[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    assert found
    return found
