"""Which pages of a core could not be read when it was saved to a file, where they are holes like zeros.

Owns the list beside such a file, `FILE.lost`: a line for each stretch, its offset and its length in bytes. Without it
they would be sent as zeros, and the dump would say that memory was zero which nobody has seen.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from netdump.errors import SourceUnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOST: Final = ".lost"
STRETCHES_MAX: Final = 4096
"""In a list. What is lost beyond is zeros in the file, and nothing else."""

_BYTES_MAX: Final = STRETCHES_MAX * 42  # two numbers of 64 bits, a blank and a line feed
_LINE: Final = re.compile(rb"(0|[1-9][0-9]{0,18}) ([1-9][0-9]{0,18})\n")
_NONE: Final = {errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}


def pack(stretches: Sequence[tuple[int, int]]) -> bytes:
    """The list of (offset, length), of the first STRETCHES_MAX."""
    return b"".join(b"%d %d\n" % stretch for stretch in stretches[:STRETCHES_MAX])


def read(path: str, owner: int) -> list[tuple[int, int]]:
    """(start, end) of what was lost of the core at path; empty without a list.

    owner: whose the core is. What is somebody else's, or no file, is no list of ours: into some folders all may write.
    Raises SourceUnreadableError for one that cannot be read, or is damaged.
    """
    try:
        descriptor = os.open(path + LOST, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise SourceUnreadableError(f"{path}{LOST} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            return []
        return _parse(os.pread(descriptor, _BYTES_MAX + 1, 0), path)
    except OSError as error:
        raise SourceUnreadableError(f"{path}{LOST} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _parse(text: bytes, path: str) -> list[tuple[int, int]]:
    found = [(int(start), int(start) + int(length)) for start, length in _LINE.findall(text)]
    if len(text) > _BYTES_MAX or pack([(start, end - start) for start, end in found]) != text:
        raise SourceUnreadableError(
            f"{path}{LOST} is damaged, which says what could not be read: remove it to have that sent as zeros"
        )
    return found
