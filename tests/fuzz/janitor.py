"""Removes what a fuzzer leaves in memory: libFuzzer ends its process without a word to Python, or somebody kills it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")


def prefix() -> str:
    """How the names of this process's folders in MEMORY begin."""
    return f"netdump-fuzz-{os.getpid()}-"


def call_janitor() -> None:
    """Have a process of its own wait until this one has ended, however that may be, and remove its folders.

    To be called before there are threads.
    """
    mine = prefix()
    read, _open_as_long_as_we_live = os.pipe()
    if os.fork():
        os.close(read)  # the other end no program inherits that we start
        return
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, read)
        os.closerange(read + 1, os.sysconf("SC_OPEN_MAX"))  # also what others wait for the end of
        os.read(read, 1)
        for folder in MEMORY.glob(f"{mine}*"):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(0)
