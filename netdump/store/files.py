"""The file operations of the store, few enough to inject a fault into each; and the local file system behind them.

Owns open flags, modes and the order of calls below one operation. Must not know dumps: names are relative to a root
folder, parts joined by ``/``. Every operation raises OSError when it fails, with errno set; the store turns that into
its own errors.

Nothing here follows a symbolic link below the root: each folder of a name is opened by itself with O_NOFOLLOW,
relative to the one before it. Files are made with mode 0600, folders with 0700 (a memory image is a secret).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Buffer = bytes | bytearray | memoryview

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UPDATE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Status(NamedTuple):
    """What a name stands for. bytes: its length; disk_bytes: what it occupies (less, if it has holes)."""

    bytes: int
    disk_bytes: int
    is_folder: bool


class ReadableFile(Protocol):
    """Something to read at any position. Safe for several threads."""

    def read(self, position: int, length: int) -> Buffer:
        """Bytes from position; fewer than length only at the end of the file. Views into it hold until it is closed."""

    def size(self) -> int:
        """Bytes in the file."""

    def next_data(self, position: int) -> int:
        """Where something else than a hole begins, at position or behind it; the file's size if nothing does.

        Holes read as zeros. position itself where the file system does not tell.
        """

    def close(self) -> None:
        """Give it back; may be called again."""


class File(ReadableFile, Protocol):
    """An open file. write() is for one thread; read(), write_at() and size() for any."""

    def read(self, position: int, length: int) -> bytes:
        """As ReadableFile."""

    def write(self, data: Buffer) -> None:
        """Add all of data at the end of what this object has written. After an error an unknown part of it is there."""

    def write_at(self, position: int, data: Buffer) -> None:
        """Put all of data at position; what lies between the old end and position becomes a hole."""

    def resize(self, size: int) -> None:
        """Set the length; what is new is a hole."""

    def sync(self) -> None:
        """Make data and length durable.

        An error is final for the file: what was written may be lost for good, [S-04].
        """


class Lock(Protocol):
    """A held lock. It ends with release() or with the process."""

    def release(self) -> None:
        """Give it back; may be called again."""


class Files(Protocol):
    """A tree of files. Safe for several threads as long as they work on different names."""

    def create(self, name: str) -> File:
        """A new, empty file. FileExistsError if there is one."""

    def open(self, name: str) -> File:
        """A file to read. FileNotFoundError if there is none, or something else than a regular file."""

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name; a file of the new name is replaced atomically."""

    def unlink(self, name: str) -> None:
        """Remove a file."""

    def make_folder(self, name: str) -> None:
        """A new folder. FileExistsError if there is something."""

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""

    def sync_folder(self, name: str) -> None:
        """Make the names in a folder durable. "": the root."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted. "": the root."""

    def status(self, name: str) -> Status | None:
        """What the name stands for, a symbolic link not followed; None if there is nothing."""

    def lock(self, name: str) -> Lock:
        """Take the exclusive lock of that file, which is made if need be. BlockingIOError if another holds it."""


class LocalFile:
    """File on a local file system. Spec of the methods: File."""

    __slots__ = ("_descriptor", "_end")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = 0

    def read(self, position: int, length: int) -> bytes:
        """pread(2), until there is enough or the file ends."""
        data = os.pread(self._descriptor, length, position)
        if len(data) == length or not data:
            return data
        pieces = [data]
        missing = length - len(data)
        while missing and (data := os.pread(self._descriptor, missing, position + length - missing)):
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def size(self) -> int:
        """fstat(2)."""
        return os.fstat(self._descriptor).st_size

    def next_data(self, position: int) -> int:
        """lseek(2), SEEK_DATA. The offset that it moves is nobody's: everything else names its positions."""
        try:
            return os.lseek(self._descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return max(position, self.size())
            if error.errno == errno.EINVAL:
                return position
            raise

    def write(self, data: Buffer) -> None:
        """pwrite(2) behind what this object has written."""
        self.write_at(self._end, data)
        self._end += len(data)

    def write_at(self, position: int, data: Buffer) -> None:
        """pwrite(2), until all is written."""
        done = os.pwrite(self._descriptor, data, position)
        while done < len(data):
            # A short write is the last one before the reason shows: a full disk, a quota, a file size limit.
            done += os.pwrite(self._descriptor, memoryview(data)[done:], position + done)

    def is_only(self, owner: int) -> bool:
        """Whether it belongs to that user and has one name only. If so nobody else may open it from now on."""
        found = os.fstat(self._descriptor)
        if found.st_nlink > 1 or found.st_uid != owner:
            return False
        with suppress(OSError):  # some file systems have no modes
            os.fchmod(self._descriptor, 0o600)
        return True

    def resize(self, size: int) -> None:
        """ftruncate(2)."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """fdatasync(2): data and length."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """close(2), once."""
        # The descriptor is gone even if close() reports an error, so it must not be closed again.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LocalLock:
    """A flock(2). The kernel gives it back when the process dies."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """close(2), which gives the lock back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LocalFiles:
    """Files in a folder of a local file system. Spec of the methods: Files. Keeps nothing open itself."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root: Final = root

    def create(self, name: str) -> LocalFile:
        """open(2) with O_EXCL, mode 0600."""
        with self._place(name) as (folder, last):
            return LocalFile(os.open(last, _CREATE, 0o600, dir_fd=folder))

    def open(self, name: str) -> LocalFile:
        """open(2) for reading."""
        return self._open(name, _READ)

    def update(self, name: str) -> LocalFile:
        """open(2) for reading and writing. FileNotFoundError as open(), and if it is somebody else's too."""
        file = self._open(name, _UPDATE)
        with self._place(name) as (folder, _):
            # Not the user's id: where root is nobody (NFS) both are nobody's.
            owner = os.fstat(folder).st_uid
        if not file.is_only(owner):
            file.close()
            raise FileNotFoundError(errno.ENOENT, "somebody else's file too", name)
        return file

    def _open(self, name: str, flags: int) -> LocalFile:
        with self._place(name) as (folder, last):
            try:
                descriptor = os.open(last, flags, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise FileNotFoundError(errno.ENOENT, "a symbolic link", name) from None
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
        return LocalFile(descriptor)

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        with self._place(old) as (old_folder, old_last), self._place(new) as (new_folder, new_last):
            os.rename(old_last, new_last, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def unlink(self, name: str) -> None:
        """unlink(2)."""
        with self._place(name) as (folder, last):
            os.unlink(last, dir_fd=folder)

    def make_folder(self, name: str) -> None:
        """mkdir(2), mode 0700."""
        with self._place(name) as (folder, last):
            os.mkdir(last, 0o700, dir_fd=folder)

    def remove_folder(self, name: str) -> None:
        """rmdir(2)."""
        with self._place(name) as (folder, last):
            os.rmdir(last, dir_fd=folder)

    def sync_folder(self, name: str) -> None:
        """fsync(2) of the folder."""
        with self._folder(name.split("/") if name else []) as folder:
            os.fsync(folder)

    def names(self, folder: str) -> list[str]:
        """The entries, sorted."""
        with self._folder(folder.split("/") if folder else []) as descriptor:
            return sorted(os.listdir(descriptor))

    def status(self, name: str) -> Status | None:
        """lstat(2)."""
        try:
            with self._place(name) as (folder, last):
                found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return Status(found.st_size, found.st_blocks * 512, stat.S_ISDIR(found.st_mode))

    def lock(self, name: str) -> LocalLock:
        """flock(2), exclusive, without waiting."""
        with self._place(name) as (folder, last):
            descriptor = os.open(last, _LOCK, 0o600, dir_fd=folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(descriptor)
                raise
        # Between open and flock the holder may have moved the folder away, and the file with it: then this lock is of
        # nothing.
        if not self._is_still(name, descriptor):
            os.close(descriptor)
            raise BlockingIOError(errno.EWOULDBLOCK, "the locked file was moved away", name)
        return LocalLock(descriptor)

    def _is_still(self, name: str, descriptor: int) -> bool:
        try:
            with self._place(name) as (folder, last):
                return os.path.samestat(os.fstat(descriptor), os.stat(last, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            return False

    @contextmanager
    def _place(self, name: str) -> Iterator[tuple[int, str]]:
        """(descriptor of the folder that name is in, its last part)."""
        *parents, last = name.split("/")
        with self._folder(parents) as folder:
            yield folder, _checked(last)

    @contextmanager
    def _folder(self, parts: list[str]) -> Iterator[int]:
        """The descriptor of a folder, by the parts of its name, until the end of the block.

        The root itself may be a symbolic link.
        """
        if parts:
            descriptor = os.open(os.path.join(self._root, _checked(parts[0])), _FOLDER | os.O_NOFOLLOW)
        else:
            descriptor = os.open(self._root, _FOLDER)
        try:
            for part in parts[1:]:
                inner = os.open(_checked(part), _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def _checked(part: str) -> str:
    """One part of a name. Whatever would lead elsewhere is a mistake of the store, never something a peer can send."""
    assert part not in {"", ".", ".."}, part
    assert "/" not in part, part
    assert "\0" not in part, part
    return part
