"""/proc/vmcore, read through mappings that are copied by a system call.

Owns how pages get out of /proc/vmcore. Must not know what is in them.

read() on /proc/vmcore maps every page anew and is ten times slower than mmap(). But touching a mapped page that the
machine cannot give back raises SIGBUS, which Python does not survive. So a mapping is never touched by the
interpreter: os.pwrite() from the mapping into a memfd lets the kernel do the copying, and a bad page comes back as a
short count or EFAULT (ADR 0005). What fails so is tried again page by page with pread, and what fails then is lost.
"""

from __future__ import annotations

import os
from mmap import ALLOCATIONGRANULARITY, MAP_PRIVATE, PAGESIZE, PROT_READ, mmap
from typing import Final

from netdump.errors import SourceUnreadableError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.filesource import FileSource, add_lost, boot_identity

WINDOW_BYTES: Final = 0x40_0000
"""How much one window maps, as makedumpfile does; mapping costs nothing beside copying from 2 MiB on."""

_WINDOWS_MAX: Final = 2  # the stream, and what it is compared with

_STAGE_BYTES: Final = 0x2_0000  # small enough that what was staged is still in the cache when it is copied on

assert WINDOW_BYTES % ALLOCATIONGRANULARITY == 0
assert WINDOW_BYTES % _STAGE_BYTES == 0


class _Window(NamedTuple):
    """A part of the file, mapped. view must be released before mapping can be closed."""

    mapping: mmap
    view: memoryview


class VmcoreSource:
    """/proc/vmcore, or for tests any file. See Source."""

    __slots__ = ("_file", "_memfd", "_stage", "_stage_view", "_windows")

    def __init__(self, path: str) -> None:
        """Open path. Raises SourceUnreadableError."""
        try:
            self._file = FileSource(path)
        except SourceUnreadableError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            hint = "; only a capture kernel, booted with elfcorehdr=, has one" if path.endswith("/vmcore") else ""
            raise SourceUnreadableError(f"{error}{hint}") from error
        self._windows: dict[int, _Window | None] = {}  # by start; oldest first; None where mapping was refused
        self._stage: mmap | None = None
        self._stage_view: memoryview | None = None
        self._memfd = -1
        self._open_stage()

    def _open_stage(self) -> None:
        """Make the memfd. Without one (a kernel without tmpfs, no memory) all reading is by pread."""
        try:
            self._memfd = os.memfd_create("netdump", os.MFD_CLOEXEC)
            os.ftruncate(self._memfd, _STAGE_BYTES)
            self._stage = mmap(self._memfd, _STAGE_BYTES)
        except OSError:
            self._close_stage()
            return
        self._stage_view = memoryview(self._stage)

    @property
    def size(self) -> int:
        """See Source."""
        return self._file.size

    @property
    def name(self) -> str:
        """See Source."""
        return self._file.name

    def read(self, offset: int, length: int) -> bytes:
        """See Source. Headers and notes are few: pread will do."""
        return self._file.read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        """See Source."""
        lost: list[tuple[int, int]] = []
        done = 0
        while done < len(buffer):
            position = offset + done
            piece = buffer[done : done + _STAGE_BYTES - position % _STAGE_BYTES]
            good = self._copy(position, piece)
            if good < len(piece):
                good = max(0, good - (position + good) % PAGESIZE)
                for start, length in self._file.read_into(position + good, piece[good:]):
                    add_lost(lost, done + good + start, length)
            done += len(piece)
        return lost

    def _copy(self, position: int, piece: memoryview) -> int:
        """Copy a piece out of its window; the piece lies within one window. Returns how many bytes of it are good."""
        if self._stage_view is None:
            return 0
        start = position - position % WINDOW_BYTES
        if start not in self._windows:
            self._open_window(start)
        window = self._windows[start]
        if window is None:
            return 0
        try:
            good = os.pwrite(self._memfd, window.view[position - start : position - start + len(piece)], 0)
        except OSError:  # EFAULT: the first page is bad; anything else: no memory for the stage just now
            return 0
        piece[:good] = self._stage_view[:good]
        return good

    def _open_window(self, start: int) -> None:
        """Map the window at start; a refusal (an old kernel, memory that cannot be mapped) holds for this window."""
        if len(self._windows) == _WINDOWS_MAX:
            _close_window(self._windows.pop(next(iter(self._windows))))
        length = min(WINDOW_BYTES, self.size - start)
        try:
            mapping = mmap(self._file.fileno(), length, MAP_PRIVATE, PROT_READ, offset=start)
        except (OSError, ValueError):  # ValueError: the file has become shorter
            self._windows[start] = None
        else:
            self._windows[start] = _Window(mapping, memoryview(mapping))

    def next_data(self, offset: int) -> int:
        """See Source: /proc/vmcore knows no holes."""
        return offset

    def identity(self) -> bytes:
        """See Source: the boot of the running kernel, which sees one crash only."""
        return boot_identity()

    def _close_stage(self) -> None:
        if self._stage_view is not None:
            self._stage_view.release()
        if self._stage is not None:
            self._stage.close()
        if self._memfd >= 0:
            os.close(self._memfd)
        self._stage_view = self._stage = None
        self._memfd = -1

    def close(self) -> None:
        """See Source."""
        while self._windows:
            _close_window(self._windows.popitem()[1])
        self._close_stage()
        self._file.close()


def _close_window(window: _Window | None) -> None:
    if window is not None:
        window.view.release()
        window.mapping.close()
