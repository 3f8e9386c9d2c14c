"""The journal of accepted versions: in order, once each, without a mutable file."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from components.artifacts.artifact import Artifact, write_json
from components.artifacts.store import Store
from components.validation import accepted
from components.validation.accepted import journal, record_accepted, reference_for

LINE = "a" * 64


@pytest.fixture
def validated(store):
    """validated(name): a committed result of the validate step for the data version *name*."""

    def make(name: str) -> Artifact:
        return store.commit("validate", f"key of {name}", {}, lambda out: write_json(out / "result.json", name))

    return make


def _accept(store, validated, *names):
    for name in names:
        record_accepted(store, LINE, name, validated(name))


def test_first_version_has_no_reference(store):
    """An empty journal gives nothing to compare with."""
    assert reference_for(store, LINE, "v1") is None
    assert journal(store, LINE) == ()


def test_a_new_version_is_compared_with_the_last_accepted(store, validated):
    """The entry leads to the validate artifact of that version, by key and digest."""
    _accept(store, validated, "v1", "v2")

    entry = reference_for(store, LINE, "v3")

    assert entry.data == "v2"
    assert store.find("validate", entry.validate_key).digest == entry.validate == validated("v2").digest


def test_an_accepted_version_keeps_its_reference(store, validated):
    """Re-runs resolve to what they first were compared with, however many versions followed."""
    _accept(store, validated, "v1", "v2", "v3")

    assert [entry and entry.data for entry in (reference_for(store, LINE, v) for v in ("v1", "v2", "v3", "v4"))] == [
        None,
        "v1",
        "v2",
        "v3",
    ]


def test_recording_twice_changes_nothing(store, validated):
    """The journal holds a version once, at its first place, also when it is accepted again later."""
    _accept(store, validated, "v1", "v2", "v1", "v2", "v2")

    assert [entry.data for entry in journal(store, LINE)] == ["v1", "v2"]


def test_lines_do_not_mix(store, validated):
    """Another repository, path or workload has a journal of its own."""
    _accept(store, validated, "v1")

    assert journal(store, "b" * 64) == ()


def test_concurrent_acceptances_all_arrive(settings, store, validated):
    """Eight writers at once get eight places: a lost race is tried again one place further."""
    artifacts = {f"v{n}": validated(f"v{n}") for n in range(8)}

    def record(name):
        return record_accepted(Store(settings), LINE, name, artifacts[name])

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(record, [*artifacts, *artifacts]))

    assert [entry.data for entry in entries] == [*artifacts, *artifacts]
    assert sorted(entry.data for entry in journal(store, LINE)) == sorted(artifacts)


def test_a_race_lost_between_look_and_commit_is_tried_again(store, validated, monkeypatch):
    """A place that was free when it was looked at and taken when it was written to belongs to the other writer."""
    _accept(store, validated, "v1")
    find, calls = store.find, []

    def blind_once(kind, key, **kwargs):
        calls.append(kind)
        return None if calls.count(accepted.KIND) == 1 else find(kind, key, **kwargs)

    monkeypatch.setattr(store, "find", blind_once)
    record_accepted(store, LINE, "v2", validated("v2"))
    monkeypatch.undo()

    assert [entry.data for entry in journal(store, LINE)] == ["v1", "v2"]
