"""The live lines, other output above them, and Ctrl-C."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from components.errors import InterruptedRunError
from flows.console import ConsoleProgress, _Task, duration, interruptible, live_line, step_line

ROOT = Path(__file__).parents[2]
VALUES = {"loss_total": 0.5, "loss_distillation": 0.41, "loss_hard": 1.2, "validation_accuracy": 0.979}


def screen(written: str) -> list[str]:
    """What a terminal shows after *written*: the few control codes that the live lines use, nothing else."""
    lines, row, column = [""], 0, 0
    for code in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if code == "\r":
            column = 0
        elif code == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif code == "\x1b[2K":
            lines[row] = ""
        elif code == "\x1b[1A":
            row -= 1
        elif not code.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + code + lines[row][column + len(code) :]
            column += len(code)
    return [line.rstrip() for line in lines if line.strip()]


def take_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 100 columns that is stdout and stderr at once."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def console(*, width: int = 100) -> Console:
    return Console(force_terminal=True, width=width, color_system="standard", legacy_windows=False)


def test_a_live_line_shows_both_losses_accuracy_and_the_time_left():
    """Half way after ten seconds means ten seconds left."""
    task = _Task("train the student", 100, threading.current_thread(), done=50, values=VALUES)
    task.first = (0, time.monotonic() - 10)
    line = live_line(task, 120).plain
    for part in ("train the student", "50%", "10 s left", "distillation 0.410", "hard 1.200", "accuracy 97.9%"):
        assert part in line


def test_a_resumed_step_does_not_count_what_was_done_before():
    """90 of 100 at the first news and one more in 0.2 seconds: two seconds left, not a moment."""
    progress = ConsoleProgress(Console())
    progress.start("train", total=100)
    progress.advance(90)
    time.sleep(0.2)
    progress.advance(91)
    (task,) = progress._tasks.values()
    left = task.seconds_left()
    assert left is not None
    assert 1.7 < left < 10


@pytest.mark.parametrize("width", [20, 40, 79, 99, 200])
def test_a_live_line_never_wraps(width: int):
    """The bar goes first, then the end of the line."""
    task = _Task("train the student on hard labels", 100, threading.current_thread(), done=50, values=VALUES)
    assert live_line(task, width).cell_len <= width


def test_other_output_appears_above_the_live_line(monkeypatch: pytest.MonkeyPatch):
    """Prints, warnings and messages keep their own lines, and the live line stays the last."""
    terminal = take_terminal(monkeypatch)
    progress = ConsoleProgress(console())
    with progress:
        progress.start("train", total=10)
        progress.advance(3)
        print("a print")
        sys.stderr.write("half a line, ")
        sys.stderr.write("the other half\n")
        sys.stderr.write(warnings.formatwarning("careful", UserWarning, "file.py", 1, "the_code()"))
        progress.say("a message")
        shown = screen(terminal.getvalue())
    assert shown[:2] == ["a print", "half a line, the other half"]
    assert "careful" in "".join(shown[2:-2])
    assert shown[-2] == "a message"
    assert shown[-1].startswith("  train")
    assert screen(terminal.getvalue())[-1] == "a message"


def test_two_threads_have_a_line_each_and_leave_none(monkeypatch: pytest.MonkeyPatch):
    """Steps that run at the same time do not overwrite each other; a step that is done leaves its summary alone."""
    terminal = take_terminal(monkeypatch)
    progress = ConsoleProgress(console())
    both_started, both_seen = threading.Barrier(3), threading.Barrier(3)

    def work(title: str) -> None:
        progress.start(title, total=5)
        progress.advance(1)
        both_started.wait(10)
        both_seen.wait(10)
        progress.step_line(title, cached=False, producer="me", seconds=1, digest="abcdef0123")

    with progress:
        threads = [threading.Thread(target=work, args=(title,)) for title in ("first", "second")]
        for thread in threads:
            thread.start()
        both_started.wait(10)
        shown = screen(terminal.getvalue())
        both_seen.wait(10)
        for thread in threads:
            thread.join()
    assert sorted(line.split()[0] for line in shown) == ["first", "second"]
    assert sorted(line.split()[1] for line in screen(terminal.getvalue())) == ["first", "second"]
    assert all(line.startswith("✓") for line in screen(terminal.getvalue()))


def test_a_storm_of_threads_garbles_nothing(monkeypatch: pytest.MonkeyPatch):
    """Every printed line is whole, whatever is drawn meanwhile."""
    terminal = take_terminal(monkeypatch)
    progress = ConsoleProgress(console())

    def work(name: int) -> None:
        progress.start(f"step {name}", total=51)
        for done in range(50):
            progress.advance(done, loss_total=1.0)
            sys.stdout.write(f"line {name} {done}\n")

    with progress:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(screen(terminal.getvalue())) == sorted(
        f"line {name} {done}" for name in range(4) for done in range(50)
    )


def test_without_a_terminal_a_step_is_two_plain_lines(monkeypatch: pytest.MonkeyPatch):
    """One when it starts, one when it ends, and no control codes."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    progress = ConsoleProgress(Console(width=200))
    with progress:
        for _ in range(3):
            progress.start("train", total=10)
            for done in range(11):
                progress.advance(done, loss_total=1.0)
        progress.step_line("train", cached=False, producer="me", seconds=12.3, digest="9ac41d0000")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train …"
    assert len(lines) == 2
    assert "computed · 12 s · 9ac41d…" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_a_stream_that_knows_only_ascii_gets_ascii():
    """A terminal without Unicode is no reason to fail."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    progress = ConsoleProgress(Console(file=stream, width=200))
    progress.start("train", total=1)
    progress.step_line("train", cached=True, producer="me", seconds=1, digest="9ac41d0000")
    stream.flush()
    assert raw.getvalue().decode("ascii").startswith("train ...\n* train")


def test_a_cached_step_says_which_run_made_it():
    """The producer, the time and the beginning of the digest are in the line."""
    line = step_line("train the teacher", cached=True, producer="distill-v1", seconds=0.1, digest="9ac41dffff").plain
    assert re.fullmatch(r"✓ train the teacher +Cached \(made by distill-v1\) · 0\.1 s · 9ac41d…", line)


@pytest.mark.parametrize(
    ("width", "ending"),
    [
        (100, "Cached (made by distill-v1-3f2a) · 0.1 s · 9ac41d…"),
        (80, "Cached (made by distill-v1-3f2a) · 0.1 s"),
        (78, "Cached · 0.1 s"),
    ],
)
def test_a_step_line_fits_the_terminal(width: int, ending: str):
    """The digest goes first, then the producer."""
    title = "check out, decode and split the data"
    line = step_line(title, cached=True, producer="distill-v1-3f2a", seconds=0.1, digest="9ac41dffff", width=width)
    assert line.cell_len <= width
    assert line.plain == f"✓ {title} {ending}"


def test_training_on_labels_alone_shows_one_loss():
    """A distillation part of nothing would only puzzle."""
    values = {"loss_total": 2.392, "loss_distillation": 0.0, "loss_hard": 2.392, "validation_accuracy": 0.5}
    line = live_line(_Task("teacher", 100, threading.current_thread(), values=values), 120).plain
    assert line.endswith("loss 2.392  accuracy 50.0%")
    assert "distillation" not in line
    assert "hard" not in line


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.06, "0.1 s"), (9.94, "9.9 s"), (12.4, "12 s"), (185, "3:05"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float, words: str):
    """Tenths below ten seconds, seconds below a minute, then minutes and hours."""
    assert duration(seconds) == words


def test_the_first_interrupt_waits_for_a_safe_point_and_the_second_does_not(capsys: pytest.CaptureFixture[str]):
    """The first sets the event that check() looks at; afterwards Ctrl-C is as it was."""
    before = signal.getsignal(signal.SIGINT)
    progress = ConsoleProgress(Console())
    with interruptible(progress):
        progress.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(InterruptedRunError, match="goes on from there"):
            progress.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        said = ""
        while "next safe point" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().out
            time.sleep(0.01)
    assert "press Ctrl-C again" in said
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_is_stopped_at_once_says_so(capsys: pytest.CaptureFixture[str]):
    """The command line would end without a word otherwise."""
    with pytest.raises(InterruptedRunError, match="stopped at once"), interruptible(ConsoleProgress(Console())):
        raise KeyboardInterrupt


def test_an_interrupt_in_the_middle_of_drawing_does_not_lock_up(monkeypatch: pytest.MonkeyPatch):
    """The message waits for its turn instead of being written from within the handler."""
    terminal = take_terminal(monkeypatch)
    progress = ConsoleProgress(console())
    with interruptible(progress), progress.above():
        signal.raise_signal(signal.SIGINT)
    deadline = time.monotonic() + 10
    while "safe point" not in terminal.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "safe point" in terminal.getvalue()


LOGGING_SCRIPT = """
import logging, sys
from rich.console import Console
from flows.console import ConsoleProgress
progress = ConsoleProgress(Console())
with progress:
    import prefect
    progress.start("train", total=10)
    progress.advance(5)
    logging.getLogger("prefect").warning("a warning of Prefect")
    logging.getLogger("prefect.flow_runs").info("news of a run")
    logging.getLogger("some.library").warning("a warning of a library")
    progress.advance(6)
    progress.step_line("train", cached=False, producer="me", seconds=1, digest="abcdef0123")
"""


@pytest.mark.slow
def test_prefects_own_log_does_not_garble_the_live_line(tmp_path: Path):
    """In a real terminal, a logged warning has a line of its own, and what is below a warning is not shown."""
    controller, terminal = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", LOGGING_SCRIPT], cwd=ROOT, env=environment, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    written = _read_all(controller)
    assert process.wait(60) == 0
    os.close(controller)
    shown = screen(written)
    assert next(line for line in shown if "a warning of Prefect" in line).endswith("a warning of Prefect")
    assert any(line.endswith("a warning of a library") for line in shown)
    assert "news of a run" not in written
    assert [line.split()[:2] for line in shown if "train" in line] == [["✓", "train"]]


def _read_all(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()
