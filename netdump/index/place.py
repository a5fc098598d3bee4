"""Where an index lies: its file, what SQLite puts beside it, and the lock for putting another in its place.

Whoever has the index open holds a shared flock(2) on `index.lock`, and who puts another file in its place an exclusive
one. SQLite finds its journal by name, so replacing a file that somebody has open would let the two mix ("How To Corrupt
An SQLite Database File", section 4.2 of sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError
from netdump.index.faults import faults

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "index.sqlite"
LOCK_NAME: Final = "index.lock"
COMPANIONS: Final = ("-journal",)
"""How the names of the files end that belong to an index."""


def make(path: Path) -> None:
    """Make the file of an index if it is not there. Raises ValueError if there is something else, OSError.

    SQLite would make it readable for everybody; its other files take owner and mode of this one.
    """
    if not is_plain(path):
        raise ValueError("it is no plain file")
    os.close(open_own(path))


def is_plain(path: Path) -> bool:
    """Whether index and journal at that path are files, or not there. Raises OSError."""
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.with_name(path.name + suffix).lstat().st_mode):
                return False
    return True


def put_aside(path: Path) -> Path:
    """Give a damaged index, with its journal, another name, and return that. For who has it alone. Raises OSError."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{NAME}.damaged-{number}")):
        number += 1
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def take_lock(path: Path, kind: int, why: str) -> int:
    """A descriptor that holds a flock on the lock beside an index, for the caller to close.

    kind: LOCK_SH or LOCK_EX of fcntl. Raises BusyError with why, IndexFaultError.
    """
    with faults(path):
        descriptor = open_own(path.with_name(LOCK_NAME))
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(f"the index {path} {why}") from None
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def open_own(path: Path) -> int:
    """Open a file of the collector's folder for writing, made if it is not there, for the owner only. Raises OSError.

    The owner is that of the folder: what root makes there in passing must not keep the collector out.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != folder.st_uid:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
