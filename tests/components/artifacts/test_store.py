"""The store finds what is whole, makes what is missing once, and never shows half a result."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from components.artifacts import process
from components.artifacts.artifact import MANIFEST, MEASURED, walk
from components.artifacts.key import make_key
from components.artifacts.storage import file
from components.artifacts.store import Store, verify
from components.contracts import NoProgress
from components.errors import (
    ArtifactDamagedError,
    FingerprintError,
    NondeterminismError,
    PluginNotFoundError,
    StoreError,
)
from components.settings import Settings


class Recorder(NoProgress):
    """Remembers what was said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def writer(text="payload", calls=None):
    def make(out: Path, work: Path):
        if calls is not None:
            calls.append(1)
        (out / "deep").mkdir()
        (out / "deep" / "a.txt").write_text(text)
        (out / MEASURED).mkdir()
        (out / MEASURED / "clock.txt").write_text(str(time.monotonic_ns()))
        return {"seconds": 1.5}

    return make


def obtain(store, make, *, key=None, progress=None):
    return store.obtain(key or make_key("thing", {"a": 1}), make, producer="a test", progress=progress or NoProgress())


def test_a_result_is_made_once_and_then_found(store):
    """The second request for a key runs nothing and names the producer."""
    calls = []
    first = obtain(store, writer(calls=calls))
    second = obtain(store, writer(calls=calls))

    assert (first.cached, second.cached, len(calls)) == (False, True, 1)
    assert second.producer == "a test"
    assert second.artifact.file("deep/a.txt").read_text() == "payload"


def test_what_depends_on_the_clock_is_outside_the_digest(tmp_path):
    """Two stores that measured differently hold the same digest."""
    digests = {obtain(Store(Settings(var_dir=tmp_path / name)), writer()).artifact.digest for name in "ab"}

    assert len(digests) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "remove", "add", "manifest", "measured"])
def test_any_damage_is_seen_and_the_result_made_again(store, damage):
    """Each kind of damage ends in quarantine, is said, and the bytes come back."""
    artifact = obtain(store, writer()).artifact
    path = artifact.file("deep/a.txt")
    path.chmod(0o644)
    if damage == "flip":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "extend":
        path.write_bytes(path.read_bytes() + b"\0")
    elif damage == "remove":
        path.unlink()
    elif damage == "add":
        (artifact.root / "stranger").write_text("hello")
    elif damage == "manifest":
        manifest = json.loads(artifact.file(MANIFEST).read_text())
        artifact.file(MANIFEST).write_text(json.dumps({**manifest, "key": "0" * 64}))
    else:
        artifact.measured("clock.txt").chmod(0o644)
        artifact.measured("clock.txt").write_text("another time")
    progress = Recorder()
    again = obtain(store, writer(), progress=progress)

    assert not again.cached
    assert again.artifact.digest == artifact.digest
    assert again.artifact.file("deep/a.txt").read_text() == "payload"
    assert any("quarantine" in message for message in progress.said)


EDITS = {
    "a cost": lambda text: text.replace('"seconds": 1.5', '"seconds": 2.5'),
    "a field of the key": lambda text: text.replace('"a": 1', '"a": 2'),
    "its last byte": lambda text: text[:-1],
    "its layout": lambda text: text.replace("\n ", "\n  "),
    "its line ends": lambda text: text.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_not_a_byte_of_the_manifest_may_change(store, edit):
    """Also what neither key nor digest covers is as it was written, or the result counts as damaged."""
    artifact = obtain(store, writer()).artifact
    path = artifact.file(MANIFEST)
    edited = edit(path.read_text())
    assert edited != path.read_text()
    path.write_bytes(edited.encode())

    assert store.find("thing", artifact.key) is None


def test_a_manifest_of_another_schema_is_told_from_a_damaged_one(store):
    """The message says which this version reads."""
    path = obtain(store, writer()).artifact.file(MANIFEST)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    progress = Recorder()
    obtain(store, writer(), progress=progress)

    assert any("its schema is 1, and this version of Potstill reads 2" in message for message in progress.said)


def test_a_link_to_the_same_content_is_damage(store, tmp_path):
    """What it points to may change or go at any time."""
    artifact = obtain(store, writer()).artifact
    for name in ("deep/a.txt", MANIFEST):
        path, elsewhere = artifact.file(name), tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        with pytest.raises(ArtifactDamagedError, match=r"(deep/a.txt|it) is no plain file"):
            verify(artifact.root, "thing", artifact.key)
        path.unlink()
        elsewhere.rename(path)


def test_a_result_may_not_hold_links(store, tmp_path):
    """They would not survive a move to another machine."""

    def make(out: Path, work: Path):
        (out / "link").symlink_to(tmp_path)
        return {}

    with pytest.raises(StoreError, match="link is a link or a device"):
        obtain(store, make)


@pytest.mark.parametrize("left", ["files", "nothing", "a file"])
def test_what_is_no_artifact_makes_way(store, left):
    """A folder whose manifest is gone, an empty one, or a file of that name is set aside, not in the way for ever."""
    artifact = obtain(store, writer()).artifact
    shutil.rmtree(artifact.root)
    if left == "a file":
        artifact.root.write_text("not a folder")
    else:
        artifact.root.mkdir()
    if left == "files":
        (artifact.root / "some").write_text("thing")
    again = obtain(store, writer())

    assert (again.cached, again.artifact.digest) == (False, artifact.digest)
    assert store.quarantined("thing", artifact.key)


def test_a_file_that_cannot_be_read_is_not_called_damaged(store, monkeypatch):
    """A disk that fails for a moment costs no result: the error names the file, and everything stays where it is."""
    artifact = obtain(store, writer()).artifact

    def fails(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("components.artifacts.store.sha256_of", fails)
    with pytest.raises(StoreError, match=r"/deep/a.txt cannot be read or written \(Input/output error\); look after"):
        store.find("thing", artifact.key)
    monkeypatch.undo()

    assert store.find("thing", artifact.key)


def test_large_files_are_hashed_side_by_side_to_the_same_end(store, monkeypatch):
    """Threads change neither digest nor what is found damaged."""
    alone = obtain(store, writer()).artifact
    monkeypatch.setattr("components.artifacts.store.LARGE_BYTES", 1)
    together = obtain(store, writer(), key=make_key("thing", {"a": 2})).artifact
    assert together.digest == alone.digest
    together.file("deep/a.txt").chmod(0o644)
    together.file("deep/a.txt").write_text("Payload")

    with pytest.raises(ArtifactDamagedError, match="deep/a.txt has other content"):
        verify(together.root, "thing", together.key)


def test_damage_that_two_runs_see_at_once_is_set_aside_once(store):
    """The slower one finds nothing to move, and goes on."""
    artifact = obtain(store, writer()).artifact
    first = store.storage.quarantine("thing", artifact.key)
    second = store.storage.quarantine("thing", artifact.key)

    assert (first.exists(), second.exists()) == (True, False)
    assert store.find("thing", artifact.key) is None


def test_two_results_for_one_key_on_one_machine_are_an_error_that_names_both(store):
    """Nondeterminism is never papered over."""
    key = make_key("thing", {"a": 1})

    def slow(out: Path, work: Path):
        (out / "a.txt").write_text("one")
        other = Store(store.settings)
        staged = other.storage.staging(key.kind, key.digest)
        (staged / "a.txt").write_text("two")
        other._publish(staged, key, producer="the other", cost={})
        return {}

    with pytest.raises(NondeterminismError, match=r"'a test'.*'the other'"):
        obtain(store, slow, key=key)


def test_a_result_from_another_machine_is_used_and_said_or_refused(store, settings):
    """A foreign fingerprint is a remark, and an error only when the settings are strict."""
    obtain(store, writer())
    elsewhere = settings.model_copy(update={"num_threads": 7})
    progress = Recorder()

    assert obtain(Store(elsewhere), writer(), progress=progress).cached
    assert any("threads 1 (here 7)" in message for message in progress.said)
    with pytest.raises(FingerprintError, match="threads 1"):
        obtain(Store(elsewhere.model_copy(update={"strict_fingerprint": True})), writer())


def test_a_failing_step_leaves_only_its_work(store):
    """What was staged is gone; the scratch folder, where checkpoints live, is kept."""

    def fails(out: Path, work: Path):
        (out / "half.txt").write_text("half")
        (work / "checkpoint").write_text("kept")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        obtain(store, fails)
    files = sorted(path.name for path in store.storage.root.rglob("*") if path.is_file())

    assert [name for name in files if not name.startswith("thing-")] == ["checkpoint"]


def test_a_hit_tidies_up_after_a_run_that_was_killed_once_it_had_published(store):
    """Work that nobody will go on with goes, unless somebody is at work there."""
    key = make_key("thing", {"a": 1})
    obtain(store, writer())
    work = store.storage.scratch(key.kind, key.digest)
    (work / "checkpoint").write_text("old")
    with store.unless_busy(key.kind, key.digest):
        assert obtain(store, writer()).cached
        assert work.exists()

    assert obtain(store, writer()).cached
    assert not work.exists()


def test_an_unknown_scheme_is_an_error_and_never_the_local_disk(tmp_path):
    """`azzure://` says what exists."""
    with pytest.raises(PluginNotFoundError, match="found: file"):
        Store(Settings(store="azzure://bucket/prefix"))


def test_a_miss_names_the_field_that_differs(store):
    """The nearest result is the one with the fewest differences."""
    obtain(store, writer(), key=make_key("thing", {"params": {"t": 1, "alpha": 2}}))
    obtain(store, writer(), key=make_key("thing", {"params": {"t": 9, "alpha": 9}}))
    miss = store.explain_miss(make_key("thing", {"params": {"t": 3, "alpha": 2}}))

    assert miss.fields == ("params.t: 1 -> 3",)
    assert miss.seconds == 1.5


RACER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from components.artifacts.key import make_key
    from components.artifacts.store import Store
    from components.contracts import NoProgress
    from components.settings import Settings

    def make(out, work):
        with (Path(sys.argv[1]) / "calls").open("a") as calls:
            calls.write("x")
        for index in range(int(sys.argv[2])):
            (out / f"{index}.bin").write_bytes(bytes([index % 251]) * 50_000)
        return {}

    store = Store(Settings(var_dir=Path(sys.argv[1])))
    print(store.obtain(make_key("thing", {}), make, producer="p", progress=NoProgress()).artifact.digest)
    """
)


def racer(folder: Path, num_files: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(folder), str(num_files)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def test_runs_that_want_the_same_key_at_once_compute_it_once(tmp_path):
    """Four processes, one computation, one digest."""
    tmp_path.joinpath("calls").touch()
    racers = [racer(tmp_path, 20) for _ in range(4)]
    digests = {process.communicate(timeout=120)[0] for process in racers}

    assert len(digests) == 1
    assert tmp_path.joinpath("calls").read_text() == "x"


def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(tmp_path):
    """After each of 12 SIGKILLs the key is absent or whole; in the end it is the undisturbed digest."""
    undisturbed = racer(tmp_path / "calm", 60)
    (tmp_path / "calm").mkdir(exist_ok=True)
    expected = undisturbed.communicate(timeout=60)[0]
    stormy = tmp_path / "stormy"
    stormy.mkdir()
    for attempt in range(12):
        process = racer(stormy, 60)
        time.sleep(0.25 + 0.012 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = Store(Settings(var_dir=stormy)).find("thing", make_key("thing", {}).digest)
        assert found is None or f"{found.digest}\n" == expected

    assert racer(stormy, 60).communicate(timeout=60)[0] == expected
    Store(Settings(var_dir=stormy)).storage.sweep("thing")
    assert list((stormy / "store" / "thing").glob(".*")) == []


def gone_pid():
    """Of a process that was there."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    ("where", "pid", "stays"),
    [
        (process.machine, gone_pid, False),
        (process.machine, os.getppid, True),
        (lambda: "0123456789abcdef", gone_pid, True),
        (lambda: "", gone_pid, True),
    ],
    ids=["gone", "alive", "another machine's", "nobody knows whose"],
)
def test_a_sweep_removes_what_a_gone_process_of_this_machine_left(store, monkeypatch, where, pid, stays):
    """A process number says nothing about another machine: what that has left goes a day after the last change."""
    folder = store.storage.root / "thing" / f".0123-{where()}-{pid()}-ffff"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("half")

    store.storage.sweep("thing")
    assert folder.exists() == stays

    monkeypatch.setattr(file, "ABANDONED_SECONDS", -1.0)
    store.storage.sweep("thing")
    assert folder.exists() == (pid is os.getppid)


def test_a_run_removes_what_a_killed_one_had_staged(store):
    left = store.storage.root / "thing" / f".0123-{process.machine()}-{gone_pid()}-ffff"
    left.mkdir(parents=True)
    obtain(store, writer())

    assert not left.exists()


def test_what_is_being_filled_is_named_so_that_a_sweep_spares_it(store):
    staged = store.storage.staging("thing", "0" * 64)
    store.storage.sweep("thing")

    assert staged.exists()


def test_a_folder_that_cannot_be_listed_is_an_error():
    """Instead of being taken for an empty one; root, who may list everything, is nobody meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        closed = Path(name) / "closed"
        closed.mkdir()
        (closed / "a.txt").write_text("text")
        Path(name).chmod(0o755)
        closed.chmod(0o000)
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(65534)
            with pytest.raises(PermissionError):
                walk(Path(name))
        finally:
            os.seteuid(me)
            closed.chmod(0o700)


def _hold(path: str, ready, release) -> None:
    from components.artifacts import lock

    with lock.held(Path(path), wait_seconds=5, waiting=lambda _: None):
        ready.set()
        release.wait(30)


def test_a_lock_dies_with_its_holder(tmp_path):
    """A SIGKILLed holder frees the lock; a live one is named when the wait is over."""
    from components.artifacts import lock

    spawn = multiprocessing.get_context("spawn")
    ready, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(str(tmp_path / "l"), ready, release))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(StoreError, match=f"process {holder.pid}"):
        lock.held(tmp_path / "l", wait_seconds=0.3, waiting=lambda _: None).__enter__()
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()

    with lock.held(tmp_path / "l", wait_seconds=5, waiting=lambda _: None):
        pass
