"""What a person sees of a run in a terminal: a live line a step, and Ctrl-C that waits for a safe point."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.text import Text

from components.errors import InterruptedRunError

if TYPE_CHECKING:
    from components.artifacts.ledger import Saved

DRAW_SECONDS = 0.1
TITLE_WIDTH = 36
BAR_WIDTHS = (24, 12, 0)
ERASE_LINE, LINE_UP = "\r\x1b[2K", "\x1b[1A"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
NAMES = {
    "loss_total": "loss",
    "loss_distillation": "distillation",
    "loss_hard": "hard",
}
PLAIN = str.maketrans({"✓": "*", "·": "-", "…": "...", "━": "=", "─": "-"})
STOPPING = "stopping at the next safe point (press Ctrl-C again to stop now)"


@dataclass(slots=True)
class _Task:
    """What one thread is doing."""

    title: str
    total: int
    thread: threading.Thread
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    first: tuple[int, float] | None = None
    """Done so far, and when, at the first news: a resumed step does not begin at nothing."""
    values: Mapping[str, float] = field(default_factory=dict)

    def seconds_left(self) -> float | None:
        if self.first is None or self.done <= self.first[0]:
            return None
        seconds_each = (time.monotonic() - self.first[1]) / (self.done - self.first[0])
        return seconds_each * max(0, self.total - self.done)


class ConsoleProgress:
    """Draws what the steps report; one live line for each thread at work, nothing but a start where no terminal is.

    As a context manager it also takes over stdout and stderr, so that whatever else is written there (logs,
    warnings) appears above the live lines. Enter it before prefect is imported, since its log handler keeps the
    stream that it finds.
    """

    def __init__(self, console: Console, *, stop: threading.Event | None = None) -> None:
        self.console = console
        self.stop = stop or threading.Event()
        self.live = console.is_terminal and not console.is_dumb_terminal
        self._lock = threading.RLock()
        self._tasks: dict[int, _Task] = {}
        self._announced: dict[int | None, str] = {}
        self._lines = 0
        self._drawn_at = 0.0
        self._streams: tuple[IO[str], IO[str]] | None = None

    def __enter__(self) -> Self:
        if self.live:
            self._streams = (sys.stdout, sys.stderr)
            sys.stdout, sys.stderr = _Above(self, sys.stdout), _Above(self, sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._tasks.clear()
            self._erase()
        if self._streams is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = self._streams
            self._streams = None

    def start(self, title: str, *, total: int) -> None:
        """A new thing to do in this thread; the one before it is over."""
        thread = threading.current_thread()
        with self._lock:
            self._tasks[thread.ident or 0] = _Task(title, total, thread)
            if self.live:
                self._redraw()
            elif self._announced.get(thread.ident) != title:
                self._announced[thread.ident] = title
                self._print(Text(f"{title} …"))

    def advance(self, done: int, **values: float) -> None:
        """*done* of the total so far; drawn at most ten times a second, and gone when all is done."""
        task = self._tasks.get(threading.get_ident())
        if task is None:
            return
        now = time.monotonic()
        task.done, task.values = done, {**task.values, **values}
        if task.first is None:
            task.first = (done, now)
        if done >= task.total:
            self.finish()
        elif self.live and now - self._drawn_at >= DRAW_SECONDS:
            with self._lock:
                self._redraw()

    def say(self, message: str) -> None:
        """A message that stays, above the live lines."""
        self._print(Text(message))

    def epoch(self, record: Mapping[str, float]) -> None:
        """Shown by `advance` already."""

    def check(self) -> None:
        if self.stop.is_set():
            raise InterruptedRunError(
                "stopped as you asked; what was done is kept, the same command goes on from there"
            )

    def finish(self) -> None:
        """What this thread was doing is over: its live line goes."""
        with self._lock:
            if self._tasks.pop(threading.get_ident(), None) is not None and self.live:
                self._redraw()

    def step_line(self, title: str, *, cached: bool, producer: str, seconds: float, digest: str) -> None:
        """Replace this thread's live line by the line that says how its step ended."""
        self.finish()
        width = self.console.width if self.live else None
        self._print(step_line(title, cached=cached, producer=producer, seconds=seconds, digest=digest, width=width))

    def _print(self, text: Text) -> None:
        with self.above():
            self.console.print(self._encodable(text), highlight=False, soft_wrap=True)

    @contextmanager
    def above(self) -> Iterator[None]:
        """Make room for other output, and draw the live lines again below it."""
        with self._lock:
            lines, self._lines = self._lines, 0
            self._wipe(lines)
            yield
            if lines:
                self._redraw()

    def _redraw(self) -> None:
        self._tasks = {ident: task for ident, task in self._tasks.items() if task.thread.is_alive()}
        self._drawn_at = time.monotonic()
        lines, self._lines = self._lines, 0
        texts = [self._encodable(live_line(task, self.console.width - 1)) for task in self._tasks.values()]
        with self.console.capture() as captured:
            self.console.print(Text("\n").join(texts), end="", no_wrap=True, crop=True, highlight=False)
        self._raw(_wiping(lines) + (HIDE_CURSOR + captured.get() if texts else SHOW_CURSOR))
        self._lines = len(texts)

    def _erase(self) -> None:
        lines, self._lines = self._lines, 0
        self._wipe(lines)

    def _wipe(self, lines: int) -> None:
        if lines:
            self._raw(_wiping(lines) + SHOW_CURSOR)

    def _raw(self, codes: str) -> None:
        """Past the streams that put other output above the live lines."""
        stream: Any = self.console.file
        stream = stream.stream if isinstance(stream, _Above) else stream
        stream.write(codes)
        stream.flush()

    def _encodable(self, text: Text) -> Text:
        if self.console.options.ascii_only:
            text.plain = text.plain.translate(PLAIN)
        return text


def _wiping(lines: int) -> str:
    return ERASE_LINE + (LINE_UP + ERASE_LINE) * (lines - 1) if lines else ""


class _Above:
    """A text stream whose complete lines appear above the live lines."""

    def __init__(self, progress: ConsoleProgress, stream: IO[str]) -> None:
        self.stream = stream
        self._progress = progress
        self._pending = ""

    def write(self, text: str) -> int:
        with self._progress._lock:
            if not self._progress._lines and not self._pending:
                return self.stream.write(text)
            lines, newline, self._pending = (self._pending + text).rpartition("\n")
            if newline:
                with self._progress.above():
                    self.stream.write(lines + newline)
                    self.stream.flush()
        return len(text)

    def flush(self) -> None:
        with self._progress._lock:
            if self._pending and not self._progress._lines:
                pending, self._pending = self._pending, ""
                self.stream.write(pending)
            self.stream.flush()

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def interruptible(progress: ConsoleProgress) -> Iterator[threading.Event]:
    """Within it, the first Ctrl-C asks the steps to stop at a safe point and the second one stops at once.

    Only the main thread may enter; yields the event that the first one sets. Raises InterruptedRunError for the second.
    """

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        if progress.stop.is_set():
            raise KeyboardInterrupt
        progress.stop.set()
        # The interrupted code may be in the middle of writing: another thread waits for its turn.
        threading.Thread(target=progress.say, args=(STOPPING,), daemon=True).start()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with progress:
            yield progress.stop
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "stopped at once; what was committed is kept, the same command goes on from there"
        ) from None
    finally:
        signal.signal(signal.SIGINT, before)


def step_line(
    title: str, *, cached: bool, producer: str, seconds: float, digest: str, width: int | None = None
) -> Text:
    """How a step ended: '✓ train the teacher   Cached (made by run-3f2a91) · 0.1 s · 9ac41d…'.

    Where that is wider than *width* columns, the digest is left out, then the producer.
    """
    head = Text.assemble(("✓ ", "green"), (title.ljust(TITLE_WIDTH), "bold"), " ")
    long, short = (f"Cached (made by {producer})", "Cached") if cached else ("computed", "computed")
    took, what = f" · {duration(seconds)}", f" · {digest[:6]}…"
    for how, tail in ((long, took + what), (long, took), (short, took)):
        line = head + Text(how, style="bright_blue" if cached else "green") + Text(tail, style="dim")
        if width is None or line.cell_len <= width:
            break
    return line


def duration(seconds: float) -> str:
    """'0.1 s', '12 s', '3:05', '1:02:03'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def saved_text(saved: Saved) -> str:
    """'The cache saved 41 s of computing and 31,200 teacher rows'."""
    rows = f" and {saved.teacher_rows:,} teacher rows" if saved.teacher_rows else ""
    return f"The cache saved {duration(saved.seconds)} of computing{rows}"


def live_line(task: _Task, width: int) -> Text:
    """The richest form of the line that fits in *width* columns; the last one is cut off."""
    share = min(1.0, task.done / task.total) if task.total else 0.0
    left = task.seconds_left()
    tail = [f"{share:4.0%}", "" if left is None else f"{duration(left)} left", *map(_value, *_pairs(task.values))]
    text = Text()
    for bar_width in BAR_WIDTHS:
        text = Text.assemble((f"  {task.title}", "bold"), " ", _bar(share, bar_width), "  ".join(filter(None, tail)))
        if text.cell_len <= width:
            return text
    text.truncate(width, overflow="ellipsis")
    return text


def _pairs(values: Mapping[str, float]) -> tuple[list[str], list[float]]:
    """Known values in their order, then the others; both parts of a loss instead of the total, or it alone."""
    two_parts = values.get("loss_distillation") and "loss_hard" in values
    hidden = {"loss_total"} if two_parts else {"loss_distillation", "loss_hard"} if "loss_total" in values else set()
    known = [name for name in NAMES if name in values]
    shown = [name for name in (*known, *(name for name in values if name not in NAMES)) if name not in hidden]
    return shown, [values[name] for name in shown]


def _value(name: str, value: float) -> str:
    label = NAMES.get(name, name.removeprefix("validation_").replace("_", " "))
    if label.endswith("accuracy"):
        return f"{label} {value:.1%}"
    return f"{label} {value:.3f}" if 0.01 <= abs(value) < 100 else f"{label} {value:.3g}"


def _bar(share: float, width: int) -> Text:
    full = round(share * width)
    return Text.assemble(("━" * full, "green"), ("─" * (width - full), "dim"), " " * bool(width))
