"""The names in a dump's folder (store.md section 1). No name is made of anything but a dump id and numbers.

Owns names. Must not touch files.
"""

from __future__ import annotations

import re
from typing import Final

from netdump.errors import DumpNotFoundError

ORIGIN: Final = "origin.json"
HEADLINE: Final = "headline"
SEGMENTS: Final = "segments"
MANIFEST: Final = "manifest.json"
RECEIPT: Final = "receipt.json"
VMCORE: Final = "vmcore"
LOCK: Final = "lock"
PARTIAL: Final = ".partial"
TRASH: Final = ".trash-"
TRIAL: Final = ".trial"

_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
_SEGMENT: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.seg\Z")


def is_dump_id(text: str) -> bool:
    """Whether text is a dump id: 32 lower-case hexadecimal digits."""
    return _ID.match(text) is not None


def checked_id(text: str) -> str:
    """text, if it is a dump id. Raises DumpNotFoundError: nothing else names a dump."""
    if not is_dump_id(text):
        raise DumpNotFoundError(f"{text!r} is not a dump id, which has 32 lower-case hexadecimal digits")
    return text


def segment_name(start: int, end: int) -> str:
    """The file name of the segment that holds the image from start to end (exclusive)."""
    return f"{start:016x}-{end:016x}.seg"


def segment_range(name: str) -> tuple[int, int] | None:
    """(start, end) of a segment's file name; None if it is not one."""
    match = _SEGMENT.match(name)
    if match is None:
        return None
    return int(match[1], 16), int(match[2], 16)


def open_segment_name(start: int) -> str:
    """The name of a segment while it is written: its end is not known yet. Ends in PARTIAL, [S-01]."""
    return f"{start:016x}.seg{PARTIAL}"
