"""A core in an ordinary file, read by pread: no mapping, so nothing that happens to the file can kill the process.

Owns opening and plain reading of files and devices. Must not know what is in them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from mmap import PAGESIZE
from typing import Final

from netdump.errors import SourceUnreadableError, TruncatedCoreError

UNKNOWN_SIZE: Final = 1 << 52
"""Size given to a device that does not tell its own: reading beyond its end yields lost pages."""

LOST_KEPT: Final = 4096
"""How many stretches that could not be read are remembered."""

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class FileSource:
    """A regular file or a block device; with any_device also a character device, such as /dev/oldmem. See Source.

    Pages that could not be read are not tried again: a disk that fails may take seconds for each, and whoever begins
    anew after a cut of the connection must not wait for them once more. What is missing of a file that has become
    shorter is lost, too; with is_whole, read_into raises TruncatedCoreError instead, and SourceUnreadableError if all
    of the file has gone, with its disk or server: it may be there again later. With is_whole, what could not be read
    when the file was saved is lost as well (netdump.vmcore.lostpages).
    """

    __slots__ = ("_fd", "_is_whole", "_known_lost", "name", "size")

    def __init__(self, path: str, any_device: bool = False, is_whole: bool = False) -> None:
        """Open path. Raises SourceUnreadableError if that fails, or if it is neither a file nor an allowed device."""
        self.name = path
        self._is_whole = is_whole
        self._known_lost: list[tuple[int, int]] = []  # (start, end) in the file, in the order in which they were found
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceUnreadableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            self.size = _size(self._fd, path, any_device)
            if is_whole:
                from netdump.vmcore import lostpages  # noqa: PLC0415 - not for what a capture kernel shows

                self._known_lost += lostpages.read(path, os.fstat(self._fd).st_uid)
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """The open file, for those who read it another way too. It stays ours."""
        return self._fd

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        parts = []
        while length > 0:
            try:
                part = os.pread(self._fd, length, offset)
            except OSError as error:
                raise SourceUnreadableError(f"{self.name} cannot be read at {offset}: {error.strerror}") from error
            if not part:
                raise SourceUnreadableError(f"{self.name} has become shorter: nothing at {offset} any more")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        """See Source."""
        if not self._known_lost:
            return self._try(offset, buffer)
        end = offset + len(buffer)
        known = sorted(
            (max(low, offset), min(high, end)) for low, high in self._known_lost if low < end and offset < high
        )
        lost: list[tuple[int, int]] = []
        position = offset
        for low, high in [*known, (end, end)]:
            for start, length in self._try(position, buffer[position - offset : low - offset]):
                add_lost(lost, position - offset + start, length)
            if low < high:
                add_lost(lost, low - offset, high - low)
            position = high
        return lost

    def _try(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        """Read what is not known to be lost."""
        wanted = len(buffer)
        done = 0
        try:
            while done < wanted:
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
                if count == 0:  # the file has become shorter
                    if self._is_whole:
                        raise TruncatedCoreError(
                            f"{self.name} has become shorter while it was read, from {self.size} to "
                            f"{os.fstat(self._fd).st_size} bytes: send it again when it is whole, and it goes on"
                        )
                    start = max(0, done - (offset + done) % PAGESIZE)
                    return [(start, wanted - start)]
                done += count
        except OSError:
            return self._read_pages(offset, buffer, done)
        return []

    def _read_pages(self, offset: int, buffer: memoryview, done: int) -> list[tuple[int, int]]:
        """Fill the rest of buffer page by page. done: bytes of it that are good already."""
        lost: list[tuple[int, int]] = []
        done = max(0, done - (offset + done) % PAGESIZE)
        while done < len(buffer):
            page = buffer[done : done + PAGESIZE - (offset + done) % PAGESIZE]
            try:
                good = os.preadv(self._fd, [page], offset + done) == len(page)
            except OSError:
                good = False
            if not good:
                add_lost(lost, done, len(page))
                self._remember(offset + done, len(page))
            done += len(page)
        if lost and self._is_whole:
            self._see_whether_it_is_there()
        return lost

    def _see_whether_it_is_there(self) -> None:
        """Whether pages fail, or the file: its first page could be read once. Raises SourceUnreadableError."""
        try:
            os.posix_fadvise(self._fd, 0, PAGESIZE, os.POSIX_FADV_DONTNEED)  # not from memory
            os.pread(self._fd, 1, 0)
        except OSError as error:
            raise SourceUnreadableError(
                f"{self.name} cannot be read any more: {error.strerror}; send it again when it can, and it goes on"
            ) from error

    def _remember(self, offset: int, length: int) -> None:
        if self._known_lost and self._known_lost[-1][1] == offset:
            self._known_lost[-1] = (self._known_lost[-1][0], offset + length)
        elif len(self._known_lost) < LOST_KEPT:
            self._known_lost.append((offset, offset + length))

    def next_data(self, offset: int) -> int:
        """See Source. Asks the file system for holes (lseek SEEK_DATA); what is lost may be one, and is no zeros."""
        data = self._next_data(offset)
        return min([data, *(max(low, offset) for low, high in self._known_lost if low < data and offset < high)])

    def _next_data(self, offset: int) -> int:
        try:
            return min(os.lseek(self._fd, offset, os.SEEK_DATA), self.size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return offset
        # No data up to the end of the file, which may have moved: beyond it pages are lost, not zero.
        return max(offset, min(self.size, os.fstat(self._fd).st_size))

    def identity(self) -> bytes:
        """See Source: device, inode, time of last modification; of a character device the boot it is seen in."""
        status = os.fstat(self._fd)
        if stat.S_ISCHR(status.st_mode):
            return boot_identity()
        return f"file {status.st_dev} {status.st_ino} {status.st_mtime_ns}".encode()

    def close(self) -> None:
        """See Source."""
        if self._fd >= 0:
            with suppress(OSError):  # closed is closed; some file systems have something to say all the same
                os.close(self._fd)
            self._fd = -1


def boot_identity() -> bytes:
    """Names this boot of the running kernel, which sees one crash only. Source: random(4).

    Raises SourceUnreadableError: without it two crashes could not be told apart.
    """
    try:
        with open(_BOOT_ID, "rb") as file:
            return b"boot " + file.read(64).strip()
    except OSError as error:
        raise SourceUnreadableError(f"{_BOOT_ID} cannot be read: {error.strerror}; mount /proc") from error


def add_lost(lost: list[tuple[int, int]], start: int, length: int) -> None:
    """Add a stretch that could not be read, as one with the last if they touch."""
    if lost and sum(lost[-1]) == start:
        start, before = lost.pop()
        length += before
    lost.append((start, length))


def _size(fd: int, path: str, any_device: bool) -> int:
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISBLK(status.st_mode):
        return os.lseek(fd, 0, os.SEEK_END)
    if any_device and stat.S_ISCHR(status.st_mode):
        return UNKNOWN_SIZE
    raise SourceUnreadableError(f"{path} is not a regular file; give the path of a core")
