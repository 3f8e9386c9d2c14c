"""The inventory tells what lies in the store, finds it by a few digits, and sees any changed byte."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.artifact import MANIFEST, MEASURED, Artifact
from components.artifacts.inventory import Entry, check, entries, find_entry, of_digest, step_kinds
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import BadInputError

DIGITS = "0123456789abcdef"


def add(store: Store, kind: str, text: str, **inputs: str) -> Artifact:
    def make(out: Path, work: Path) -> dict[str, float]:
        (out / "a.txt").write_text(text)
        (out / "deep").mkdir()
        (out / "deep" / "b.bin").write_bytes(bytes(range(256)))
        (out / MEASURED).mkdir()
        (out / MEASURED / "c.txt").write_text("now")
        return {"seconds": 1.5}

    key = make_key(kind, {"text": text, "inputs": inputs})
    return store.obtain(key, make, producer="a test", progress=NoProgress()).artifact


def test_every_artifact_is_listed_with_what_its_manifest_says(store: Store) -> None:
    """Kinds of notes are no results of steps."""
    teacher = add(store, "teacher", "t")
    add(store, "student", "s", teacher=teacher.digest)
    store.commit("accepted", "0" * 64, {}, lambda out: (out / "entry.json").write_text("{}") and None)

    assert step_kinds(store) == ("student", "teacher")
    student, found = entries(store, step_kinds(store))
    assert (found.key, found.digest, found.cost_seconds, found.num_bytes) == (teacher.key, teacher.digest, 1.5, 260)
    assert student.inputs == {"teacher": teacher.digest}
    assert of_digest([student, found], "teacher", teacher.digest) == found
    assert of_digest([student, found], "student", teacher.digest) is None


@given(keys=st.sets(st.text(DIGITS, min_size=64, max_size=64), min_size=1, max_size=8), data=st.data())
def test_a_beginning_means_one_artifact_or_is_refused(keys: set[str], data: st.DataObject) -> None:
    """Whatever was found begins so, and nothing else did."""
    found = [Entry("thing", key, None) for key in sorted(keys)]
    beginning = data.draw(st.sampled_from(sorted(keys)))[: data.draw(st.integers(1, 64))]
    matching = [entry for entry in found if entry.key.startswith(beginning)]
    if len(matching) == 1:
        assert find_entry(found, beginning.upper()) == matching[0]
    else:
        with pytest.raises(BadInputError, match=f"beginning of {len(matching)}: thing"):
            find_entry(found, beginning)


def test_a_digest_names_an_artifact_too(store: Store) -> None:
    """Runs print digests, not keys."""
    made = add(store, "teacher", "t")

    assert find_entry(entries(store, ("teacher",)), made.digest[:10]).key == made.key


@pytest.mark.parametrize("beginning", ["", "xyz", "0" * 65])
def test_what_is_no_key_is_refused(beginning: str) -> None:
    with pytest.raises(BadInputError, match="is no key"):
        find_entry([], beginning)


def test_what_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(BadInputError, match="begins with abc"):
        find_entry([], "abc")


@pytest.mark.parametrize("name", ["a.txt", "deep/b.bin", f"{MEASURED}/c.txt", MANIFEST])
def test_a_flipped_byte_in_any_file_is_seen_and_left_where_it_is(store: Store, name: str) -> None:
    """A check changes nothing: the damaged artifact is still there afterwards."""
    made = add(store, "teacher", "t")
    (entry,) = entries(store, ("teacher",))
    assert check(store, entry).problems == ()
    path = made.root / name
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    checked = check(store, entry)

    assert len(checked.problems) == 1
    assert (name in checked.problems[0]) or name == MANIFEST
    assert checked.folder == made.root
    assert path.exists()


def test_an_artifact_that_is_gone_is_no_whole_one(store: Store) -> None:
    """Removed between listing and check."""
    made = add(store, "teacher", "t")
    (entry,) = entries(store, ("teacher",))
    made.root.rename(made.root.parent / ".elsewhere")

    assert check(store, entry).problems == ("it is gone",)
