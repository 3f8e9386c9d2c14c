"""The compose file keeps its promises: loopback only, pinned, limited, no secret in it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES = sorted(COMPOSE["services"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_published_port_is_on_the_loopback_address(name: str):
    """None of the servers asks who is there."""
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name].get("ports", ()))


def test_the_database_is_not_published_and_has_no_way_out():
    """Only the servers reach it."""
    assert "ports" not in COMPOSE["services"]["postgres"]
    assert COMPOSE["services"]["postgres"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_limited_and_watched(name: str):
    """An image with a version or built from the lock file, a memory limit, a health check, a restart."""
    service = COMPOSE["services"][name]
    assert "build" in service or re.search(r":\d+\.\d+", service["image"])
    assert {"mem_limit", "healthcheck", "restart"} <= set(service)


def test_secrets_come_from_outside():
    """The example has empty values, and each of them is required."""
    names = re.findall(r"^(\w+)=(.*)$", (INFRA / "env.example").read_text(), flags=re.MULTILINE)
    assert names
    text = (INFRA / "compose.yaml").read_text()
    for name, value in names:
        assert value == ""
        assert f"${{{name}:?" in text


def test_the_image_is_built_from_the_lock_file():
    """The two packages whose newer versions break Prefect are installed at the locked versions."""
    text = (INFRA / "Dockerfile").read_text()
    assert "-c /constraints.txt" in text
    assert {"fastapi", "sqlalchemy"} <= set(text.split())


def test_the_probe_fails_where_nobody_answers():
    """As a health check must."""
    done = subprocess.run([sys.executable, INFRA / "probe.py", "http://127.0.0.1:9/"], capture_output=True, check=False)
    assert done.returncode != 0
