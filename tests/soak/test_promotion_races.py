"""Eight long-lived processes promote at the same moment, each its own candidate: one wins, the others are told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from components.promotion.journal import Journal
from components.promotion.transaction import standing
from tests.components.promotion.conftest import MODEL, aliases, empty_registry, journal_url, postgres, registry_uri

__all__ = ["empty_registry", "journal_url", "postgres", "registry_uri"]  # fixtures
RACERS = 8
WORKER = """
import json, sys
from components.errors import PromotionConflictError
from components.promotion.journal import Change, Journal
from components.promotion.transaction import change_champion, standing

uri, journal_url, version = sys.argv[1:]
journal = Journal(journal_url)
standing(journal, uri, "student", say=lambda _: None)
print("ready", flush=True)
for line in sys.stdin:
    change = Change("promote", version, f"{int(version):064x}", f"racer {version}")
    try:
        made = change_champion(journal, uri, "student", change, after=int(line), say=lambda _: None)
        print(json.dumps(["won", made.sequence]), flush=True)
    except PromotionConflictError:
        print(json.dumps(["conflict", 0]), flush=True)
    except Exception as error:
        print(json.dumps([repr(error), 0]), flush=True)
"""


@contextmanager
def racers(uri: str, journal: str) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, uri, journal, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(1, RACERS + 1)
    ]  # fmt: skip
    try:
        for racer in started:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        yield started
    finally:
        for racer in started:
            assert racer.stdin is not None
            racer.stdin.close()
            racer.wait(60)
            assert racer.stdout is not None
            racer.stdout.close()


def race(started: list[subprocess.Popen[str]], after: int) -> list[str]:
    for racer in started:
        assert racer.stdin is not None
        racer.stdin.write(f"{after}\n")
        racer.stdin.flush()
    return [json.loads(racer.stdout.readline())[0] for racer in started]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "races",
    [pytest.param(20, marks=pytest.mark.slow), pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_one_wins_and_seven_are_told(registry_uri: str, journal_url: str, races: int) -> None:
    """No update is lost: after every race the journal has one line more, and alias and journal agree."""
    journal, winners = Journal(journal_url), []
    with racers(registry_uri, journal_url) as started:
        for number in range(races):
            after = standing(journal, registry_uri, MODEL, say=print).sequence
            found = race(started, after)
            assert sorted(found) == ["conflict"] * (RACERS - 1) + ["won"], (number, found)
            winner, head = str(found.index("won") + 1), journal.head(MODEL)
            assert head is not None
            assert (head.sequence, head.state, head.version) == (number + 1, "done", winner)
            assert aliases(registry_uri)["champion"] == winner
            winners.append(winner)
    assert [line.version for line in journal.lines(MODEL)] == winners
    print(f"{races} races of {RACERS} on {journal_url.partition(':')[0]}: {races} winners, "
          f"{races * (RACERS - 1)} conflicts; racers that ever won: {len(set(winners))}")  # fmt: skip
