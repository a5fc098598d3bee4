"""HTTP byte ranges (RFC 9110 section 14), as far as fetching a segment needs them: one range.

Several ranges, other units and what makes no sense are ignored, as the RFC allows: the whole file is the answer.
"""

from __future__ import annotations

import re

from netdump.namedtuple import NamedTuple

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class Span(NamedTuple):
    """Bytes start up to end (exclusive) of a file."""

    start: int
    end: int


class UnsatisfiableRangeError(Exception):
    """No byte of the file is in the range."""


def parse_range(header: str | None, size: int) -> Span | None:
    """The span that a Range header asks of a file of size bytes; None: all of it. Raises UnsatisfiableRangeError."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        span = Span(max(0, size - int(match[2])), size)
    else:
        span = Span(int(match[1]), min(int(match[2]) + 1, size) if match[2] else size)
        if match[2] and int(match[2]) < int(match[1]):
            return None  # invalid, not unsatisfiable
    if span.start >= span.end:
        raise UnsatisfiableRangeError
    return span
