"""Logging and progress: people read stderr, programs read stdout and the run log."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typing_extensions import override

# A plain log gets a progress line at most this often, so that files stay readable.
PLAIN_INTERVAL_S = 10.0


def configure_logging(*, verbose: bool = False) -> None:
    """Send log records to stderr: coloured on a terminal, plain lines otherwise."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(
            console=Console(stderr=True), show_path=False, show_time=False, markup=False
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger("pipeline")
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False


class JsonLinesHandler(logging.Handler):
    """Writes each record as one JSON line, for machines and for later."""

    def __init__(self, file: Path, stage: str) -> None:
        super().__init__()
        self._stage = stage
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("a", encoding="utf-8")

    @override
    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time_s": round(record.created, 3),
            "level": record.levelname.lower(),
            "stage": self._stage,
            "module": record.name,
            "message": record.getMessage(),
        }
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except OSError:  # a full disk must not turn a message into an error of its own
            self.handleError(record)

    @override
    def close(self) -> None:
        self._stream.close()
        super().close()


@runtime_checkable
class Bar(Protocol):
    """Something that shows how far long work has come."""

    def advance(self, amount: float | int = 1, note: str = "", left_s: float | None = None) -> None:
        """Move on.

        Args:
            amount: Units done.
            note: Replaces the text at the end of the line.
            left_s: Seconds left, where they are known; None: as the pace so far promises.
        """


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float | int = 1, note: str = "", left_s: float | None = None) -> None:
        if note:
            self._progress.update(self._task, advance=amount, left_s=left_s, note=note)
        else:
            self._progress.update(self._task, advance=amount, left_s=left_s)


class _PlainBar:
    def __init__(self, description: str, total: float | int) -> None:
        self._description, self._total = description, total
        self._done, self._started_at_s, self._shown_at_s = 0.0, time.monotonic(), time.monotonic()

    def advance(self, amount: float | int = 1, note: str = "", left_s: float | None = None) -> None:
        self._done += amount
        now_s = time.monotonic()
        if self._done <= 0 or now_s - self._shown_at_s < PLAIN_INTERVAL_S:
            return
        self._shown_at_s = now_s
        if left_s is None:
            left_s = (now_s - self._started_at_s) / self._done * (self._total - self._done)
        sys.stderr.write(
            f"{self._description}: {self._done:.0f}/{self._total:.0f}, "
            f"{format_duration(left_s)} left{'  ' + note if note else ''}\n"
        )
        sys.stderr.flush()


class _TimeLeftColumn(TimeRemainingColumn):
    """The time left as the work itself knows it, else as the pace so far promises."""

    @override
    def render(self, task: Task) -> Text:
        left_s = task.fields.get("left_s")
        if left_s is None:
            return super().render(task)
        return Text(format_duration(left_s), style="progress.remaining")


@contextmanager
def progress_bar(description: str, total: float | int, done: float | int = 0) -> Iterator[Bar]:
    """Show progress with remaining time on stderr: a bar on a terminal, lines elsewhere.

    Args:
        description: What is being done.
        total: Number of units to do.
        done: Units already done, for resumed work.

    Yields:
        The bar to advance.
    """
    if not sys.stderr.isatty():
        bar = _PlainBar(description, total - done)
        yield bar
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeftColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _RichBar(
            progress, progress.add_task(description, total=total, completed=int(done), note="")
        )


def format_duration(seconds: float | int) -> str:
    """A duration as people say it: "45 s", "3 min 05 s", "2 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
