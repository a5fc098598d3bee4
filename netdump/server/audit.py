"""Who did what: one JSON line an event, on stderr or where it is told to. The only place of the collector that logs.

Strings of peers go through `escaped`: no control character and no flood reaches a log. Dump contents, tokens and keys
are never logged.
"""

from __future__ import annotations

from typing import Protocol, TextIO

import structlog

TEXT_MAX = 512

Field = str | int | float | bool | None


class Audit(Protocol):
    """Something that takes events. May be called from any thread; must not raise and must not block for long."""

    def __call__(self, event: str, **fields: Field) -> None:
        """Note one event: a slug, and what it is about."""


def escaped(text: str) -> str:
    r"""A peer's text on one line: everything but printable ASCII as \x, \u escapes, cut to TEXT_MAX characters."""
    plain = text[:TEXT_MAX].encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= TEXT_MAX else plain[:TEXT_MAX] + "…"


def open_audit(stream: TextIO) -> Audit:
    """An audit that writes JSON lines {"time", "event", …} to stream; the times are UTC."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
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
