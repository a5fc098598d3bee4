"""`python -m netdump.client`: the sender without the rest of netdump, as the capture image starts it.

A process that does nothing but send. Start-up and end are most of what a small dump costs on one slow CPU, so nothing
is collected while modules are made (6 of 90 ms), and nothing is taken apart at the end (10 ms).
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn


def run(arguments: list[str]) -> NoReturn:
    """Send, and end the process with the exit status."""
    gc.disable()
    from netdump.client.command import main  # noqa: PLC0415 - not before the line above

    gc.freeze()
    gc.enable()
    leave(main(arguments))


def leave(status: int) -> NoReturn:
    """End the process at once, with what was printed, but without taking anything apart."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads, or it was closed: the status says how it went
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run(sys.argv[1:])
