"""Whatever the network does, an operation ends in the right bytes or in a StoreError, and before its deadline."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from components.artifacts.key import make_key
from components.artifacts.storage._bucket import PIECE_BYTES, bounded
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import StoreError

pytestmark = pytest.mark.service
PAYLOAD = np.random.default_rng(1).bytes(PIECE_BYTES + 100_000)
KEY = make_key("thing", {"a": 1})
SLACK_SECONDS = 3.0
"""What a busy machine may add to a deadline."""


def make(out: Path, work: Path):
    (out / "large.bin").write_bytes(PAYLOAD)
    for index in range(5):
        (out / f"{index}.txt").write_text(f"file {index} " * 100)
    return {}


def obtain(store, making=make):
    return store.obtain(KEY, making, producer="a test", progress=NoProgress())


def must_not_run(out: Path, work: Path):
    raise AssertionError("computed again although it was published")


def whole(artifact) -> bool:
    small = all(artifact.file(f"{index}.txt").read_text() == f"file {index} " * 100 for index in range(5))
    return small and artifact.file("large.bin").read_bytes() == PAYLOAD


@pytest.fixture
def writer_settings(s3_settings, tmp_path):
    """Of a machine that published the artifact without any fault."""
    settings = s3_settings.model_copy(update={"var_dir": tmp_path / "writer"})
    obtain(Store(settings))
    return settings


def is_file(method, path):
    return "/files/" in path


def is_manifest(method, path):
    return "/manifests/" in path


def creates_manifest(method, path):
    return method == "PUT" and is_manifest(method, path)


@pytest.mark.parametrize("fault", ["503", "500", "reset", "cut", "cut and reset", "flip", "delay", "lost", "flip up"])
def test_a_reader_gets_the_right_bytes_through_passing_faults(writer_settings, s3_settings, proxy, fault):
    """The first two requests of each kind are hit: for the manifest, and for the files."""
    for chosen in (is_manifest, is_file):
        proxy.first(fault, 2, only=chosen)
        store = Store(s3_settings.model_copy(update={"var_dir": s3_settings.var_dir / chosen.__name__}))
        obtained = obtain(store, must_not_run)

        assert obtained.cached
        assert whole(obtained.artifact)
        assert proxy.done[fault] >= 2 * (chosen is is_file)


@pytest.mark.parametrize("fault", ["503", "500", "reset", "delay", "lost", "flip up"])
def test_a_writer_publishes_the_right_bytes_through_passing_faults(
    s3_settings, proxy, s3_client, prefix, tmp_path, fault
):
    """Files, parts of files and the manifest itself; another machine then reads without faults."""
    hits = {is_file: 2, creates_manifest: 1}

    def decide(method, path):
        for chosen in hits:
            if chosen(method, path) and hits[chosen]:
                hits[chosen] -= 1
                return fault
        return "pass"

    proxy.decide = decide
    obtained = obtain(Store(s3_settings))
    proxy.always("pass")
    copy = obtain(Store(s3_settings.model_copy(update={"var_dir": tmp_path / "reader"})), must_not_run)

    assert not obtained.cached
    assert list(hits.values()) == [0, 0]
    assert copy.artifact.manifest().producer == "a test"
    assert whole(copy.artifact)
    assert s3_client.list_multipart_uploads(Bucket="potstill", Prefix=f"{prefix}/").get("Uploads", []) == []


@pytest.mark.parametrize("fault", ["503", "reset", "cut", "cut and reset", "stall", "drip", "lost", "page"])
def test_a_fault_that_stays_is_a_typed_error_before_the_deadline(writer_settings, s3_settings, proxy, fault):
    """Reading and writing: never a hang, never a wrong artifact."""
    hasty = s3_settings.model_copy(update={"store_deadline_seconds": 2, "var_dir": s3_settings.var_dir / "hasty"})
    for chosen in (is_manifest, is_file):
        proxy.always(fault, only=chosen)
        began = time.monotonic()
        with pytest.raises(StoreError, match="s3://potstill"):
            obtain(Store(hasty), must_not_run)
        assert time.monotonic() - began < 2 + SLACK_SECONDS


@pytest.mark.parametrize("fault", ["503", "reset", "stall", "lost"])
def test_a_writer_that_cannot_go_on_says_so_and_the_next_attempt_goes_through(s3_settings, proxy, tmp_path, fault):
    """At the files and at the commit; a commit that arrived although no answer did is found, not computed again."""
    for chosen in (is_file, creates_manifest):
        folder, prefix = tmp_path / chosen.__name__, f"{s3_settings.store}-{chosen.__name__}"
        settings = s3_settings.model_copy(update={"store_deadline_seconds": 3, "var_dir": folder, "store": prefix})
        proxy.always(fault, only=chosen)
        began = time.monotonic()
        with pytest.raises(StoreError, match="s3://potstill"):
            obtain(Store(settings))
        assert time.monotonic() - began < 2 * 3 + SLACK_SECONDS
        proxy.always("pass")
        arrived = fault == "lost" and chosen is creates_manifest
        assert whole(obtain(Store(settings), must_not_run if arrived else make).artifact)


def test_bytes_that_always_arrive_wrong_are_never_used(writer_settings, s3_settings, proxy):
    """Each file was asked for several times; then the artifact counts as damaged, and is made again."""
    proxy.always("flip", only=lambda method, path: method == "GET" and is_file(method, path))
    obtained = obtain(Store(s3_settings))

    assert not obtained.cached
    assert whole(obtained.artifact)
    assert proxy.done["flip"] >= 3 * 7


@pytest.fixture
def manifest_name():
    return f"manifests/{KEY.kind}/{KEY.digest}.json"


def test_a_lost_answer_to_the_commit_is_not_taken_for_a_loss(s3_store, proxy, s3_settings, manifest_name):
    """The server created the object and the answer never came: the refusal that follows is our own doing."""
    bucket = Store(s3_settings).storage.bucket
    proxy.first("lost", 1)
    won = bucket.put_new(manifest_name, b"ours")

    assert proxy.done["lost"] == 1
    assert won == bucket.get(manifest_name).etag


def test_a_lost_answer_after_a_loss_stays_a_loss(s3_settings, proxy, s3_client, prefix, manifest_name):
    """Somebody else's object was there first, with the very same content."""
    bucket = Store(s3_settings).storage.bucket
    Store(s3_settings).storage.bucket.put_new(manifest_name, b"the same")
    proxy.first("lost", 2)

    assert bucket.put_new(manifest_name, b"the same") is None
    assert proxy.done["lost"] == 2


def test_a_lost_answer_to_a_replacement_is_resolved_as_well(s3_settings, proxy, manifest_name):
    """Which keeps a heartbeat from giving its own lock up."""
    bucket = Store(s3_settings).storage.bucket
    first = bucket.put_new(manifest_name, b"one")
    proxy.first("lost", 1)
    second = bucket.replace(manifest_name, b"two", first)

    assert second == bucket.get(manifest_name).etag
    assert bucket.replace(manifest_name, b"three", first) is None


def completes(method, path):
    return method == "POST" and "uploadId=" in path


@pytest.mark.parametrize("then", ["pass", "404"])
def test_a_large_upload_whose_completion_got_no_answer_is_complete(s3_settings, proxy, tmp_path, then):
    """Whether the server completes it again or knows no such upload any more."""
    bucket = Store(s3_settings).storage.bucket
    path = tmp_path / "large.bin"
    path.write_bytes(PAYLOAD)
    faults = ["lost", then]
    proxy.decide = lambda method, path: faults.pop(0) if faults and completes(method, path) else "pass"
    bucket.put_file("files/large", path, len(PAYLOAD))

    assert faults == []
    assert bucket.get_piece("files/large", PIECE_BYTES, 100_000) == PAYLOAD[PIECE_BYTES:]


def test_a_large_upload_that_someone_aborted_is_an_error(s3_settings, proxy, tmp_path):
    """And not taken for one that is complete."""
    bucket = Store(s3_settings).storage.bucket
    path = tmp_path / "large.bin"
    path.write_bytes(PAYLOAD)
    proxy.always("404", only=completes)
    with pytest.raises(StoreError, match="aborted by someone else"):
        bucket.put_file("files/large", path, len(PAYLOAD))


def test_nobody_sees_an_artifact_before_its_files(writer_settings, s3_settings, proxy, tmp_path):
    """While another machine's uploads take their time, a reader finds nothing, and then everything."""
    other = make_key("thing", {"slow": 1})
    proxy.always("delay", only=lambda method, path: method == "PUT" and is_file(method, path))
    store, reader = Store(s3_settings), Store(s3_settings.model_copy(update={"var_dir": tmp_path / "reader"}))
    writing = threading.Thread(
        target=store.obtain, args=(other, make), kwargs={"producer": "a test", "progress": NoProgress()}
    )
    writing.start()
    num_looks, found = 0, None
    while found is None and (writing.is_alive() or num_looks == 0):
        found, num_looks = reader.find("thing", other.digest), num_looks + 1
    writing.join()
    found = found or reader.find("thing", other.digest)

    assert num_looks > 5
    assert whole(found)
    assert not (reader.storage.root / ".quarantine").exists()


STORMS = [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 60))]


@pytest.mark.parametrize("seed", STORMS)
def test_a_storm_of_everything_ends_well_or_in_a_typed_error(s3_settings, proxy, seed):
    """Four of ten requests go wrong, in a way that the seed decides."""
    faults = ("503", "500", "reset", "cut", "cut and reset", "flip", "flip up", "delay", "lost")
    proxy.sometimes(faults, seed=seed, share=0.4)
    for name in ("writer", "reader"):
        store = Store(s3_settings.model_copy(update={"var_dir": s3_settings.var_dir / name}))
        try:
            obtained = obtain(store)
        except StoreError as error:
            assert "s3://potstill" in str(error)
        else:
            assert whole(obtained.artifact)
    assert proxy.done.total() - proxy.done["pass"] > 10


def test_a_server_that_is_busy_half_of_the_time_only_takes_longer(s3_settings, proxy, tmp_path):
    """Every second request is refused with SlowDown: published, and read by another machine."""
    proxy.sometimes(("503",), seed=0, share=0.5)
    made = obtain(Store(s3_settings))
    read = obtain(Store(s3_settings.model_copy(update={"var_dir": tmp_path / "reader"})), must_not_run)

    assert proxy.done["503"] > 10
    assert whole(made.artifact)
    assert whole(read.artifact)


def test_a_page_that_says_yes_to_everything_is_not_a_store(s3_settings, proxy, s3_client, prefix):
    """A portal that wants a login first answers 200: nothing counts as written without the store's own tag."""
    proxy.always("portal")
    hasty = s3_settings.model_copy(update={"store_deadline_seconds": 3})
    with pytest.raises(StoreError):
        Store(hasty).storage.bucket.put("files/x", b"x")
    with pytest.raises(StoreError):
        obtain(Store(hasty))


def test_an_operation_that_never_ends_is_left_behind():
    """And one that fails, fails as it is."""
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        bounded(lambda: time.sleep(5), 0.1)
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 / 0, 5)
    assert bounded(lambda: 7, 5) == 7
