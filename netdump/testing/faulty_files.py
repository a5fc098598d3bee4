"""The store's file operations with faults: each is recorded, and any can fail, or be the last that a process did.

Wraps any Files: LocalFiles for tests on a real disk, MemoryFiles for power cuts. Must not know dumps.

    files = FaultyFiles(LocalFiles(root))
    files.fail(at=7, error=errno.EIO)      # the 8th operation from now on
    files.stop(at=7, moment=Moment.AFTER)  # the process is killed after it
    files.fill_up()                        # whatever needs room fails with ENOSPC until make_room()
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar, runtime_checkable

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.store.files import Buffer, File, Files, Lock, Status

_Result = TypeVar("_Result")

GROWING: Final = frozenset({"create", "make_folder", "lock", "write", "write_at", "sync", "sync_folder", "rename"})
"""Operations that may find the disk full. resize only makes holes here."""


class Stopped(BaseException):
    """The process is dead: no handler of errors runs, and no operation is carried out any more."""


class Moment(Enum):
    """When a process dies. IN_THE_MIDDLE: of a write, half of it done; of anything else as BEFORE."""

    BEFORE = "before"
    IN_THE_MIDDLE = "in the middle"
    AFTER = "after"


class Operation(NamedTuple):
    """What was asked for. kind: the name of the method; name: of the file or folder."""

    kind: str
    name: str


@runtime_checkable
class Forgetful(Protocol):
    """A file that can lose for good what was not synced, as the kernel does when writing back has failed ([S-04])."""

    def forget_unsynced(self) -> None:
        """Do so."""


class FaultyFiles:
    """Files with faults.

    Spec of the methods: netdump.store.files.Files. Not for several threads while a fault is planned.
    """

    def __init__(self, inner: Files) -> None:
        self.operations: Final[list[Operation]] = []
        self.stopped = False
        self._full_from: int | None = None
        self._inner: Final = inner
        self._failing: dict[int, int] = {}
        self._stop: tuple[int, Moment] | None = None
        self._handles: Final[set[_FaultyFile | _FaultyLock]] = set()

    def fail(self, at: int = 0, error: int = errno.EIO, times: int = 1) -> None:
        """Let that operation from now on fail (0: the next), and times - 1 after it.

        Of a failing write half is done.
        """
        first = len(self.operations) + at
        self._failing.update(dict.fromkeys(range(first, first + times), error))

    def stop(self, at: int = 0, moment: Moment = Moment.BEFORE) -> None:
        """Let the process die at that operation from now on (0: the next).

        What it has open is closed, its locks end.
        """
        self._stop = (len(self.operations) + at, moment)

    def fill_up(self, at: int = 0) -> None:
        """Let every operation that needs room fail with ENOSPC, from that one from now on (0: the next)."""
        self._full_from = len(self.operations) + at

    def make_room(self) -> None:
        """End what fill_up() has begun."""
        self._full_from = None

    def forget_plans(self) -> None:
        """Nothing that was planned goes wrong any more."""
        self._failing.clear()
        self._stop = None

    @property
    def full(self) -> bool:
        """Whether the next operation finds the disk full."""
        return self._full_from is not None and len(self.operations) >= self._full_from

    def do(
        self, operation: Operation, work: Callable[[], _Result], half: Callable[[], object] | None = None
    ) -> _Result:
        """Carry out an operation, or what is planned for it. half: does it by half. Used by the files, not by tests."""
        if self.stopped:
            raise Stopped
        number = len(self.operations)
        error = errno.ENOSPC if self.full and operation.kind in GROWING else self._failing.pop(number, 0)
        self.operations.append(operation)
        stop = self._stop[1] if self._stop is not None and self._stop[0] == number else None
        if half is not None and (error or stop is Moment.IN_THE_MIDDLE):
            half()
        if stop in {Moment.BEFORE, Moment.IN_THE_MIDDLE}:
            self._die()
        if error:
            raise OSError(error, os.strerror(error), operation.name)
        try:
            return work()
        finally:
            if stop is Moment.AFTER:  # also after an operation that failed by itself
                self._die()

    def _die(self) -> NoReturn:
        self.stopped = True
        for handle in list(self._handles):
            handle.abandon()
        self._handles.clear()
        raise Stopped

    def create(self, name: str) -> File:
        """See Files."""
        return self.do(Operation("create", name), lambda: self._keep(_FaultyFile(self, name, self._inner.create(name))))

    def open(self, name: str) -> File:
        """See Files."""
        return self.do(Operation("open", name), lambda: self._keep(_FaultyFile(self, name, self._inner.open(name))))

    def rename(self, old: str, new: str) -> None:
        """See Files."""
        self.do(Operation("rename", new), lambda: self._inner.rename(old, new))

    def unlink(self, name: str) -> None:
        """See Files."""
        self.do(Operation("unlink", name), lambda: self._inner.unlink(name))

    def make_folder(self, name: str) -> None:
        """See Files."""
        self.do(Operation("make_folder", name), lambda: self._inner.make_folder(name))

    def remove_folder(self, name: str) -> None:
        """See Files."""
        self.do(Operation("remove_folder", name), lambda: self._inner.remove_folder(name))

    def sync_folder(self, name: str) -> None:
        """See Files."""
        self.do(Operation("sync_folder", name), lambda: self._inner.sync_folder(name))

    def names(self, folder: str) -> list[str]:
        """See Files."""
        return self.do(Operation("names", folder), lambda: self._inner.names(folder))

    def status(self, name: str) -> Status | None:
        """See Files."""
        return self.do(Operation("status", name), lambda: self._inner.status(name))

    def lock(self, name: str) -> Lock:
        """See Files."""
        return self.do(Operation("lock", name), lambda: self._keep(_FaultyLock(self, name, self._inner.lock(name))))

    def forget(self, handle: _FaultyFile | _FaultyLock) -> None:
        """A handle was closed in good order."""
        self._handles.discard(handle)

    def _keep(self, handle: _Handle) -> _Handle:
        # Kept within the operation: it may be the process's last, and then nobody ever gets the handle.
        self._handles.add(handle)
        return handle


class _FaultyFile:
    """File with faults."""

    def __init__(self, files: FaultyFiles, name: str, inner: File) -> None:
        self._files: Final = files
        self._name: Final = name
        self._inner: Final = inner

    def read(self, position: int, length: int) -> bytes:
        return self._files.do(Operation("read", self._name), lambda: self._inner.read(position, length))

    def size(self) -> int:
        return self._files.do(Operation("size", self._name), self._inner.size)

    def next_data(self, position: int) -> int:
        return self._files.do(Operation("next_data", self._name), lambda: self._inner.next_data(position))

    def write(self, data: Buffer) -> None:
        half = memoryview(data)[: len(data) // 2]
        self._files.do(Operation("write", self._name), lambda: self._inner.write(data), lambda: self._inner.write(half))

    def write_at(self, position: int, data: Buffer) -> None:
        half = memoryview(data)[: len(data) // 2]
        self._files.do(
            Operation("write_at", self._name),
            lambda: self._inner.write_at(position, data),
            lambda: self._inner.write_at(position, half),
        )

    def resize(self, size: int) -> None:
        self._files.do(Operation("resize", self._name), lambda: self._inner.resize(size))

    def sync(self) -> None:
        try:
            self._files.do(Operation("sync", self._name), self._inner.sync)
        except OSError:
            if isinstance(self._inner, Forgetful):
                self._inner.forget_unsynced()
            raise

    def close(self) -> None:
        try:
            self._files.do(Operation("close", self._name), self._inner.close)
        finally:
            # close(2) gives the descriptor up even when it reports an error.
            if not self._files.stopped:
                self.abandon()
                self._files.forget(self)

    def abandon(self) -> None:
        """What the kernel does when the process dies."""
        with suppress(OSError):
            self._inner.close()


class _FaultyLock:
    """Lock with faults."""

    def __init__(self, files: FaultyFiles, name: str, inner: Lock) -> None:
        self._files: Final = files
        self._name: Final = name
        self._inner: Final = inner

    def release(self) -> None:
        try:
            self._files.do(Operation("release", self._name), self._inner.release)
        finally:
            if not self._files.stopped:
                self.abandon()
                self._files.forget(self)

    def abandon(self) -> None:
        """What the kernel does when the process dies."""
        self._inner.release()


_Handle = TypeVar("_Handle", _FaultyFile, _FaultyLock)
