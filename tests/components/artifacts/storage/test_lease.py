"""A lock in a bucket saves work: one holder at a time, freed when it ends, taken over when it is silent or dead."""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from components.artifacts.storage import _lease
from components.artifacts.storage._lease import held
from components.artifacts.store import Store
from components.errors import StoreError

pytestmark = pytest.mark.service
NAME = "locks/thing-1"


@pytest.fixture
def bucket(s3_store: Store):
    return s3_store.storage.bucket


def take(bucket, *, wait=5.0, beat=0.2, expiry=1.0, told=None):
    told = told if told is not None else []
    return held(bucket, NAME, wait_seconds=wait, waiting=told.append, beat_seconds=beat, expiry_seconds=expiry)


def test_it_is_free_again_when_its_holder_ends(bucket):
    """Also when that ends with an error."""
    with pytest.raises(RuntimeError), take(bucket) as waited:
        assert not waited
        raise RuntimeError("boom")
    assert bucket.get(NAME) is None
    with take(bucket) as waited:
        assert not waited


def test_a_holder_that_beats_keeps_it_and_is_named(bucket):
    """Three times the expiry; the one who waits is told about twice a second, and gives up when it was told to."""
    told = []
    with take(bucket):
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"process \d+ on .* for more than 3 s"):
            take(bucket, wait=3, told=told).__enter__()
        assert time.monotonic() - began < 6
    assert len(told) >= 3


def test_a_silent_holder_loses_it_and_does_not_free_the_next_ones(bucket):
    """Silent by the clock of the one who waits; the first one's end then changes nothing."""
    first = take(bucket, beat=1000)
    first.__enter__()
    with take(bucket) as waited:
        assert waited
        there = bucket.get(NAME)
        assert there is not None
        first.__exit__(None, None, None)
        assert bucket.get(NAME) is not None


def test_a_holder_that_was_taken_over_stops_beating(bucket):
    """The next one's lock stays its own."""
    first = take(bucket, beat=2.5)
    first.__enter__()
    with take(bucket):
        time.sleep(2)
        bodies = {bucket.get(NAME).body.partition(b'"beat"')[0]}
        time.sleep(1)
        bodies.add(bucket.get(NAME).body.partition(b'"beat"')[0])
        assert len(bodies) == 1
        first.__exit__(None, None, None)
        assert bucket.get(NAME) is not None


HOLDER = textwrap.dedent(
    """
    import sys, time
    from components.artifacts.storage._bucket import connect
    from components.artifacts.storage._lease import held

    bucket = connect(sys.argv[1], sys.argv[2], deadline_seconds=30)
    with held(bucket, sys.argv[3], wait_seconds=5, waiting=lambda _: None):
        print("held", flush=True)
        time.sleep(60)
    """
)


def test_a_killed_holder_on_this_machine_does_not_keep_anyone_waiting(bucket, prefix):
    """Its process is seen to be gone, long before a minute of silence."""
    command = [sys.executable, "-c", HOLDER, "potstill", prefix, NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} on "):
            take(bucket, wait=1, expiry=60).__enter__()
        holder.kill()
        holder.wait()
        began = time.monotonic()
        with take(bucket, wait=30, expiry=60):
            assert time.monotonic() - began < 10


def test_the_same_process_number_on_another_machine_is_not_taken_for_dead(bucket, monkeypatch):
    """Only silence tells there."""
    monkeypatch.setattr(_lease, "machine", lambda: "another boot")
    bucket.put_new(NAME, b'{"pid": 999999999, "host": "elsewhere", "machine": "that one", "beat": 0}')
    with pytest.raises(StoreError, match="process 999999999 on elsewhere"):
        take(bucket, wait=1, expiry=60).__enter__()


def test_one_at_a_time(bucket):
    """Six threads, each a holder of its own: no two are inside at once, and all get in."""
    inside, most, entered = [], [], []

    def enter():
        with take(bucket, wait=60, expiry=20):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()
            entered.append(1)

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(entered)) == (1, 6)


def test_a_body_that_is_no_holder_is_waited_for_and_then_replaced(bucket):
    """Whatever put it there does not beat."""
    bucket.put_new(NAME, b"garbage")
    with take(bucket) as waited:
        assert waited


def test_a_server_that_is_gone_does_not_keep_the_holder_from_ending(s3_settings, proxy, monkeypatch):
    """Freeing the lock is tried for a moment only."""
    monkeypatch.setattr(_lease, "IMPATIENCE_SECONDS", 1.0)
    bucket = Store(s3_settings).storage.bucket
    with take(bucket):
        proxy.always("503")
        began = time.monotonic()
    assert time.monotonic() - began < 5
