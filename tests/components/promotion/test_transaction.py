"""Facts about moving the champion: aliases follow the journal, whatever dies or moves in between."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.errors import BadInputError, DriftError, PromotionConflictError
from components.promotion.journal import Change, Journal, Line
from components.promotion.transaction import adopt, change_champion, find_drift, restore, standing
from components.registry import DIGEST_TAG
from tests.components.promotion.conftest import MODEL, aliases, digest

STEPS = ("begin", "previous", "champion", "challenger", "settle")


class World:
    """A registry, its journal, and what was said."""

    def __init__(self, registry_uri: str, journal_url: str) -> None:
        self.uri, self.journal, self.said = registry_uri, Journal(journal_url), []

    def promote(self, number: int, *, after: int | None = None) -> Line:
        last = self.standing().sequence if after is None else after
        change = Change("promote", str(number), digest(number), "ann")
        return change_champion(self.journal, self.uri, MODEL, change, after=last, say=self.said.append)

    def standing(self):
        return standing(self.journal, self.uri, MODEL, say=self.said.append)

    def drift(self):
        return find_drift(self.journal, self.uri, MODEL, say=self.said.append)

    def move(self, number: int) -> None:
        MlflowClient(self.uri).set_registered_model_alias(MODEL, "champion", str(number))


@pytest.fixture
def world(registry_uri: str, journal_url: str) -> World:
    return World(registry_uri, journal_url)


def test_aliases_follow(world: World) -> None:
    """The new one is champion, the old one previous, and a champion is no challenger."""
    MlflowClient(world.uri).set_registered_model_alias(MODEL, "challenger", "2")
    world.promote(1)
    assert aliases(world.uri) == {"champion": "1", "challenger": "2"}
    line = world.promote(2)

    assert aliases(world.uri) == {"champion": "2", "previous": "1"}
    assert (line.sequence, line.previous_version) == (2, "1")
    assert world.standing().champion.version == "2"
    assert world.said == []


def test_who_was_judged_against_another_champion_is_told(world: World) -> None:
    """And nothing moves."""
    world.promote(1)
    before = world.standing().sequence
    world.promote(2)

    with pytest.raises(PromotionConflictError, match="version 2 became champion"):
        world.promote(3, after=before)
    assert aliases(world.uri) == {"champion": "2", "previous": "1"}


def test_a_champion_older_than_the_journal_is_its_first_line(world: World) -> None:
    """So that projects that promoted before can go on."""
    world.move(4)

    assert world.standing().champion.version == "4"
    assert [(line.kind, line.version) for line in world.journal.lines(MODEL)] == [("adopt", "4")]
    assert "champion before the journal began" in world.said[0]


def test_a_moved_alias_is_drift(world: World) -> None:
    """Nothing is promoted until a person has said which of the two is right."""
    world.promote(1)
    world.move(5)

    with pytest.raises(
        DriftError, match=r"stands on version 5, and the journal put it on version 1 .*`potstill restore`"
    ):
        world.standing()
    with pytest.raises(DriftError):
        world.promote(2, after=1)
    assert (world.drift().line.version, world.drift().found.version) == ("1", "5")


def test_restore_moves_it_back(world: World) -> None:
    """With a line that says so."""
    world.promote(1)
    world.move(5)
    line = restore(world.journal, world.uri, MODEL, who="bob", reason="", say=world.said.append)

    assert aliases(world.uri)["champion"] == "1"
    assert (line.kind, line.version, line.who, line.reason) == (
        "restore", "1", "bob", "the alias had been moved to version 5"
    )  # fmt: skip
    assert world.drift() is None


def test_adopt_accepts_it(world: World) -> None:
    """The other way round."""
    world.promote(1)
    world.move(5)
    adopt(world.journal, world.uri, MODEL, who="bob", reason="tested by hand", say=world.said.append)

    assert aliases(world.uri) == {"champion": "5", "previous": "1"}
    assert world.journal.head(MODEL).reason == "tested by hand"
    assert world.drift() is None


def test_a_removed_alias_can_only_be_restored(world: World) -> None:
    """There is nothing to adopt."""
    world.promote(1)
    MlflowClient(world.uri).delete_registered_model_alias(MODEL, "champion")

    with pytest.raises(DriftError, match="stands on no version"):
        world.standing()
    with pytest.raises(BadInputError, match="nothing to adopt"):
        adopt(world.journal, world.uri, MODEL, who="bob", reason="", say=world.said.append)
    restore(world.journal, world.uri, MODEL, who="bob", reason="", say=world.said.append)
    assert aliases(world.uri)["champion"] == "1"


def test_nothing_to_mend_is_said(world: World) -> None:
    """Adopt and restore are for drift alone."""
    world.promote(1)
    for mend in (adopt, restore):
        with pytest.raises(BadInputError, match="nothing to mend"):
            mend(world.journal, world.uri, MODEL, who="bob", reason="", say=world.said.append)


def test_a_registry_set_up_anew_is_followed_by_digest(world: World, empty_registry: Path, tmp_path: Path) -> None:
    """Versions are numbered anew there; the champion is what it was made from."""
    world.promote(7)
    file = tmp_path / "anew.db"
    file.write_bytes(empty_registry.read_bytes())
    world.uri = f"sqlite:///{file}"
    assert world.standing().champion is None

    client = MlflowClient(world.uri)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "file:///nowhere/1", tags={DIGEST_TAG: digest(7)})
    assert world.standing().champion.version == "1"
    assert aliases(world.uri) == {"champion": "1"}
    assert "set up anew" in world.said[0]


def test_a_registry_set_up_anew_may_number_alike(world: World, empty_registry: Path, tmp_path: Path) -> None:
    """A version that is younger than the line that made it champion is another registry's, and no drift."""
    world.promote(1)
    file = tmp_path / "anew.db"
    file.write_bytes(empty_registry.read_bytes())
    world.uri = f"sqlite:///{file}"
    time.sleep(2.1)
    client = MlflowClient(world.uri)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "file:///nowhere/1", tags={DIGEST_TAG: digest(1)})

    assert world.standing().champion.version == "1"
    assert aliases(world.uri) == {"champion": "1"}
    assert "set up anew" in world.said[0]


CHILD = """
import os, signal, sys
from components import registry
from components.promotion.journal import Change, Journal
from components.promotion import transaction

uri, journal_url, step = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
journal = Journal(journal_url)
after = transaction.standing(journal, uri, "student", say=print).sequence

def dies_after(function, when):
    def wrapped(*arguments):
        result = function(*arguments)
        if when(*arguments):
            die()
        return result
    return wrapped

def dies_before(function):
    def wrapped(*arguments):
        die()
    return wrapped

begin, settle = Journal.begin, Journal.settle
if step == "begin":
    def begin_and_die(self, *arguments, **named):
        begin(self, *arguments, **named)
        die()
    Journal.begin = begin_and_die
elif step == "settle":
    Journal.settle = lambda self, line, state: die()
elif step == "challenger":
    registry.remove_alias = dies_before(registry.remove_alias)
else:
    registry.set_alias = dies_after(registry.set_alias, lambda uri, name, alias, version: alias == step)
transaction.change_champion(
    journal, uri, "student", Change("promote", "2", f"{2:064x}", "ann"), after=after, say=print
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_a_valid_champion(world: World, step: str) -> None:
    """The old one or the new one; the next command completes what was begun, and says so."""
    MlflowClient(world.uri).set_registered_model_alias(MODEL, "challenger", "2")
    world.promote(1)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, world.uri, world.journal.url, step], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    assert aliases(world.uri)["champion"] == ("1" if step in ("begin", "previous") else "2")
    assert world.standing().champion.version == "2"
    assert aliases(world.uri) == {"champion": "2", "previous": "1"}
    assert [line.state for line in world.journal.lines(MODEL)] == ["done", "done"]
    assert any("cut short" in line for line in world.said)


def test_a_promotion_whose_version_is_gone_is_undone(world: World) -> None:
    """The old champion stays, and the next promotion goes through."""
    world.promote(1)
    world.journal.begin(MODEL, Change("promote", "2", digest(2), "ann"), after=1)
    MlflowClient(world.uri).delete_model_version(MODEL, "2")

    assert world.standing().champion.version == "1"
    assert "is undone" in world.said[0]
    assert world.promote(3).sequence == 3
    assert aliases(world.uri) == {"champion": "3", "previous": "1"}
