"""Who is champion, as a user decides it: promote, roll back, history, and an alias that something else moved."""

import json

import pytest
from mlflow import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.service]


class Story:
    """Runs and commands of one pair of models on the servers that all tests share."""

    def __init__(self, world, servers: dict) -> None:
        self.world, self.servers, self.names = world, servers, world.root.name
        self.names_only = world.run_as(self.names)[1:]

    def run(self, *more: str):
        return self.world.command("run", *self.names_only, *more, **self.servers)

    def command(self, name: str, *more: str):
        return self.world.command(name, *more, *self.names_only, **self.servers)

    def aliases(self) -> dict[str, str]:
        client = MlflowClient(self.servers["MLFLOW_TRACKING_URI"])
        return {name: str(at) for name, at in client.get_registered_model(f"{self.names}-student").aliases.items()}

    def move(self, version: int) -> None:
        client = MlflowClient(self.servers["MLFLOW_TRACKING_URI"])
        client.set_registered_model_alias(f"{self.names}-student", "champion", str(version))

    def history(self) -> list[dict]:
        return json.loads(self.command("history", "--json").out)["lines"]


@pytest.fixture
def story(world, servers) -> Story:
    return Story(world, servers)


def test_the_story_of_a_champion(story: Story) -> None:
    """First one, a second that is refused, promoted by force, rolled back; drift, restored. Every line with its reason."""
    assert story.run().code == 0
    assert story.aliases() == {"champion": "1"}

    strict = "--set=gate.against_champion=superiority"
    refused = story.run("--set=student.seed=1", strict)
    assert refused.code == 3, refused.err
    assert "p-value" not in refused.out
    assert "exact McNemar" in refused.out + refused.err
    assert story.aliases() == {"champion": "1", "challenger": "2"}

    again = story.command("promote", "2", strict)
    assert again.code == 3
    assert "broken" in again.out
    forced = story.command("promote", "2", strict, "--force", "wanted by ann")
    assert forced.code == 0, forced.err
    assert story.aliases() == {"champion": "2", "previous": "1"}

    back = story.command("rollback", "--reason", "it was slow")
    assert (back.code, back.err) == (0, "")
    assert "version 1 is champion again (before: version 2)" in back.out
    assert story.aliases() == {"champion": "1", "previous": "2"}

    story.move(2)
    drifted = story.run()
    assert "something else moved it" in drifted.refused_with(1)
    assert story.command("restore").code == 0
    assert story.aliases()["champion"] == "1"
    assert story.run().code == 0

    lines = story.history()
    assert [(line["kind"], line["version"]) for line in lines] == [
        ("promote", "1"), ("force", "2"), ("rollback", "1"), ("restore", "1")
    ]  # fmt: skip
    assert lines[1]["reason"] == "wanted by ann"
    assert [reason["bound"] for reason in lines[1]["decision"]["reasons"] if not reason["kept"]] == ["champion"]
    shown = story.command("history")
    assert "against" not in shown.err
    assert "wanted by ann" in shown.out.replace("\n", " ")


def test_what_cannot_be_promoted_is_bad_input(story: Story) -> None:
    """A version that is not there, a rollback without a past, nothing to mend; nothing moves."""
    assert story.run().code == 0

    assert "no version '9'" in story.command("promote", "9").refused_with(2)
    assert "the only champion" in story.command("rollback").refused_with(2)
    assert "is champion already" in story.command("rollback", "--to", "1").refused_with(2)
    assert "never was champion" in story.command("rollback", "--to", "7").refused_with(2)
    assert "nothing to mend" in story.command("adopt").refused_with(2)
    assert story.aliases() == {"champion": "1"}
