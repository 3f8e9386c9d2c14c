"""Many writers of one key, with readers in between: one wins, and nobody ever reads half of anything."""

import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from components.artifacts.key import make_key
from components.artifacts.storage import _conformance
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import NondeterminismError
from components.settings import Settings

pytestmark = pytest.mark.service


def key_number(index: int):
    return make_key("thing", {"number": index})


def _store(url: str, folder: Path) -> Store:
    _conformance.NUM_WRITERS, _conformance.NUM_ROUNDS = 2, 1
    folder.mkdir(parents=True, exist_ok=True)
    return Store(Settings(store=url, var_dir=folder, num_threads=1, device="cpu", store_deadline_seconds=120))


def _write(url: str, folder: Path, name: str, num_keys: int, start) -> None:
    """Publish each key at the same moment as all others, with files that say whose they are."""
    store = _store(url, folder)
    publish, won = store.storage.publish, []
    store.storage.publish = lambda *arguments: won.append(publish(*arguments)) or won[-1]
    for index in range(num_keys):
        key = key_number(index)
        staged = store.storage.staging(key.kind, key.digest)
        for part in range(4):
            (staged / f"{part}.txt").write_text(f"{name} {part} " * 1000)
        start.wait(120)
        try:
            store._publish(staged, key, producer=name, cost={})
        except NondeterminismError:  # each writer's content is another one, on purpose
            assert not won[-1]
    (folder / "won.json").write_text(json.dumps(won))


def _read(url: str, folder: Path, num_keys: int, done) -> None:
    """Find every key again and again, and look that all files are of the producer whom the manifest names."""
    store, seen, said = _store(url, folder), 0, []
    progress = NoProgress()
    progress.say = said.append
    last_round = False
    while not last_round:
        last_round = done.is_set()
        for index in range(num_keys):
            found = store.find("thing", key_number(index).digest, progress=progress)
            if found is not None:
                seen += 1
                producer = found.manifest().producer
                assert all(found.file(f"{part}.txt").read_text() == f"{producer} {part} " * 1000 for part in range(4))
    (folder / "read.json").write_text(json.dumps({"seen": seen, "said": said}))


def race(url: str, folder: Path, *, num_writers: int, num_readers: int, num_keys: int) -> tuple[list, list]:
    """What each writer won and each reader saw."""
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(num_writers), spawn.Event()
    names = [f"writer-{index}" for index in range(num_writers)]
    writers = [spawn.Process(target=_write, args=(url, folder / name, name, num_keys, start)) for name in names]
    places = [folder / f"reader-{index}" for index in range(num_readers)]
    readers = [spawn.Process(target=_read, args=(url, place, num_keys, done)) for place in places]
    for process in (*writers, *readers):
        process.start()
    for writer in writers:
        writer.join(1200)
    done.set()
    for reader in readers:
        reader.join(300)
    assert [process.exitcode for process in (*writers, *readers)] == [0] * (num_writers + num_readers)
    won = [json.loads((folder / name / "won.json").read_text()) for name in names]
    return won, [json.loads((place / "read.json").read_text()) for place in places]


@pytest.mark.parametrize(
    ("num_writers", "num_readers", "num_keys"),
    [
        pytest.param(4, 2, 5, marks=pytest.mark.slow),
        pytest.param(8, 4, 50, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_one_writer_wins_each_key_and_no_read_is_torn(
    s3_settings, tmp_path, s3_client, prefix, num_writers, num_readers, num_keys
):
    """In processes, each as if on a machine of its own; the winner is the producer that everybody reads."""
    won, read = race(s3_settings.store, tmp_path, num_writers=num_writers, num_readers=num_readers, num_keys=num_keys)
    store = _store(s3_settings.store, tmp_path / "afterwards")
    for index in range(num_keys):
        winners = [f"writer-{number}" for number, wins in enumerate(won) if wins[index]]
        assert winners == [store.find("thing", key_number(index).digest).manifest().producer]
    print(f"{num_writers} writers x {num_keys} keys: {Counter(sum(wins) for wins in won)} wins; reads {read}")
    assert all(reader["seen"] >= num_keys and reader["said"] == [] for reader in read)
    assert s3_client.list_objects_v2(Bucket="potstill", Prefix=f"{prefix}/quarantine/").get("Contents", []) == []


@pytest.mark.parametrize(
    ("num_writers", "num_readers", "num_keys"),
    [
        pytest.param(8, 2, 20, marks=pytest.mark.slow),
        pytest.param(32, 4, 200, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_one_writer_wins_each_key_in_a_directory(tmp_path, num_writers, num_readers, num_keys):
    """The rename decides: one winner a key, whose files everybody reads, and nothing is left of the others."""
    place = tmp_path / "store"
    won, read = race(str(place), tmp_path, num_writers=num_writers, num_readers=num_readers, num_keys=num_keys)
    store = _store(str(place), tmp_path / "afterwards")
    for index in range(num_keys):
        winners = [f"writer-{number}" for number, wins in enumerate(won) if wins[index]]
        assert winners == [store.find("thing", key_number(index).digest).manifest().producer]
    print(f"{num_writers} writers x {num_keys} keys: {Counter(sum(wins) for wins in won)} wins; reads {read}")
    assert all(reader["seen"] >= num_keys and reader["said"] == [] for reader in read)
    assert len(list((place / "thing").iterdir())) == num_keys
    assert not (place / ".quarantine").exists()


RACER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from components.artifacts.key import make_key
    from components.artifacts.store import Store
    from components.contracts import NoProgress
    from components.settings import Settings

    def make(out, work):
        with open(sys.argv[3], "a") as calls:
            calls.write("x")
        for index in range(20):
            (out / f"{index}.bin").write_bytes(bytes([index]) * 50_000)
        return {}

    store = Store(Settings(store=sys.argv[1], var_dir=Path(sys.argv[2])))
    print(store.obtain(make_key("thing", {}), make, producer="p", progress=NoProgress()).artifact.digest)
    """
)


def racer(url: str, folder: Path, calls: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", RACER, url, str(folder), str(calls)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd(), env=dict(os.environ))


def test_runs_that_want_the_same_key_at_once_compute_it_once(s3_settings, tmp_path):
    """Three processes as if on three machines, one computation, one digest."""
    (tmp_path / "calls").touch()
    racers = [racer(s3_settings.store, tmp_path / str(number), tmp_path / "calls") for number in range(3)]
    digests = {process.communicate(timeout=120)[0] for process in racers}

    assert len(digests) == 1
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(s3_settings, tmp_path):
    """After each SIGKILL the key is absent or whole for everyone; the next attempt does not wait for the dead one."""
    expected = racer(f"{s3_settings.store}-calm", tmp_path / "calm", tmp_path / "calls").communicate(timeout=60)[0]
    afterwards = _store(s3_settings.store, tmp_path / "afterwards")
    for attempt in range(8):
        process = racer(s3_settings.store, tmp_path / "stormy", tmp_path / "calls")
        try:
            process.communicate(timeout=0.9 + 0.1 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        found = afterwards.find("thing", make_key("thing", {}).digest)
        assert found is None or f"{found.digest}\n" == expected

    assert racer(s3_settings.store, tmp_path / "stormy", tmp_path / "calls").communicate(timeout=50)[0] == expected
