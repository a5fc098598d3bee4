"""What the init says: into the kernel's log, which goes to every console, or to its own output without one.

Owns the prefix and the level. Never fails and never waits for a reader.
"""

from __future__ import annotations

import os
from contextlib import suppress

KMSG = "/dev/kmsg"
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


def _say_plainly(line: bytes) -> None:
    with suppress(OSError):  # nobody reads
        os.write(2, b"netdump-init: " + line + b"\n")
