"""Collection frees what nothing stands on, never anything else, and a kill leaves no half artifact."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.artifact import Artifact, Manifest
from components.artifacts.collection import (
    CHECKS,
    collect,
    discard_leftovers,
    last_used,
    leftovers,
    pin,
    pins,
    plan_collection,
    unpin,
)
from components.artifacts.inventory import Entry, entries
from components.artifacts.key import make_key
from components.artifacts.lock import held
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import BadInputError, StoreError

NEVER = datetime(1971, 1, 1, tzinfo=UTC)
LATER = datetime(2999, 1, 1, tzinfo=UTC)
LIMIT = datetime(2026, 1, 15, tzinfo=UTC)
KILLED = """
import sys
from components.artifacts.collection import collect
from components.artifacts.inventory import entries
from components.artifacts.store import Store
from components.settings import Settings

store = Store(Settings())
print("ready", flush=True)
collect(store, entries(store, ("teacher",)), {})
"""


def add(store: Store, kind: str, text: str, **inputs: str) -> Artifact:
    def make(out: Path, work: Path) -> dict[str, float]:
        for number in range(20):
            (out / f"{number}.txt").write_text(text)
        return {}

    key = make_key(kind, {"text": text, "inputs": inputs})
    return store.obtain(key, make, producer="a", progress=NoProgress()).artifact


def everything(store: Store) -> list[Entry]:
    return entries(store, store.storage.kinds())


def kinds_that_go(store: Store, *, registered: tuple[str, ...] = (), before: datetime = LATER) -> list[str]:
    used = last_used(store, store.storage.kinds())
    return sorted(
        entry.kind for entry in plan_collection(everything(store), registered=registered, used=used, before=before)
    )


def entry(number: int, inputs: list[int], day: int) -> Entry:
    fields = {"inputs": {f"kind{each}": digest_of(each) for each in inputs}}
    created = datetime(2026, 1, day, tzinfo=UTC).isoformat()
    return Entry(f"kind{number}", key_of(number), Manifest(
        f"kind{number}", key_of(number), fields, (), (), digest_of(number), "a", {}, created
    ))  # fmt: skip


def key_of(number: int) -> str:
    return f"{number:064x}"


def digest_of(number: int) -> str:
    return f"d{number:063x}"


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Of each artifact, those before it that it was made from, and the day."""
    size = draw(st.integers(0, 12))
    days = st.integers(1, 28)
    return [
        (draw(st.lists(st.integers(0, number - 1), unique=True)) if number else [], draw(days))
        for number in range(size)
    ]


@given(graphs(), st.sets(st.integers(0, 11)), st.dictionaries(st.integers(0, 11), st.integers(1, 28)))
def test_what_a_root_reaches_stays_and_all_else_goes(graph, registered, used_on):
    """Roots: registered, made or used at the limit or later; reached by following inputs by hand."""
    found = [entry(number, inputs, day) for number, (inputs, day) in enumerate(graph)]
    used = {
        (f"kind{each}", key_of(each)): datetime(2026, 1, day, tzinfo=UTC).timestamp() for each, day in used_on.items()
    }
    reached = {
        number
        for number, (_, day) in enumerate(graph)
        if day >= 15 or number in registered or used_on.get(number, 0) >= 15
    }
    for number in reversed(range(len(graph))):
        reached |= set(graph[number][0]) if number in reached else set()

    gone = plan_collection(found, registered={digest_of(each) for each in registered}, used=used, before=LIMIT)

    assert {each.key for each in gone} == {key_of(number) for number in range(len(graph)) if number not in reached}


def test_what_is_young_stays_with_all_it_stands_on(store: Store) -> None:
    data = add(store, "data", "d")
    add(store, "student", "s", data=data.digest)

    assert kinds_that_go(store, before=NEVER) == []
    assert kinds_that_go(store) == ["data", "student"]


def test_a_registered_model_stays_with_all_it_stands_on(store: Store) -> None:
    data = add(store, "data", "d")
    student = add(store, "student", "s", data=data.digest)
    add(store, "evaluate", "e", student=student.digest)

    assert kinds_that_go(store, registered=(student.digest,)) == ["evaluate"]


def test_a_pin_keeps_until_it_is_taken_away(store: Store) -> None:
    data = add(store, "data", "d")
    add(store, "student", "s", data=data.digest)
    (student,) = entries(store, ("student",))
    pin(store, student, "for a paper")
    pin(store, student, "again")
    assert [(each.kind, each.key, each.note) for each in pins(store)] == [("student", student.key, "for a paper")]
    assert kinds_that_go(store) == []

    unpin(store, student)

    assert kinds_that_go(store) == ["data", "student"]
    with pytest.raises(BadInputError, match="is not pinned"):
        unpin(store, student)


def test_an_accepted_version_stays_with_its_validation(store: Store) -> None:
    validate = add(store, "validate", "v")
    fields = {"validate": validate.digest, "validate_key": validate.key}
    store.commit("accepted", "0" * 64, fields, lambda out: (out / "entry.json").write_text("{}") and None)

    assert kinds_that_go(store) == []


def test_a_verdict_goes_with_its_soft_targets(store: Store) -> None:
    targets = add(store, "soft_targets", "t")
    store.commit(CHECKS, "0" * 64, {"digest": targets.digest}, lambda out: (out / "r").write_text("{}") and None)

    assert kinds_that_go(store, registered=(targets.digest,)) == []
    assert kinds_that_go(store) == ["soft_targets", CHECKS]


def test_nothing_goes_while_a_manifest_cannot_be_read(store: Store) -> None:
    teacher = add(store, "teacher", "t")
    (teacher.root / "manifest.json").write_text("{")

    with pytest.raises(StoreError, match=f"nothing is removed.*teacher/{teacher.key}"):
        kinds_that_go(store)


def test_what_was_collected_is_absent_and_a_reader_keeps_its_file(store: Store) -> None:
    teacher = add(store, "teacher", "t")
    with (teacher.root / "0.txt").open() as reader:
        done = collect(store, entries(store, ("teacher",)), {})
        assert reader.read() == "t"

    assert [each.kind for each in done.removed] == ["teacher"]
    assert store.find("teacher", teacher.key) is None
    assert list((store.storage.root / "teacher").iterdir()) == []


def test_what_was_used_since_the_plan_is_spared(store: Store) -> None:
    teacher = add(store, "teacher", "t")
    chosen, used = entries(store, ("teacher",)), last_used(store, ("teacher",))
    store.storage.touch("teacher", teacher.key)

    assert collect(store, chosen, used).spared == tuple(chosen)
    assert store.find("teacher", teacher.key) is not None


def test_what_is_locked_is_spared(store: Store) -> None:
    teacher = add(store, "teacher", "t")
    with held(store.storage.root / ".locks" / f"teacher-{teacher.key}", wait_seconds=1, waiting=lambda _: None):
        assert collect(store, entries(store, ("teacher",)), {}).removed == ()

    assert store.find("teacher", teacher.key) is not None


def test_old_leftovers_go(store: Store) -> None:
    """Work and quarantine alike; what changed since the limit stays."""
    work = store.storage.scratch("teacher", "0" * 64)
    (work / "epoch.bin").write_bytes(b"1234")
    damaged = add(store, "teacher", "t")
    copy = store.storage.quarantine("teacher", damaged.key)

    assert leftovers(store, NEVER) == ()
    found = leftovers(store, LATER)
    assert {leftover.folder: leftover.kind_and_key for leftover in found} == {
        work: ("teacher", "0" * 64),
        copy: ("teacher", damaged.key),
    }
    discard_leftovers(store, found)
    assert not work.exists()
    assert not copy.exists()


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 10, 20])
def test_a_kill_leaves_every_artifact_whole_or_absent(store: Store, milliseconds: int) -> None:
    """And the next collection finishes what was begun, hidden folders included."""
    for number in range(30):
        add(store, "teacher", str(number))
    variables = {
        **os.environ,
        "POTSTILL_VAR_DIR": str(store.settings.var_dir),
        "POTSTILL_STORE": store.settings.store_url,
    }
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=variables, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    left = entries(store, ("teacher",))
    assert all(store.find("teacher", each.key) is not None for each in left)
    assert not (store.storage.root / ".quarantine").exists()
    collect(store, left or [entry(0, [], 1)], {})
    store.storage.sweep("teacher")
    assert list((store.storage.root / "teacher").iterdir()) == []
