"""The store on a real S3 server: what is published once is whole everywhere, and what is damaged is made again."""

import json
import shutil
import time
from pathlib import Path

import pytest

from components.artifacts.artifact import MANIFEST, MEASURED
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.errors import ArtifactDamagedError, BadInputError, NondeterminismError, StoreError
from components.settings import Settings

pytestmark = pytest.mark.service
LARGE_BYTES = 20 * 2**20
KEY = make_key("thing", {"params": {"a": 1}})


class Recorder(NoProgress):
    """Remembers what was said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def writer(text="payload", calls=None, large=b""):
    def make(out: Path, work: Path):
        if calls is not None:
            calls.append(1)
        (out / "deep").mkdir()
        (out / "deep" / "a.txt").write_text(text)
        (out / "empty").touch()
        if large:
            (out / "large.bin").write_bytes(large)
        (out / MEASURED).mkdir()
        (out / MEASURED / "clock.txt").write_text(str(time.monotonic_ns()))
        return {"seconds": 1.5}

    return make


def obtain(store, make=None, *, key=KEY, progress=None):
    return store.obtain(key, make or writer(), producer="a test", progress=progress or NoProgress())


def elsewhere(settings: Settings, tmp_path: Path, name: str = "elsewhere") -> Store:
    """The same store from another machine: nothing local."""
    return Store(settings.model_copy(update={"var_dir": tmp_path / name}))


def test_a_result_is_made_once_for_everyone(s3_settings, tmp_path):
    """Another machine finds it, byte for byte, and says who made it."""
    calls = []
    first = obtain(Store(s3_settings), writer(calls=calls))
    second = obtain(elsewhere(s3_settings, tmp_path), writer(calls=calls))

    assert (first.cached, second.cached, len(calls)) == (False, True, 1)
    assert second.artifact.digest == first.artifact.digest
    assert second.producer == "a test"
    assert second.artifact.file("deep/a.txt").read_text() == "payload"
    assert second.artifact.file(MANIFEST).read_bytes() == first.artifact.file(MANIFEST).read_bytes()
    assert second.artifact.measured("clock.txt").read_text() == first.artifact.measured("clock.txt").read_text()


def names(s3_client, prefix, folder):
    """Keys of the objects of the store below *folder*."""
    listed = s3_client.list_objects_v2(Bucket="potstill", Prefix=f"{prefix}/{folder}/")
    return [entry["Key"] for entry in listed.get("Contents", ())]


def test_what_is_removed_is_gone_for_everyone_unless_it_was_used(s3_settings, tmp_path, s3_client, prefix):
    """A mark of use by another machine spares it; after that no object and no local copy of it is left."""
    storage, other = Store(s3_settings).storage, elsewhere(s3_settings, tmp_path).storage
    obtain(Store(s3_settings))
    other.touch("thing", KEY.digest)

    assert not storage.remove("thing", KEY.digest, last_used=None)
    assert storage.remove("thing", KEY.digest, last_used=storage.used("thing")[KEY.digest])
    assert [name for folder in ("manifests", "files", "used") for name in names(s3_client, prefix, folder)] == []
    assert Store(s3_settings).find("thing", KEY.digest) is None
    assert not (storage.root / "thing" / KEY.digest).exists()


def test_large_files_go_in_parts_and_come_in_ranges(s3_settings, tmp_path, s3_client, prefix):
    """More than two requests' worth, not a multiple of them; mapped into memory from the local copy."""
    import numpy as np

    large = np.random.default_rng(0).bytes(LARGE_BYTES + 12345)
    artifact = obtain(Store(s3_settings), writer(large=large)).artifact
    sizes = [
        s3_client.head_object(Bucket="potstill", Key=name)["ContentLength"]
        for name in names(s3_client, prefix, "files")
    ]
    copy = obtain(elsewhere(s3_settings, tmp_path), writer(large=b"never")).artifact

    assert max(sizes) == LARGE_BYTES + 12345
    assert copy.digest == artifact.digest
    assert copy.root.is_relative_to(tmp_path / "elsewhere" / "cache" / "store")
    assert np.memmap(copy.file("large.bin"), mode="r").tobytes() == large


def test_the_layout_in_the_bucket_is_the_documented_one(s3_store, s3_client, prefix):
    """One manifest, files under the names of their contents, and no lock or probe left."""
    artifact = obtain(s3_store).artifact
    manifest = artifact.manifest()
    files = {f"{prefix}/files/thing/{KEY.digest}/{entry.sha256}" for entry in (*manifest.files, *manifest.measured)}

    assert names(s3_client, prefix, "manifests") == [f"{prefix}/manifests/thing/{KEY.digest}.json"]
    assert set(names(s3_client, prefix, "files")) == files
    assert names(s3_client, prefix, "locks") == names(s3_client, prefix, "probes") == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "manifest", "everything"])
def test_a_damaged_local_copy_is_fetched_again_and_nothing_computed(s3_store, damage):
    """The bucket has the truth; nothing goes to quarantine."""
    artifact = obtain(s3_store).artifact
    path = artifact.file("deep/a.txt")
    path.chmod(0o644)
    if damage == "flip":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "remove":
        path.unlink()
    elif damage == "add":
        (artifact.root / "stranger").write_text("hello")
    elif damage == "manifest":
        artifact.file(MANIFEST).write_text("{}")
    else:
        shutil.rmtree(artifact.root)
    again = obtain(s3_store, writer("must not run"))

    assert again.cached
    assert again.artifact.file("deep/a.txt").read_text() == "payload"
    assert not (s3_store.storage.root / ".quarantine").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "other manifest"])
def test_damage_in_the_bucket_is_seen_and_the_result_made_and_published_again(
    s3_settings, tmp_path, s3_client, prefix, damage
):
    """The manifest goes to quarantine, that is said, and a third machine finds the new result whole."""
    artifact = obtain(Store(s3_settings)).artifact
    (entry,) = (entry for entry in artifact.manifest().files if entry.path == "deep/a.txt")
    file, manifest = f"{prefix}/files/thing/{KEY.digest}/{entry.sha256}", f"{prefix}/manifests/thing/{KEY.digest}.json"
    if damage == "remove":
        s3_client.delete_object(Bucket="potstill", Key=file)
    elif damage == "manifest":
        s3_client.put_object(Bucket="potstill", Key=manifest, Body=b"{")
    elif damage == "other manifest":
        stored = s3_client.get_object(Bucket="potstill", Key=manifest)
        changed = stored["Body"].read().replace(b"a test", b"a joke")
        s3_client.put_object(Bucket="potstill", Key=manifest, Body=changed, Metadata=stored["Metadata"])
    else:
        content = {"flip": b"paYload", "truncate": b"payloa"}[damage]
        s3_client.put_object(Bucket="potstill", Key=file, Body=content)
    progress, calls = Recorder(), []
    again = obtain(elsewhere(s3_settings, tmp_path), writer(calls=calls), progress=progress)
    third = obtain(elsewhere(s3_settings, tmp_path, "third"), writer("must not run"))

    assert (again.cached, len(calls), third.cached) == (False, 1, True)
    assert again.artifact.digest == third.artifact.digest == artifact.digest
    assert any("quarantine" in message for message in progress.said)
    assert len(names(s3_client, prefix, "quarantine")) == 1


def test_what_arrived_of_a_damaged_artifact_is_kept_for_whoever_can_use_its_intact_parts(
    s3_settings, tmp_path, s3_client, prefix
):
    """In the local quarantine, as with a store on the disk; the file that is missing there is empty of content."""
    artifact = obtain(Store(s3_settings), writer(large=b"intact")).artifact
    (entry,) = (entry for entry in artifact.manifest().files if entry.path == "deep/a.txt")
    s3_client.delete_object(Bucket="potstill", Key=f"{prefix}/files/thing/{KEY.digest}/{entry.sha256}")
    other = elsewhere(s3_settings, tmp_path)
    assert other.find("thing", KEY.digest) is None
    kept = other.quarantined("thing", KEY.digest)

    assert (kept / "large.bin").read_bytes() == b"intact"
    assert (kept / "deep" / "a.txt").read_bytes() == bytes(entry.bytes)
    assert (kept / MANIFEST).read_bytes() == artifact.file(MANIFEST).read_bytes()


def test_a_local_copy_of_what_was_published_anew_is_replaced(s3_settings, tmp_path, s3_client, prefix):
    """Whole as it is, it is not what everybody else uses by now."""
    here, there = Store(s3_settings), elsewhere(s3_settings, tmp_path)
    obtain(here, writer("of old"))
    s3_client.delete_object(Bucket="potstill", Key=f"{prefix}/manifests/thing/{KEY.digest}.json")
    new = obtain(there, writer("of now")).artifact

    found = here.find("thing", KEY.digest)
    assert found.digest == new.digest
    assert found.file("deep/a.txt").read_text() == "of now"


def test_what_is_published_anew_replaces_the_publishers_own_old_copy(s3_store, s3_client, prefix):
    """Somebody removed the manifest; the folder of the local copy was still there."""
    obtain(s3_store, writer("of old"))
    s3_client.delete_object(Bucket="potstill", Key=f"{prefix}/manifests/thing/{KEY.digest}.json")
    made = obtain(s3_store, writer("of now"))

    assert not made.cached
    assert made.artifact.file("deep/a.txt").read_text() == "of now"


def test_a_manifest_that_names_a_file_outside_its_folder_writes_nothing_there(s3_settings, tmp_path, s3_client, prefix):
    """Whoever can write to the bucket cannot write to the disk of those who read it."""
    artifact = obtain(Store(s3_settings)).artifact
    manifest = json.loads(artifact.file(MANIFEST).read_text())
    manifest["files"][0]["path"] = "../../../../../escaped"
    name = f"{prefix}/manifests/thing/{KEY.digest}.json"
    s3_client.put_object(Bucket="potstill", Key=name, Body=json.dumps(manifest).encode())
    other = elsewhere(s3_settings, tmp_path)

    assert other.find("thing", KEY.digest) is None
    assert list(tmp_path.rglob("escaped")) == []


def test_a_second_publisher_loses_and_uses_the_winners(s3_settings, tmp_path):
    """Equal bytes are one result; different ones on one machine are an error that names both."""
    other = elsewhere(s3_settings, tmp_path)

    def overtaken(text):
        def make(out: Path, work: Path):
            (out / "a.txt").write_text("one")
            staged = other.storage.staging(KEY.kind, KEY.digest)
            (staged / "a.txt").write_text(text)
            if other.find(KEY.kind, KEY.digest) is None:
                other._publish(staged, KEY, producer="the other", cost={})
            return {}

        return make

    same = obtain(Store(s3_settings), overtaken("one"))
    assert same.artifact.manifest().producer == "the other"
    third = s3_settings.model_copy(update={"store": s3_settings.store + "-different"})
    other = elsewhere(third, tmp_path)
    with pytest.raises(NondeterminismError, match=r"'a test'.*'the other'"):
        obtain(Store(third), overtaken("two"))


def test_keys_are_newest_first_and_a_miss_names_the_field_that_differs(s3_settings, tmp_path):
    """Also for someone who has nothing local."""
    first, second = make_key("thing", {"params": {"t": 1, "alpha": 2}}), make_key("thing", {"params": {"t": 9, "a": 9}})
    obtain(Store(s3_settings), key=first)
    time.sleep(1.1)  # the server's times are in seconds
    obtain(Store(s3_settings), key=second)
    other = elsewhere(s3_settings, tmp_path)
    miss = other.explain_miss(make_key("thing", {"params": {"t": 3, "alpha": 2}}))

    assert list(other.storage.keys("thing")) == [second.digest, first.digest]
    assert miss.fields == ("params.t: 1 -> 3",)
    assert miss.seconds == 1.5


def test_records_are_published_once(s3_settings, tmp_path):
    """The second writer of a record gets the first one's."""

    def record(text):
        return lambda out: (out / "r.txt").write_text(text)

    first = Store(s3_settings).commit("record", "0" * 64, {}, record("first"))
    second = elsewhere(s3_settings, tmp_path).commit("record", "0" * 64, {}, record("second"))

    assert second.file("r.txt").read_text() == "first"
    assert second.digest == first.digest


def test_a_failing_step_leaves_its_work_and_nothing_in_the_bucket(s3_store, s3_client, prefix):
    """Checkpoints stay on this machine; the lock is free again."""

    def fails(out: Path, work: Path):
        (work / "checkpoint").write_text("kept")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        obtain(s3_store, fails)

    assert [path.name for path in s3_store.storage.root.rglob("checkpoint")] == ["checkpoint"]
    assert [names(s3_client, prefix, folder) for folder in ("manifests", "files", "locks")] == [[], [], []]


def test_files_that_nobody_came_to_publish_are_swept_and_young_ones_are_not(s3_store, s3_client, prefix, monkeypatch):
    """By the server's clock, and never those of a published artifact."""
    from datetime import timedelta

    from components.artifacts.storage import s3

    artifact = obtain(s3_store).artifact
    s3_client.put_object(Bucket="potstill", Key=f"{prefix}/files/thing/{'1' * 64}/orphan", Body=b"x")
    s3_client.create_multipart_upload(Bucket="potstill", Key=f"{prefix}/files/thing/{'1' * 64}/half")
    s3_store.storage.sweep("thing")
    assert any(name.endswith("/orphan") for name in names(s3_client, prefix, "files"))

    monkeypatch.setattr(s3, "ABANDONED", timedelta(seconds=-5))
    s3_store.storage.sweep("thing")
    assert not any(name.endswith("/orphan") for name in names(s3_client, prefix, "files"))
    assert s3_client.list_multipart_uploads(Bucket="potstill", Prefix=f"{prefix}/").get("Uploads", []) == []
    shutil.rmtree(artifact.root)
    assert s3_store.find("thing", KEY.digest).digest == artifact.digest


@pytest.mark.parametrize(
    "url", ["s3://", "s3://key:word@bucket/x", "s3://host:99/x", "s3:///only-a-prefix", "s3://b/x?y=1"]
)
def test_an_address_of_another_form_is_refused_without_repeating_a_password(s3_settings, url):
    """Credentials and endpoints have their own variables."""
    with pytest.raises(BadInputError, match="s3://bucket/prefix") as caught:
        Store(s3_settings.model_copy(update={"store": url}))
    assert "word" not in str(caught.value)


def test_a_bucket_that_does_not_exist_is_named_at_once(s3_settings):
    """No retries, and the way out."""
    store = Store(s3_settings.model_copy(update={"store": "s3://no-such-bucket/x"}))
    began = time.monotonic()
    with pytest.raises(StoreError, match="create the bucket no-such-bucket"):
        obtain(store)
    assert time.monotonic() - began < 3


def test_wrong_credentials_are_said_and_never_shown(s3_settings, monkeypatch):
    """A wrong secret, and none at all."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-one")
    with pytest.raises(StoreError, match="credentials in AWS_") as caught:
        obtain(Store(s3_settings))
    assert "another-one" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID"):
        obtain(Store(s3_settings))


def test_whoever_may_only_read_finds_what_is_there_and_is_told_what_is_missing(s3_settings, tmp_path, monkeypatch):
    """Reading takes no lock and no probe."""
    obtain(Store(s3_settings))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    reader = elsewhere(s3_settings, tmp_path)

    assert obtain(reader, writer("must not run")).cached
    assert list(reader.storage.keys("thing")) == [KEY.digest]
    began = time.monotonic()
    with pytest.raises(StoreError, match="what they may do in this bucket"):
        obtain(reader, key=make_key("thing", {"another": 1}))
    assert time.monotonic() - began < 5


def test_whoever_may_not_delete_can_compute_and_publish(s3_settings, tmp_path, s3_client):
    """The lock stays until it expires, and nobody needs it any more; damage then is an error that says why."""
    s3_client.create_bucket(Bucket="append-only")
    arn = "arn:aws:s3:::append-only/*"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": arn}
    s3_client.put_bucket_policy(Bucket="append-only", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    settings = s3_settings.model_copy(update={"store": "s3://append-only/x"})
    artifact = obtain(Store(settings)).artifact
    entry = artifact.manifest().files[0]
    assert obtain(elsewhere(settings, tmp_path), writer("must not run")).cached

    s3_client.put_object(Bucket="append-only", Key=f"x/files/thing/{KEY.digest}/{entry.sha256}", Body=b"damaged")
    with pytest.raises(StoreError, match="what they may do in this bucket"):
        obtain(elsewhere(settings, tmp_path, "third"))


def test_check_tells_where_and_since_when_the_server_is_trusted(s3_settings, seaweed):
    """For the doctor: the answer is remembered on this machine for a week."""
    storage = Store(s3_settings).storage
    text = storage.check()
    record = storage.root / "conformance.json"
    assert s3_settings.store in text
    assert seaweed in text
    assert json.loads(record.read_text())["conditional_writes"] in text

    record.write_text(json.dumps({"conditional_writes": "2020-01-01"}))
    assert "2020" not in Store(s3_settings).storage.check()


def test_an_all_cached_run_only_reads(s3_settings, proxy):
    """One request an artifact: no lock, no probe, no listing."""
    obtain(Store(s3_settings))
    before = proxy.done.total()
    proxy.always("500", only=lambda method, path: method != "GET")

    assert obtain(Store(s3_settings)).cached
    assert proxy.done.total() - before == 1


def test_a_damaged_artifact_is_not_an_unreachable_one(s3_settings, proxy, s3_client, prefix):
    """A page of something in between that knows no objects never sends an artifact to quarantine."""
    obtain(Store(s3_settings))
    proxy.always("page")
    hasty = Store(s3_settings.model_copy(update={"store_deadline_seconds": 2}))

    with pytest.raises(StoreError) as caught:
        hasty.find("thing", KEY.digest)
    assert not isinstance(caught.value, ArtifactDamagedError)
    assert names(s3_client, prefix, "quarantine") == []


def test_kinds_are_those_that_were_published(s3_store):
    """What is only being made is not among them."""
    assert s3_store.storage.kinds() == ()
    obtain(s3_store, writer())
    s3_store.storage.staging("unfinished", "0" * 64)

    assert s3_store.storage.kinds() == ("thing",)
