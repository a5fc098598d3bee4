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
ASIDE_MAX: Final = 3  # damaged ones that are kept
_ASIDE: Final = f"{NAME}.damaged-"
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
    """Give a damaged index, with its journal, another name, and return that. For who has it alone. Raises OSError.

    Of files that were put aside before, the newest are kept, ASIDE_MAX with this one: an index of many dumps is large,
    and a disk that damages one may go on.
    """
    numbers = sorted(
        int(known.name.removeprefix(_ASIDE)) for known in path.parent.glob(f"{_ASIDE}*") if _is_aside(known)
    )
    aside = path.with_name(f"{_ASIDE}{numbers[-1] + 1 if numbers else 1}")
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    for number in numbers[: -(ASIDE_MAX - 1)]:
        for suffix in ("", *COMPANIONS):
            with suppress(OSError):  # gone, a folder, which is none of ours to remove, or it cannot be now
                path.with_name(f"{_ASIDE}{number}{suffix}").unlink()
    return aside


def _is_aside(path: Path) -> bool:
    number = path.name.removeprefix(_ASIDE)
    return number.isascii() and number.isdecimal()


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


def is_locked(path: Path) -> bool:
    """Whether somebody holds the flock on that file, if there is one. Raises OSError.

    Shares it for a moment to find out: who comes to take it in that very moment finds it taken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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
