"""How commands show things: JSON objects, tables, sizes, times, progress, and text that strangers have written.

Owns the look. Everything that a host or collector has said goes through `printable` or `print_text`: a terminal must
not obey a crashed machine. Heavy libraries (rich) are loaded where they are used.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from netdump.cli.signals import orderly_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

ID_DIGITS: Final = 12
"""How many digits of an id tables show."""

LAST_COLUMN_MIN: Final = 20
"""Characters that the last column of a table takes on a terminal at least."""

_PLAIN_SECONDS: Final = 5.0  # between two lines of progress at least
_BAR_COLUMNS: Final = 80  # of a terminal: on a narrower one a bar would take the room of the figures
_WHAT_COLUMNS: Final = 64  # the same of what is done


def printable(text: str, keep: str = "") -> str:
    """Text of a stranger with everything escaped that is not visible; keep: characters that may stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def print_text(text: bytes) -> None:
    """Print lines that a stranger has written, such as a kernel log."""
    shown = printable(text.decode("utf-8", "replace"), keep="\n\t")
    click.echo(shown, nl=not shown.endswith("\n") and bool(shown))


def print_json(content: Mapping[str, Any]) -> None:
    """Print an object. All but ASCII is escaped, so nothing in it can act on a terminal."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=True))


def warn(text: str) -> None:
    """Say something on standard error, in one line."""
    click.echo(f"netdump: {printable(text)}", err=True)


def size_text(count: int) -> str:
    """Bytes for people: 217763840 -> 207.7 MiB."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def exact_size_text(count: int) -> str:
    """Bytes for people, and exactly: 207.7 MiB (217,763,840 bytes)."""
    return size_text(count) if count < 1024 else f"{size_text(count)} ({count:,} bytes)"


def duration_text(seconds: float) -> str:
    """Seconds for people: 3725 -> 1h02m."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def share_text(part: int, whole: int) -> str:
    """Per cent, 100 only when all of it is there."""
    if part >= whole:
        return "100%"
    return f"{min(99.9, 100 * part / whole):.0f}%" if part * 100 < whole * 99 else "99%"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Cells are plain text: what looks like markup is shown as it is.

    On a terminal the last column is wrapped to its width; elsewhere every row is one line, and where a terminal is too
    narrow for that, it breaks the lines itself: nothing is left out.
    """
    *fixed, _ = zip(columns, *rows, strict=True)
    fixed_width = sum(max(map(len, cells)) + 2 for cells in fixed)
    if not sys.stdout.isatty() or shutil.get_terminal_size().columns < fixed_width + LAST_COLUMN_MIN:
        print_plain_table([columns, *rows])
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number < len(columns) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False).print(table)


def print_plain_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of them names, one line each whatever their length."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    shown = [(printable(name), printable(value)) for name, value in facts]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


class FetchProgress:
    """Tells of a download on standard error: a bar on a terminal, a line now and then elsewhere.

    Implements netdump.remote.progress.Progress. Safe for several threads.
    """

    def __init__(self, bar: Bar | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar: Final = bar
        self._clock: Final = clock
        self._guard: Final = threading.Lock()
        self._task: TaskID | None = None
        self._total = self._done = self._at_start = 0
        self._started = self._told = 0.0

    def begin(self, total: int, done: int, what: str = "fetching", *, announce: bool = True) -> None:
        """Implements Progress.begin. announce: whether to say so where there is no terminal; it may be soon over."""
        self._total, self._done, self._at_start = total, done, done
        self._started = self._told = self._clock()
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, completed=done)
        elif done:
            warn(f"going on: {size_text(done)} of {size_text(total)} are here already")
        elif announce:
            warn(f"{what} {size_text(total)}")

    def advance(self, count: int) -> None:
        """Implements Progress.advance."""
        with self._guard:
            self._done += count
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=self._done)
            elif self._clock() - self._told >= _PLAIN_SECONDS:
                self._told = self._clock()
                self._tell()

    def _tell(self) -> None:
        seconds = self._told - self._started
        rate = max(0.0, (self._done - self._at_start) / seconds) if seconds > 0 else 0.0
        left = f", {duration_text(max(0, self._total - self._done) / rate)} left" if rate else ""
        share = share_text(self._done, self._total)
        warn(f"{size_text(self._done)} of {size_text(self._total)} ({share}), {size_text(int(rate))}/s{left}")


@contextmanager
def fetch_progress() -> Iterator[FetchProgress]:
    """Progress for one download, shown as standard error allows."""
    if not sys.stderr.isatty():
        yield FetchProgress(None)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class RateColumn(ProgressColumn):
        """Bytes a second in the units of everything else; rich has decimal ones only."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{size_text(int(speed))}/s", style="progress.data.speed")

    console, figure = Console(stderr=True), Column(no_wrap=True)
    columns = (
        *([TextColumn("{task.description}")] if console.width >= _WHAT_COLUMNS else []),
        *([BarColumn()] if console.width >= _BAR_COLUMNS else []),
        DownloadColumn(binary_units=True, table_column=figure),
        RateColumn(table_column=figure),
        TimeRemainingColumn(table_column=figure),
    )
    bar = Progress(*columns, console=console, transient=True)
    with orderly_end():  # or the terminal is left without its cursor
        try:
            yield FetchProgress(bar if _begun(bar) else None)
        finally:
            with suppress(OSError):  # the terminal may be gone
                bar.stop()


def _begun(bar: Bar) -> bool:
    """Show a bar. Returns whether there is one: it takes a thread, and the system may let none be started."""
    try:
        bar.start()
    except RuntimeError:
        bar.stop()
        return False
    return True
