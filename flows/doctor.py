"""`potstill doctor`: what would stop a run, or make it another one than you think, found in under two seconds."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from components import plugins
from components.artifacts.fingerprint import device_name, num_threads
from components.errors import PotstillError
from components.settings import TELEMETRY_OFF, Settings
from flows.deployments import FLOWS, SILENT
from flows.servers import ServerStatus, prefect_api_address, server_status, without_password

Level = Literal["ok", "warn", "fail"]
PROJECT = "potstill"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PYTHON = ((3, 11), (3, 13))
SHOWN = ("torch", "prefect", "mlflow", "dvc", "great-expectations")
TRAPS = {
    "fastapi": "Prefect's server fails at import",
    "sqlalchemy": "Prefect's scheduled runs never start, without an error anywhere",
}
"""Packages whose too new versions install without complaint, and what then happens."""
DISK_FAIL_BYTES = 2**30
DISK_WARN_BYTES = 5 * 2**30
MEMORY_WARN_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    level: Level
    text: str
    hint: str = ""
    """The way out, where something is wrong."""


def diagnose(settings: Settings, params_file: Path) -> list[Check]:
    """Look at everything a run stands on; nothing is started, and no heavy library imported."""
    looks: tuple[Callable[[], Sequence[Check]], ...] = (
        _versions,
        _git,
        lambda: (_disk(settings),),
        lambda: tuple(_writing(settings)),
        lambda: (_store(settings),),
        lambda: tuple(_servers(settings)),
        lambda: (_params(params_file),),
        lambda: tuple(_telemetry(os.environ)),
        lambda: (_compute(settings), _memory()),
    )
    with ThreadPoolExecutor(len(looks)) as pool:
        return [check for found in pool.map(lambda look: look(), looks) for check in found]


def print_diagnosis(checks: Sequence[Check]) -> int:
    """Draw *checks*; the exit code is 1 if one of them failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        text = Text(check.text)
        if check.hint:
            text.append(f"\n{check.hint}", style="dim")
        table.add_row(Text(check.level, style=STYLES[check.level]), check.name, text)
    console = Console()
    console.print(table)
    console.print(_summary(checks))
    return int(any(check.level == "fail" for check in checks))


STYLES: Mapping[Level, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def _summary(checks: Sequence[Check]) -> str:
    failed, warned = (sum(check.level == level for check in checks) for level in ("fail", "warn"))
    if failed:
        return f"{failed} of {len(checks)} checks failed: a run would not get through."
    return f"A run can start{f'; {warned} warnings' if warned else ''}."


def _versions() -> Sequence[Check]:
    pins = _pins()
    return (_python(), *_broken_requirements(), *(_version(name, pins) for name in SHOWN), *_traps(pins))


def _python() -> Check:
    found = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    if PYTHON[0] <= found < PYTHON[1]:
        return Check("python", "ok", text)
    wanted = f"{PYTHON[0][0]}.{PYTHON[0][1]} up to, not including, {PYTHON[1][0]}.{PYTHON[1][1]}"
    return Check("python", "fail", f"{text}; wanted is {wanted}", "make a new environment: make clean setup")


def _pins() -> dict[str, str]:
    """Of the lock file: package -> version."""
    try:
        lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: version for line in lines if not line.startswith("#") for name, _, version in [line.partition("==")]}


def _installed(name: str) -> str:
    """The installed version without its local part (+cpu); empty if there is none."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def _version(name: str, pins: Mapping[str, str]) -> Check:
    found, pinned = _installed(name), pins.get(name)
    if not found:
        return Check(name, "fail", "is not installed", "make setup")
    if pinned and found != pinned:
        return Check(name, "warn", f"{found}; the lock file has {pinned}", "make setup brings it back")
    return Check(name, "ok", found)


def _traps(pins: Mapping[str, str]) -> Iterator[Check]:
    from packaging.requirements import Requirement

    declared = {wanted.name: wanted for wanted in map(Requirement, importlib.metadata.requires(PROJECT) or ())}
    for name, symptom in TRAPS.items():
        found, wanted = _installed(name), declared.get(name)
        if found and wanted and not wanted.specifier.contains(found):
            yield Check(name, "fail", f"{found} is not {wanted.specifier}: {symptom}", "make setup brings it back")
        else:
            yield _version(name, pins)


def _broken_requirements() -> Iterator[Check]:
    """What pyproject.toml asks for and this environment does not have."""
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires(PROJECT) or ():
        wanted = Requirement(line)
        if wanted.name in TRAPS or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found = _installed(wanted.name)
        if not found or not wanted.specifier.contains(found, prereleases=True):
            yield Check(wanted.name, "fail", f"{found or 'missing'}; wanted is {wanted.specifier}", "make setup")


def _git() -> Sequence[Check]:
    if not shutil.which("git"):
        return (Check("git", "fail", "is not on PATH", "install git: data versions are git revisions"),)
    done = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False, timeout=10)
    return (Check("git", "ok", done.stdout.strip().removeprefix("git version ")),)


def _existing(folder: Path) -> Path:
    """*folder*, or the nearest of its parents that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _disk(settings: Settings) -> Check:
    folder = settings.var_dir.absolute()
    free = shutil.disk_usage(_existing(folder)).free
    text = f"{free / 2**30:,.1f} GiB free for {folder}"
    level: Level = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    return Check("disk", level, text, "" if level == "ok" else "make room, or give another place with POTSTILL_VAR_DIR")


def _writing(settings: Settings) -> Iterator[Check]:
    yield _write("var", settings.var_dir.absolute(), "POTSTILL_VAR_DIR")
    store = urlsplit(settings.store_url)
    folder = Path(store.path if store.scheme else settings.store_url).absolute()
    if store.scheme in ("", "file") and not folder.is_relative_to(settings.var_dir.absolute()):
        yield _write("store folder", folder, "POTSTILL_STORE")


def _write(name: str, folder: Path, variable: str) -> Check:
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as scratch:
            _exercise(Path(scratch))
    except OSError as error:
        text = f"cannot write to {folder}: {error.strerror or error}"
        return Check(name, "fail", text, f"make it writable, or give another place with {variable}")
    finally:
        for place in new:
            with suppress(OSError):
                place.rmdir()
    return Check(name, "ok", f"{folder} can be written, locked and renamed in")


def _exercise(folder: Path) -> None:
    """Everything the store relies on: durable writes, locks, and a rename."""
    with (folder / "probe").open("wb") as stream:
        stream.write(b"probe")
        stream.flush()
        os.fsync(stream.fileno())
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "probe").rename(folder / "renamed")
    (folder / "renamed").unlink()


def _store(settings: Settings) -> Check:
    scheme, known = urlsplit(settings.store_url).scheme or "file", plugins.available("storage")
    shown = without_password(settings.store_url)
    if scheme in known:
        return _storage(settings, scheme)
    hint = f"POTSTILL_STORE may be a folder or an address that begins with one of: {', '.join(known)}"
    return Check("store", "fail", f"nothing here can store at {shown}: no storage {scheme!r}", hint)


def _storage(settings: Settings, scheme: str) -> Check:
    try:
        return Check("store", "ok", plugins.load("storage", scheme).open_storage(settings).check())
    except PotstillError as error:
        return Check("store", "fail", str(error), "nothing can be computed until the store answers")


def _servers(settings: Settings) -> Iterator[Check]:
    for status in server_status(settings):
        yield _server(status)
        if status.name == "prefect" and status.ok:
            yield from _schedules(prefect_api_address(settings, status))


def _server(status: ServerStatus) -> Check:
    level: Level = "fail" if status.state == "unreachable" else "warn" if status.state == "damaged" else "ok"
    hint = "potstill down, then potstill up" if status.state == "damaged" else ""
    where = f"{status.state}, {status.where}" if status.where else status.state
    return Check(status.title, level, f"{where} ({status.text})" if status.text else where, hint)


def _schedules(api: str) -> Iterator[Check]:
    """Whether what is deployed will run: nothing says so where nobody picks it up. Silent where the server does not tell."""
    try:
        names = {each["id"]: each["name"] for each in _prefect_has(api, "flows", {"name": {"any_": FLOWS}})}
        deployed = [each for each in _prefect_has(api, "deployments", {}) if each["flow_id"] in names]
        automations = _prefect_has(api, "automations", {"name": {"any_": [SILENT]}})
    except (OSError, ValueError):
        return
    for each in deployed:
        yield _deployment(f"{names[each['flow_id']]}/{each['name']}", each)
    if deployed and not any(each["enabled"] for each in automations):
        text = "the automation is gone by which a run that falls silent is marked Crashed: it would stay Running"
        yield Check("schedules", "warn", text, "potstill deploy makes it again")


def _deployment(name: str, found: Mapping[str, Any]) -> Check:
    pool = found["work_pool_name"]
    if found["paused"] or found["status"] == "READY":
        return Check("schedules", "ok", f"{name} is {'paused' if found['paused'] else 'waited for'}")
    hint = f"prefect worker start --pool {pool}" if pool else "potstill serve"
    return Check("schedules", "warn", f"nobody picks up the runs of {name}", hint)


def _prefect_has(api: str, what: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Without Prefect's client, which takes a second to import. OSError or ValueError where the server does not tell."""
    import urllib.request

    asked = json.dumps({what: wanted} if wanted else {}).encode()
    request = urllib.request.Request(f"{api}/{what}/filter", asked, {"Content-Type": "application/json"})  # noqa: S310 http or https
    with urllib.request.urlopen(request, timeout=1) as response:  # noqa: S310
        found: list[dict[str, Any]] = json.load(response)
    return found


def _params(params_file: Path) -> Check:
    from components.params import load_params

    try:
        load_params(params_file)
    except PotstillError as error:
        return Check("parameters", "fail", str(error), "potstill params shows every parameter")
    return Check("parameters", "ok", f"{params_file} is complete and free of contradictions")


def _telemetry(environment: Mapping[str, str]) -> Iterator[Check]:
    wrong = [name for name, value in TELEMETRY_OFF.items() if environment.get(name, value) != value]
    if wrong:
        told = ", ".join(f"{name}={environment[name]} (not {TELEMETRY_OFF[name]})" for name in wrong)
        yield Check("telemetry", "warn", f"set by you: {told}", f"unset {' '.join(wrong)} to send nothing to vendors")
    else:
        yield Check("telemetry", "ok", "off for every vendor")


def _compute(settings: Settings) -> Check:
    threads, usable = num_threads(settings), _usable_cores()
    text = f"device {device_name(settings)}, {threads} threads of torch, {usable:g} cores usable"
    if threads > usable:
        return Check(
            "compute", "warn", text, f"more threads than cores: set POTSTILL_NUM_THREADS={max(1, int(usable))}"
        )
    return Check("compute", "ok", text)


def _usable_cores() -> float:
    """Cores that this process may use: fewer than the machine's under an affinity or a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return min(allowed, int(quota) / int(period)) if quota.isdigit() and period.isdigit() else allowed


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, int(limit) - int(used))
    text = f"{free / 2**30:,.1f} GiB available"
    if free < MEMORY_WARN_BYTES:
        return Check("memory", "warn", text, "each process of the example stays under 2 GiB; close something")
    return Check("memory", "ok", text)


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
