"""A server on which a conditional write is not exclusive is refused before anything is stored there."""

import json

import pytest

from components.artifacts.key import make_key
from components.artifacts.storage import _conformance
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import StoreError

pytestmark = pytest.mark.service
NUM_WRITERS, NUM_ROUNDS = _conformance.NUM_WRITERS, _conformance.NUM_ROUNDS


@pytest.fixture(autouse=True)
def _at_length(s3_settings, monkeypatch):
    monkeypatch.setattr(_conformance, "NUM_WRITERS", NUM_WRITERS)
    monkeypatch.setattr(_conformance, "NUM_ROUNDS", NUM_ROUNDS)


def conditional(method, path):
    return method == "PUT" and "/probes/" in path


def write(out, work):
    (out / "a.txt").write_text("a")
    return {}


def test_the_real_server_passes_and_is_not_asked_again(s3_settings, proxy, s3_client, prefix):
    """Eight writers twice, nothing left behind; the next process reads the answer from the disk."""
    storage = Store(s3_settings).storage
    storage.check()
    asked = proxy.done.total()
    Store(s3_settings).storage.check()

    assert asked >= NUM_ROUNDS * (NUM_WRITERS + 2)
    assert proxy.done.total() == asked + 1
    assert s3_client.list_objects_v2(Bucket="potstill", Prefix=f"{prefix}/").get("Contents", []) == []


def test_a_server_on_which_all_win_is_refused(s3_settings, proxy, s3_client, prefix):
    """Nothing is stored, and the answer is not remembered."""
    proxy.always("win", only=conditional)
    store = Store(s3_settings)
    with pytest.raises(StoreError, match=rf"{NUM_WRITERS} of {NUM_WRITERS} writers created the same object"):
        store.obtain(make_key("thing", {}), write, producer="a test", progress=NoProgress())

    assert not (store.storage.root / "conformance.json").exists()
    assert s3_client.list_objects_v2(Bucket="potstill", Prefix=f"{prefix}/manifests/").get("Contents", []) == []


def test_a_server_on_which_two_win_is_refused(s3_settings, proxy):
    """One too many is as bad as all."""
    proxy.first("win", NUM_WRITERS + 1, only=conditional)
    with pytest.raises(StoreError, match=r"writers created the same object|created again"):
        Store(s3_settings).storage.check()


def test_a_network_that_loses_answers_does_not_make_a_server_unfit(s3_settings, proxy):
    """A writer whose answer was lost still knows whether it won."""
    proxy.first("lost", 5, only=conditional)
    assert "one of many writers wins" in Store(s3_settings).storage.check()
    assert proxy.done["lost"] == 5


def test_an_answer_is_believed_for_a_week(s3_settings, proxy):
    """Neither an old one nor one from the future nor a damaged one counts."""
    storage = Store(s3_settings).storage
    storage.check()
    record = storage.root / "conformance.json"
    for text in (
        json.dumps({"conditional_writes": "2020-01-01"}),
        json.dumps({"conditional_writes": "9999-01-01"}),
        "{",
    ):
        record.write_text(text)
        asked = proxy.done.total()
        Store(s3_settings).storage.check()
        assert proxy.done.total() > asked + 1
