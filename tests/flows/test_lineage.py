"""What made a model, what differs between two, and whether one can be had again."""

import json
import shutil

import pytest

from tests.flows.conftest import ROOT, World, git
from tests.flows.test_promotion import Story

pytestmark = [pytest.mark.slow, pytest.mark.service]


@pytest.fixture
def committed(world: World, servers: dict) -> Story:
    """A world whose code is committed, and whose first student is champion."""
    shutil.copy(ROOT / "constraints.txt", world.root)
    (world.root / ".gitignore").write_text("var/\n__pycache__/\n", encoding="utf-8")
    git(world.root, "init", "-q", "-b", "main")
    git(world.root, "add", "-A")
    git(world.root, "commit", "-qm", "all of it")
    story = Story(world, servers)
    done = story.run()
    assert done.code == 0, done.err
    return story


def test_what_made_a_champion_and_made_it_again(committed: Story) -> None:
    """The chain names data, code, every result and the decision; from its commits the same digests come again."""
    commit = git(committed.world.root, "rev-parse", "HEAD")
    found = json.loads(committed.command("lineage", "--json").out)
    assert [step["step"] for step in found["steps"]] == [
        "data",
        "validate",
        "teacher",
        "soft_targets",
        "student",
        "evaluate",
    ]
    assert found["tags"]["code.commit"] == commit
    assert found["tags"]["lock.sha256"]
    assert [line["kind"] for line in found["journal"]] == ["promote"]
    assert {step["step"]: [step["digest"]] for step in found["steps"]}.items() <= committed.world.digests().items()

    shown = committed.command("lineage")
    assert (shown.code, shown.err) == (0, "")
    assert commit[:12] in shown.out
    assert "all of it took" in shown.out

    again = committed.command("reproduce")
    assert again.code == 0, again.err
    assert "reproduced: every digest is equal" in again.out
    assert again.out.count("equal") == 6
    assert git(committed.world.root, "worktree", "list").count("\n") == 0

    other = committed.run("--set=student.objective.temperature=2", "--set=gate.committed_code=false")
    assert other.code in (0, 3)
    told = json.loads(committed.command("diff", "1", "2", "--json").out)
    assert told["data"] == told["code"] == {}
    assert told["parameters"]["student.objective.temperature"] == [4, 2]
    assert set(told["results"]) == {"student.digest", "evaluate.digest"}
    assert any(name.startswith("different predictions") for name in told["predictions"])
    assert "student.objective.temperature" in committed.command("diff", "1", "2").out


def test_uncommitted_code_earns_nothing(committed: Story) -> None:
    """It is refused by the gate, can be forced, and cannot be reproduced."""
    committed.world.edit("components/training/optimizer.py", '"""', '"""With a change. ')
    refused = committed.run("--set=student.seed=3")
    assert refused.code == 3
    assert "uncommitted changes" in refused.out + refused.err
    assert committed.command("promote", "2", "--force", "tried by hand").code == 0
    assert "made by uncommitted code" in committed.command("reproduce", "2").refused_with(2)

    git(committed.world.root, "commit", "-qam", "a word more")
    again = committed.run("--set=student.seed=3")
    assert "uncommitted changes" not in again.out + again.err
    told = json.loads(committed.command("lineage", "2", "--json").out)["tags"]
    assert (told["code.dirty"], told["code.commit"]) == ("false", git(committed.world.root, "rev-parse", "HEAD"))
    assert "no version 'seven'" in committed.command("lineage", "seven").refused_with(2)
