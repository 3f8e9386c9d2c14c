"""A disk that is full or read-only, at several moments of a run: one message, nothing half done, and on it goes."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts.disk import free_bytes

pytestmark = [pytest.mark.slow, pytest.mark.service]
KIB = 2**10
FIRST_STEPS = ("data", "validate", "teacher")


def leave(folder: Path, num_bytes: int) -> None:
    """Fill the disk of *folder* so that about *num_bytes* are free on it."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as stream:
        for _ in range((free_bytes(folder) - num_bytes) // (4 * KIB)):
            stream.write(bytes(4 * KIB))


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def unfinished(world) -> list[Path]:
    """Staging folders: what is neither an artifact nor work to go on with."""
    return list((world.var / "store").glob("[!.]*/.*"))


@pytest.fixture
def calm(world, servers):
    """An undisturbed run and what it left."""
    world = replace(world, var_name="calm")
    assert world.command(*world.run_as(world.root.name), **servers).code == 0
    return world.shown(servers["MLFLOW_TRACKING_URI"], world.root.name)


@pytest.fixture
def small(world, disk: Callable[[str], Path]) -> tuple:
    """The same, with all its results on a small disk of its own."""
    folder = disk("64m")
    return replace(world, var_name=f"{folder.name}/var"), folder


def test_a_run_stops_wherever_the_disk_is_full_and_goes_on_when_it_is_not(calm, small, servers):
    """With ever more room: checkout, artifacts, locks, report; what is committed stays whole, and the end is the same."""
    world, folder = small
    names, room, reached = f"{world.root.name}-full", 16 * KIB, set()
    while True:
        leave(folder, room)
        ended = world.command(*world.run_as(names), **servers)
        reached.add(tuple(sorted(world.digests())))
        assert unfinished(world) == []
        if ended.code == 0:
            break
        message = ended.refused_with(1)
        assert re.search("free some and run again|make space", message), message
        assert str(folder) in message
        room = room * 3 // 2

    found = world.shown(servers["MLFLOW_TRACKING_URI"], names)
    assert len(reached) >= 4
    assert found == replace(calm, versions=dict(zip(found.versions, calm.versions.values(), strict=True)))


@pytest.mark.soak
def test_chunks_of_soft_targets_outlast_a_full_disk(calm, small):
    """Each one that fits is kept, and the teacher is asked for the others only."""
    world, folder = small
    for name in FIRST_STEPS:
        assert world.command("stage", name).code == 0
    work, room, kept = world.var / "store" / ".work" / "soft_targets", 0, []
    while True:
        leave(folder, room)
        ended = world.command("stage", "soft_targets")
        assert unfinished(world) == []
        if ended.code == 0:
            break
        assert "free some" in ended.refused_with(1)
        kept.append(len(list(work.glob("*/**/chunk-*.bin"))))
        room += 8 * KIB
    assert kept == sorted(kept)
    assert {count > 0 for count in kept} == {True, False}
    assert world.digests()["soft_targets"] == calm.digests["soft_targets"]


@pytest.fixture
def with_own_servers(small) -> Iterator[tuple]:
    """Databases on the small disk, artifacts elsewhere."""
    world, folder = small
    try:
        assert world.command("up").code == 0
        yield world, folder
    finally:
        leave(folder, 8 * KIB * KIB)
        world.stop_servers()


@pytest.mark.parametrize("room", [0, pytest.param(800 * KIB, marks=pytest.mark.soak)])
def test_servers_whose_disk_is_full_are_told_apart_from_a_bug(calm, with_own_servers, room: int):
    """Prefect's database takes nothing, or MLflow's takes half of it: then runs and versions are there, once."""
    world, folder = with_own_servers
    elsewhere = {"POTSTILL_STORE": str(world.root / "calm" / "store")}
    leave(folder, room)
    message = world.command(*world.run_as("served"), **elsewhere).refused_with(1)
    assert f"No space is left for the servers in {folder}/var: free some and run again" in message

    (folder / "ballast").unlink()
    ended = world.command(*world.run_as("served"), **elsewhere)
    assert ended.code == 0, ended.err
    found = world.shown(world.server_url("mlflow"), "served")
    assert (found.runs, found.complete, found.num_logged_models) == (calm.runs, True, calm.num_logged_models)
    assert list(found.versions.values()) == list(calm.versions.values())
    assert found.champion == calm.champion


def test_a_read_only_store_serves_what_it_holds_and_refuses_the_rest(calm, small, servers):
    """A shared store that one may only read is of use; the message for more names it and the way out."""
    world, folder = small
    names = f"{world.root.name}-closed"
    here, elsewhere = {"POTSTILL_STORE": str(folder / "store")}, {"POTSTILL_VAR_DIR": str(world.root / "elsewhere")}
    assert world.command(*world.run_as(names), **servers, **here, **elsewhere).code == 0
    remount(folder, "ro")
    try:
        again = world.command(*world.run_as(names), **servers, **here, **elsewhere)
        assert (again.code, again.err) == (0, "")
        changed = (*world.run_as(names), "--set=student.objective.temperature=8")
        message = world.command(*changed, **servers, **here, **elsewhere).refused_with(1)
        assert f"{folder}/store" in message
        assert "Read-only file system" in message
        assert "POTSTILL_STORE" in message
    finally:
        remount(folder, "rw")
    assert world.command(*changed, **servers, **here, **elsewhere).code in (0, 3)


@pytest.mark.parametrize("shared", [True, False], ids=["servers of the team", "servers of its own"])
def test_a_read_only_place_is_said_before_anything_starts(small, servers, *, shared: bool):
    """Results, or the servers' own files."""
    world, folder = small
    remount(folder, "ro")
    try:
        message = world.command("run", **(servers if shared else {})).refused_with(1)
    finally:
        remount(folder, "rw")
    assert f"{folder}/var" in message
    assert "Read-only file system" in message
    assert "POTSTILL_VAR_DIR" in message
    assert not world.var.exists()


@pytest.mark.soak
def test_a_full_folder_for_temporary_files_is_not_the_servers_fault(calm, world, servers, disk: Callable[[str], Path]):
    """The place is named; with room again the same command ends as the undisturbed one."""
    folder = disk("128k")
    names = f"{world.root.name}-temporary"
    message = world.command(*world.run_as(names), **servers, TMPDIR=str(folder)).refused_with(1)
    assert f"no space left for {folder}" in message
    assert world.command(*world.run_as(names), **servers).code == 0
    found = world.shown(servers["MLFLOW_TRACKING_URI"], names)
    assert found == replace(calm, versions=dict(zip(found.versions, calm.versions.values(), strict=True)))
