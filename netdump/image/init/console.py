"""What the init says: into the kernel's log, which goes to every console, or to its own output without one.

Owns the prefix and the level, and the notes of what went wrong, which the client hands to the collector. Never fails
and never waits for a reader.
"""

from __future__ import annotations

import os
from contextlib import suppress

KMSG = "/dev/kmsg"
NOTES = "/run/netdump-notes"
NOTES_BYTES_MAX = 1 << 12
LINE_BYTES_MAX = 900  # the kernel takes 1024 with its own prefix (Linux kernel/printk/printk.c, PRINTKRB_RECORD_MAX)
_LEVEL = 4  # warning: shown with any sensible loglevel


def say(text: str) -> None:
    """Write one line."""
    line = text.replace("\n", " ").encode(errors="replace")[:LINE_BYTES_MAX]
    try:
        descriptor = os.open(KMSG, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"<%d>netdump-init: %s" % (_LEVEL, line))
        finally:
            os.close(descriptor)
    except OSError:
        _say_plainly(line)


def warn(text: str) -> None:
    """Write one line, and keep it for the collector. A line that is noted already is not noted again."""
    text = text.replace("\n", " ")
    say(text)
    known = notes()
    if text in known or sum(map(len, known)) > NOTES_BYTES_MAX:
        return
    with suppress(OSError):  # no memory: the console has it
        descriptor = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.encode(errors="replace") + b"\n")
        finally:
            os.close(descriptor)


def notes() -> list[str]:
    """What went wrong up to now, of all stages, oldest first."""
    try:
        with open(NOTES, encoding="utf-8", errors="replace") as file:
            return file.read(2 * NOTES_BYTES_MAX).splitlines()
    except OSError:
        return []


def _say_plainly(line: bytes) -> None:
    with suppress(OSError):  # nobody reads
        os.write(2, b"netdump-init: " + line + b"\n")
