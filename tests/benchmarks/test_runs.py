"""What whole commands cost, as a user meets them: processes of their own, in a fresh copy of the project."""

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_ports

pytestmark = [pytest.mark.bench, pytest.mark.service, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
POTSTILL = Path(sys.executable).with_name("potstill")
NUM_STEPS = 8
MIB, GIB = 2**20, 2**30
IDENTITY = {f"GIT_{role}_{key}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
IMPORTED = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)
COMPUTED = re.compile(r"^✓ (.+?) +computed · (\S+)", re.MULTILINE)
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Done:
    """A command that ended well."""

    seconds: float
    cpu_seconds: float
    """Of the command and the processes it waited for: what a busy machine stretches least."""
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """A copy of the project as a git repository, its var/ empty, its servers on ports of their own."""

    root: Path
    prefect_port: int
    mlflow_port: int

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("POTSTILL_", "PREFECT_", "MLFLOW_")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PYTHONPATH": str(self.root),
            "POTSTILL_VAR_DIR": str(self.root / "var"),
            "POTSTILL_PREFECT_PORT": str(self.prefect_port),
            "POTSTILL_MLFLOW_PORT": str(self.mlflow_port),
        }

    def potstill(self, *arguments: str) -> Done:
        return self.call(str(POTSTILL), *arguments)

    def call(self, *command: str, environment: Mapping[str, str] | None = None) -> Done:
        started, cpu_before = time.perf_counter(), cpu_seconds_of_children()
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds, cpu_seconds = time.perf_counter() - started, cpu_seconds_of_children() - cpu_before
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return Done(seconds, cpu_seconds, done.stdout, done.stderr)


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median_line(done: Sequence[Done]) -> tuple[float, str]:
    """The median wall time, and in words with the processor's part."""
    middle = statistics.median(one.seconds for one in done)
    busy = statistics.median(one.cpu_seconds for one in done)
    return middle, f"median {middle:.2f} s of {len(done)} ({busy:.2f} s of processor)"


def fresh_world(folder: Path) -> World:
    for name in ("components", "flows"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run(
            ("git", *command), cwd=folder, check=True, env={**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
        )
    return World(folder, *free_ports(2))


@dataclass
class PeakMemory:
    """Peak resident bytes of this process's descendants, each alone, while it is entered."""

    peaks: dict[tuple[int, float], tuple[str, int]] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "PeakMemory":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(SAMPLE_SECONDS):
            for process in me.children(recursive=True):
                try:
                    self.peaks[process.pid, process.create_time()] = _name(process), _peak_bytes(process.pid)
                except (psutil.Error, OSError):
                    continue

    def table(self) -> str:
        """The largest process of each name, the largest first."""
        largest: dict[str, int] = {}
        for name, peak in self.peaks.values():
            largest[name] = max(peak, largest.get(name, 0))
        ordered = sorted(largest.items(), key=lambda item: -item[1])
        return "\n".join(f"  {peak / MIB:8.0f} MiB  {name}" for name, peak in ordered)


def _name(process: psutil.Process) -> str:
    """The command without its folders and without what is particular to this run."""
    words = [Path(word).name for word in process.cmdline() if not word.startswith("-")]
    return " ".join(words[1:4] if words[0].startswith("python") else words[:2])


def _peak_bytes(pid: int) -> int:
    """High-water mark of resident memory as Linux keeps it, so that sampling misses no peak but the last moment's."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kib[1]) * 1024 if kib else 0  # a zombie has none


@dataclass(frozen=True)
class Job:
    """What `make run` does once the environment is there."""

    data: Done
    run: Done

    @property
    def seconds(self) -> float:
        return self.data.seconds + self.run.seconds

    def line(self) -> str:
        steps = ", ".join(f"{title} {duration}" for title, duration in COMPUTED.findall(self.run.out))
        return (
            f"{self.seconds:.1f} s (example-data {self.data.seconds:.1f} s, run {self.run.seconds:.1f} s "
            f"({self.run.cpu_seconds:.1f} s of processor) with {steps})"
        )


def job(world: World) -> Job:
    done = Job(data=world.potstill("example-data"), run=world.potstill("run"))
    assert len(COMPUTED.findall(done.run.out)) == NUM_STEPS
    return done


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, PeakMemory]:
    """The job with nothing there and no server up, watched from the side."""
    world = fresh_world(tmp_path_factory.mktemp("cold"))
    try:
        with PeakMemory() as memory:
            done = job(world)
    finally:
        world.potstill("down")
    return done, memory


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose two servers are up."""
    made = fresh_world(tmp_path_factory.mktemp("warm"))
    try:
        made.potstill("up")
        yield made
    finally:
        made.potstill("down")


@pytest.fixture(scope="module")
def first(world: World) -> Job:
    """The job with the servers up and an empty store; what comes after finds everything there."""
    return job(world)


def test_the_job_from_cold(cold: tuple[Job, PeakMemory]):
    """At most 180 s for the example data, the servers' start and the run."""
    print(f"\n`make run` after set-up, from cold: {cold[0].line()}, at most 180 s")
    assert cold[0].seconds <= 180


def test_no_process_of_the_job_is_large(cold: tuple[Job, PeakMemory]):
    """At most 2 GiB resident in any process, the servers among them."""
    memory = cold[1]
    names = " ".join(name for name, _ in memory.peaks.values())
    assert all(part in names for part in ("potstill run", "prefect server", "mlflow server"))
    peak = max(peak for _, peak in memory.peaks.values())
    print(f"\npeak resident memory of the job's processes: {peak / MIB:.0f} MiB, at most 2048 MiB\n{memory.table()}")
    assert peak <= 2 * GIB


def test_the_job_with_the_servers_up(first: Job):
    """At most 120 s with an empty store."""
    print(f"\n`make run` after set-up, servers up: {first.line()}, at most 120 s")
    assert first.seconds <= 120


def imports(world: World, *arguments: str) -> dict[str, float]:
    """Seconds that importing each module took in a process of its own, without those that it imports in turn."""
    done = world.call(sys.executable, "-X", "importtime", str(POTSTILL), *arguments)
    found = {module: int(microseconds) / 1e6 for microseconds, module in IMPORTED.findall(done.err)}
    assert "flows.launch" in found
    return found


def by_package(modules: Mapping[str, float]) -> str:
    """The seconds of the packages that cost the most, and of all."""
    groups: Counter[str] = Counter()
    for module, seconds in modules.items():
        groups[module.partition(".")[0]] += seconds
    costly = ", ".join(f"{name} {seconds:.2f}" for name, seconds in groups.most_common(12))
    return f"imports {groups.total():.2f} s in {len(modules)} modules ({costly})"


def not_imported(modules: Mapping[str, float], *packages: str) -> bool:
    return not {module.partition(".")[0] for module in modules} & set(packages)


def covered_seconds(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of the union."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def server_time(world: World, out: Path, *arguments: str) -> str:
    """How long requests to each server were under way, together and alone; those that overlap count once."""
    done = world.call(sys.executable, str(HERE / "_http_requests.py"), str(out), *arguments)
    requests = json.loads(out.read_text())
    by_port: dict[str, list[tuple[float, float]]] = {str(world.prefect_port): [], str(world.mlflow_port): []}
    for server, start, end in requests:
        by_port[server.rpartition(":")[2]].append((start, end))
    assert all(by_port.values())
    each = ", ".join(
        f"{title} {covered_seconds(found):.2f} s in {len(found)} requests"
        for title, found in zip(("Prefect", "MLflow"), by_port.values(), strict=True)
    )
    together = covered_seconds([(start, end) for _, start, end in requests])
    return f"servers {together:.2f} s of {done.seconds:.2f} s ({each})"


def test_a_run_that_finds_everything(world: World, first: Job, tmp_path: Path):
    """At most 10 s, without torch and great_expectations; where the time goes is listed."""
    runs = [world.potstill("run") for _ in range(3)]
    assert all(run.out.count(" Cached (made by ") == NUM_STEPS for run in runs)
    modules = imports(world, "run")
    middle, line = median_line(runs)
    print(
        f"\nall-cached `potstill run`: {line}, at most 10 s"
        f"\n  {by_package(modules)}\n  {server_time(world, tmp_path / 'requests.json', 'run')}"
    )
    assert not_imported(modules, "torch", "great_expectations")
    assert middle <= 10


@pytest.mark.parametrize("name", ["data", "student", "evaluate"])
def test_a_stage_that_finds_everything(world: World, first: Job, name: str):
    """At most 1.5 s, without torch, great_expectations and prefect."""
    stages = [world.potstill("stage", name) for _ in range(5)]
    assert all(not COMPUTED.search(stage.out) and " Cached (made by " in stage.out for stage in stages)
    modules = imports(world, "stage", name)
    middle, line = median_line(stages)
    print(f"\ncached `potstill stage {name}`: {line}, at most 1.5 s\n  {by_package(modules)}")
    assert not_imported(modules, "torch", "great_expectations", "prefect")
    assert middle <= 1.5


def test_help(world: World):
    """At most 0.5 s for a whole process."""
    world.potstill("--help")
    middle, line = median_line([world.potstill("--help") for _ in range(9)])
    print(f"\n`potstill --help`: {line}, at most 0.5 s")
    assert middle <= 0.5


def test_prefect_costs_little(world: World, first: Job, tmp_path: Path):
    """The flow takes at most 1.03 of the time of the same calls without Prefect, plus 2.5 s, imports apart.

    Every run has a process of its own: OpenMP's threads of the one arm would hinder those of the other.
    """
    arms = ["without", "with", "with", "without"]  # in this order a slow drift of the machine hits both alike
    overrides = ["teacher.train.epochs=200"]
    addresses = {
        "PREFECT_API_URL": f"http://127.0.0.1:{world.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{world.mlflow_port}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    found = []
    for turn, arm in enumerate(arms):
        folder = tmp_path / f"{turn}-{arm}"
        folder.mkdir()
        request, out = folder / "request.json", folder / "timed.json"
        request.write_text(json.dumps({"folder": str(folder), "warm_up": [], "overrides": overrides, "arm": arm}))
        script = HERE / "_with_and_without_prefect.py"
        world.call(sys.executable, str(script), str(request), str(out), environment=addresses)
        found.append(json.loads(out.read_text()))
    assert all(one["num_cached"] == 0 and len(one["digests"]) == NUM_STEPS for one in found)
    assert all(one["digests"] == found[0]["digests"] for one in found)
    walls, besides = {}, {}
    for arm in ("without", "with"):
        runs = [one for one in found if one["arm"] == arm]
        walls[arm] = min(one["wall_seconds"] for one in runs)
        besides[arm] = min(one["wall_seconds"] - one["step_seconds"] for one in runs)
        each = ", ".join(f"{one['wall_seconds']:.1f} s ({one['step_seconds']:.1f} s in steps)" for one in runs)
        print(f"\n{arm} prefect: {each}", end="")
    allowed = 1.03 * walls["without"] + 2.5
    print(
        f"\nflow {walls['with']:.2f} s against {walls['without']:.2f} s without Prefect, at most {allowed:.2f} s; "
        f"outside the steps {besides['with']:.2f} s against {besides['without']:.2f} s"
    )
    assert walls["without"] >= 60
    assert walls["with"] <= allowed
