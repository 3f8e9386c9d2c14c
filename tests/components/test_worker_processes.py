"""Processes that talk in lines of JSON: answers, errors as if raised here, and their end told with its reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.errors import BadInputError, WorkerError
from components.worker_processes import WorkerProcess

WORKER = """\
import json, os, sys
from components.errors import BadInputError
from components.worker_processes import answers, say, told_as_error
stream = answers()
print("noise that is no answer")
for line in sys.stdin:
    asked = json.loads(line)
    if "fail" in asked:
        say(stream, told_as_error(BadInputError(asked["fail"])))
    elif "die" in asked:
        sys.exit("out of patience")
    elif "signal" in asked:
        os.kill(os.getpid(), 9)
    else:
        say(stream, {"twice": 2 * asked["number"]})
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], WorkerProcess]]:
    """Starts a worker that doubles numbers; all are gone after the test."""
    (tmp_path / "doubler.py").write_text(WORKER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    started = []

    def spawn() -> WorkerProcess:
        started.append(WorkerProcess("doubler", tmp_path / "log", what="a doubler", way_out="ask again"))
        return started[-1]

    yield spawn
    for process in started:
        process.hang_up()
        process.end(patience_seconds=10)


def test_requests_are_answered(start):
    """In order, and what the process prints is no answer."""
    process = start()
    for number in (1, 2, 3):
        process.send({"number": number})
    assert [process.receive()["twice"] for _ in range(3)] == [2, 4, 6]


def test_an_error_over_there_is_raised_here_and_the_process_goes_on(start):
    """With its own type and words."""
    process = start()
    process.send({"fail": "no such thing"})
    with pytest.raises(BadInputError, match="no such thing"):
        process.receive()
    process.send({"number": 4})
    assert process.receive() == {"twice": 8}


@pytest.mark.parametrize(
    ("request_", "how"), [({"die": 1}, "exit code 1: out of patience"), ({"signal": 1}, "ended by signal 9")]
)
def test_a_process_that_is_gone_says_how_it_ended(start, request_, how):
    """The last line of its log, or the signal; and the way out."""
    process = start()
    process.send(request_)
    with pytest.raises(WorkerError, match=f"a doubler .*{how}.*; ask again"):
        process.receive()
