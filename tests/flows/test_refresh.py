"""A new data version is distilled once, and nothing happens without one."""

import shutil

import pytest
from mlflow import MlflowClient

from flows.tasks import OUTCOME_TAG
from tests.flows.conftest import World, git
from tests.flows.test_promotion import Story

pytestmark = [pytest.mark.slow, pytest.mark.service]


@pytest.fixture
def registry(world: World, small_data) -> Story:
    """A data repository of its own that knows v1 alone."""
    shutil.copytree(small_data, world.root / "data")
    git(world.root / "data", "tag", "-d", "v2", "one-pixel")
    world.edit("params.yaml", f"repository: {small_data}", "repository: data")
    return Story(world, {})


def test_only_new_data_is_distilled(registry: Story, servers: dict) -> None:
    """The first version, nothing, the next version with those between said and skipped, nothing again."""
    registry.servers = servers
    data, commit = registry.world.root / "data", git(registry.world.root / "data", "rev-parse", "v1")
    wide = "--set=refresh.tags=v*"
    first = registry.command("refresh", wide)
    assert first.code == 0, first.err
    assert "new data: 'digits' of 'data' at 'v1'" in first.out
    assert registry.aliases() == {"champion": "1"}

    again = registry.command("refresh", wide)
    assert (again.code, again.err) == (0, "")
    assert "no new data" in again.out
    assert "version 1" in again.out
    assert "✓" not in again.out

    later = git(data, "rev-list", "--all", "--reverse").split()
    newest = next(each for each in later if each != commit)
    git(data, "tag", "v9", newest)
    git(data, "tag", "v10", newest)
    third = registry.command("refresh", wide)
    assert third.code == 0, third.err
    assert "at 'v10'" in third.out
    assert "skipped: v9" in third.out
    assert registry.aliases()["champion"] == "2"
    assert "no new data" in registry.command("refresh", wide).out

    client = MlflowClient(servers["MLFLOW_TRACKING_URI"])  # as a run leaves it that was killed before the decision
    client.delete_model_version_tag(f"{registry.names}-student", "2", OUTCOME_TAG)
    again = registry.command("refresh", wide)
    assert again.code == 0, again.err
    assert "new data" in again.out
    assert "is the champion already" in again.out.replace("\n", " ")

    assert "no tag of 'data' fits" in registry.command("refresh", "--set=refresh.tags=nothing*").refused_with(2)
