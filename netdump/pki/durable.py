"""Small files that are there whole or not at all, and stay there after a power cut.

Owns the recipe: a temporary name in the same folder, write, sync, rename, sync of the folder ([S-01] of
protocol/store.md). Files are 0600. Unlike the store's own (netdump/store/durable.py), which serves the one holder of a
dump's lock, it lets any number of writers work at once: nobody waits for a lock to enrol. Must not know what the files
mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from typing import TYPE_CHECKING, Self

from netdump.errors import DamagedError, PkiError, StorageFaultError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

PARTIAL_SUFFIX = ".partial"
ABANDONED_S = 86_400  # a draft as old as that belongs to a process that was killed


def fault(error: OSError, deed: str, path: Path) -> PkiError | StorageFaultError:
    """Return the error to raise for a failed file operation. deed: "read", "write" and so on."""
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return PkiError(f"cannot {deed} {path}: {reason}; run this as the user who owns the folder")
    return StorageFaultError(f"cannot {deed} {path}: {reason}")


class Draft:
    """A file on its way to its name.

    Opened at once, so that a folder that cannot be written shows before anything irrevocable is done. Use as a
    context manager: leaving without `publish` removes the draft. Not thread-safe; two drafts of one path do not
    disturb each other. Raises StorageFaultError or PkiError.
    """

    __slots__ = ("_fd", "_partial", "_reserved", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reserved = False
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL_SUFFIX}")
        try:
            self._fd = os.open(
                self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise fault(error, "write", path) from error

    def give_to_owner(self, of: Path) -> None:
        """Let the file belong to the user and group of another, or of a folder. For root.

        Raises StorageFaultError or PkiError.
        """
        try:
            status = of.stat()
            os.fchown(self._fd, status.st_uid, status.st_gid)
        except OSError as error:
            raise fault(error, "write", self.path) from error

    def reserve(self, count: int) -> None:
        """Have room for so many bytes, so that a full disk shows, too, before anything irrevocable is done.

        Raises StorageFaultError. Where the file system cannot do it, publish finds out.
        """
        self._reserved = True
        try:
            os.posix_fallocate(self._fd, 0, count)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise fault(error, "write", self.path) from error

    def publish(self, data: bytes) -> None:
        """Give the file its content and its name, replacing what had it. When this returns, both are durable."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            if self._reserved:
                os.ftruncate(self._fd, len(data))
            os.fsync(self._fd)
            self._partial.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise fault(error, "write", self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # what was published is durable; the rest was for nothing
            os.close(self._fd)
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Make path a file of exactly this content, durably, replacing what was there.

    What root writes belongs to whom the folder belongs to: the collector that runs there must be able to read it.
    Raises StorageFaultError or PkiError.
    """
    with Draft(path) as draft:
        if os.geteuid() == 0:
            draft.give_to_owner(path.parent)
        draft.publish(data)


def remove_abandoned(path: Path) -> None:
    """Remove the drafts of path that killed processes have left. What cannot be removed stays."""
    draft = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}{re.escape(PARTIAL_SUFFIX)}")
    with contextlib.suppress(OSError):
        for each in path.parent.iterdir():
            with contextlib.suppress(OSError):
                if draft.fullmatch(each.name) and each.lstat().st_mtime + ABANDONED_S < time.time():
                    each.unlink()


def names(folder: Path) -> list[str]:
    """The names of what lies in a folder, in their order. Raises StorageFaultError, PkiError.

    Path.glob would say of a folder that is missing, or may not be read, that there is nothing in it.
    """
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError as error:
        raise PkiError(f"{folder} is missing: restore it from a backup, or make it if it was empty there") from error
    except OSError as error:
        raise fault(error, "read", folder) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(source: Path, target: Path) -> bool:
    """Rename durably within one folder; True for the one caller that did it, False if source is not there (any more).

    Of any number of threads and processes that try at the same instant, one gets True. Raises StorageFaultError or
    PkiError; then source has its name, if the disk takes that back.
    """
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise fault(error, "rename", source) from error
    try:
        sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.rename(source)
        raise fault(error, "rename", source) from error
    return True


def read(path: Path, limit: int) -> bytes:
    """Return a file's content.

    limit: bytes; a longer file raises DamagedError. Raises FileNotFoundError, StorageFaultError, PkiError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise fault(error, "read", path) from error
    if len(data) > limit:
        raise DamagedError(f"{path} is longer than the {limit} bytes that such a file can have")
    return data
