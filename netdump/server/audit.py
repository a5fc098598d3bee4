"""Who did what: one JSON line an event, on stderr or where it is told to. The only place of the collector that logs.

Strings of peers go through `escaped`: no control character and no flood reaches a log. Dump contents, tokens and keys
are never logged.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import queue
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, cast

import structlog

from netdump.errors import ThreadsError
from netdump.server.ratelimit import Bucket
from netdump.threads import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT_MAX = 512
TRACE_FRAMES = 8
LINES_MAX = 10_000
STRANGERS_PER_MINUTE = 60
CLOSE_S = 2.0

Field = str | int | float | bool | None

codecs.lookup("unicode_escape")  # loaded now: later there may be no file descriptor for that


class Audit(Protocol):
    """Something that takes events. May be called from any thread; must not raise and must not block for long."""

    def __call__(self, event: str, **fields: Field) -> None:
        """Note one event: a slug, and what it is about."""


def escaped(text: str, limit: int = TEXT_MAX) -> str:
    r"""A peer's text on one line: everything but printable ASCII as \x, \u escapes, cut to limit characters."""
    plain = text[:limit].encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= limit else plain[:limit] + "…"


class Rationed:
    """An audit for what strangers can cause at will: they must not fill the disk. From any thread.

    per_minute: events that go through; how many did not, the next one says (left_out). clock: seconds, steady.
    """

    def __init__(
        self, audit: Audit, per_minute: int = STRANGERS_PER_MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._budget = Bucket(per_minute, clock())
        self._left_out = 0
        self._guard = threading.Lock()

    def __call__(self, event: str, **fields: Field) -> None:
        """Note one event, or count it."""
        with self._guard:
            now = self._clock()
            if self._budget.level(now) < 1:
                self._left_out += 1
                return
            self._budget.take(now)
            left_out, self._left_out = self._left_out, 0
        self._audit(event, **fields, **({"left_out": left_out} if left_out else {}))


class LogBridge(logging.Handler):
    """Takes what libraries log (asyncio, uvicorn) into the audit, with the end of the trace if there is one.

    Rationed: uvicorn has a line for every request that is none.
    """

    def __init__(self, audit: Audit) -> None:
        super().__init__(logging.WARNING)
        self._audit = Rationed(audit)

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record. What is wrong with one ends nobody: asyncio's loop logs, too."""
        with contextlib.suppress(Exception):
            self._note(record)

    def _note(self, record: logging.LogRecord) -> None:
        fields: dict[str, Field] = {"source": record.name, "level": record.levelname, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)[-TRACE_FRAMES:]
            fields["error"] = f"{type(error).__name__}: {error}"
            fields["trace"] = " < ".join(f"{Path(at.filename).name}:{at.lineno} {at.name}" for at in reversed(frames))
        self._audit("library", **fields)


class LineWriter:
    """A stream for `open_audit` that never blocks: a thread writes the lines to the real one. Raises ThreadsError.

    Where that one is stuck, a pipe that nobody reads for instance, lines beyond LINES_MAX are dropped and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ThreadsError(f"{error}: {REMEDY}") from error

    def write(self, text: str) -> None:
        """Take a piece of a line. From any thread."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            with self._counting:
                self._dropped += 1

    def flush(self) -> None:
        """Do nothing: the thread flushes."""

    def close(self) -> None:
        """Write what was taken, unless the stream is stuck."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                self._stream.write(text)
                with self._counting:
                    dropped, self._dropped = self._dropped, 0
                if dropped:
                    self._stream.write(json.dumps({"event": "audit-dropped", "lines": dropped}) + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                continue  # nobody is left to tell: the reader of the log has gone; dumps go on
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def open_audit(stream: TextIO | LineWriter) -> Audit:
    """An audit that writes JSON lines {"time", "event", …} to stream; the times are UTC."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", stream)),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.BoundLogger,
    )

    def note(event: str, **fields: Field) -> None:
        clean = {name: escaped(value) if isinstance(value, str) else value for name, value in fields.items()}
        logger.info(event, **clean)

    return note
