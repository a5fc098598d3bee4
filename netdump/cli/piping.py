"""Standard output as the place where a fetched file goes, `-o -`.

Owns when it may. Every OSError that leaves this module is about standard output; main.py tells it so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from netdump.remote.progress import Follower
from netdump.remote.staging import disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.remote.progress import Progress

DASH: Final = "-"

_PIECE_BYTES: Final = 1 << 20


def is_piped(output: str | None, *, as_json: bool) -> bool:
    """Whether standard output is meant. Raises click.UsageError if it may not be.

    That is for an object of JSON beside it, and for a terminal, for which a core is nothing.
    """
    if output != DASH:
        return False
    if as_json:
        raise click.UsageError("-o - and --json exclude each other: both take standard output")
    if sys.stdout.isatty():
        raise click.BadParameter("standard output is a terminal: send it to a pipe or a file", param_hint="-o")
    return True


def pour(path: Path, progress: Progress) -> None:
    """Write all of a file to standard output; its holes are written as zeros. Raises StorageFaultError for the file."""
    follow = Follower(progress, "writing to standard output")
    with disk_faults(path):
        total = path.stat().st_size
    done = 0
    for piece in _pieces(path):
        sys.stdout.buffer.write(piece)
        done += len(piece)
        follow(done, total)
    sys.stdout.buffer.flush()


def _pieces(path: Path) -> Iterator[bytes]:
    with disk_faults(path):
        file = path.open("rb", buffering=0)
    with file:
        while True:
            with disk_faults(path):
                piece = file.read(_PIECE_BYTES)
            if not piece:
                return
            yield piece
