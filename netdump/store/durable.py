"""How a file becomes durable under its name, and how a whole small file is read back.

Owns the recipe of [S-01] and the meaning of OSError for the store. Must not know what the files hold.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import StorageFaultError
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.store.files import Buffer, File, Files

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}

TOO_LARGE: Final = (
    "use a folder on another file system, this one takes no file of that size (vfat: 4 GiB); "
    "or lift the limit (ulimit -f)"
)
"""What to do about EFBIG."""


@contextmanager
def storage_faults(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into StorageFaultError.

    doing: what was tried, with the dump, as in "storing chunks of ...".
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = "make room, then it goes on"
        else:
            advice = TOO_LARGE if error.errno == errno.EFBIG else "check the disk and the rights of the folder"
        raise StorageFaultError(f"{doing}: {error.strerror or error}; {advice}") from error


@contextmanager
def dump_faults(doing: str, dump_id: str) -> Iterator[None]:
    """As storage_faults(), for one dump; and let damage found in the block say which dump it is of."""
    try:
        with storage_faults(f"{doing} dump {dump_id}"):
            yield
    except DamageFoundError as error:
        raise DamageFoundError(error.finding, dump_id) from None


def write_durably(files: Files, name: str, data: Buffer) -> None:
    """Make a new file that is whole and durable when this returns.

    Holder of the lock only. Raises OSError. Spec: [S-01].
    """
    discard(files, name + PARTIAL)
    file = files.create(name + PARTIAL)
    try:
        file.write(data)
        publish(files, file, name + PARTIAL, name)
    except BaseException:  # an interrupt too; it goes on its way
        drop(files, file, name + PARTIAL)
        raise


def publish(files: Files, file: File, partial: str, name: str) -> None:
    """Sync a written file, close it, give it its final name and make that durable. Raises OSError. Spec: [S-01].

    If the name cannot be made durable the file is removed again, so that no later reader counts what a failed sync
    has left in doubt, [S-04].
    """
    file.sync()
    file.close()
    files.rename(partial, name)
    try:
        files.sync_folder(name.rpartition("/")[0])
    except OSError:
        with suppress(OSError):
            files.unlink(name)
        raise


def drop(files: Files, file: File, partial: str) -> None:
    """Close and remove a file that did not make it, as far as possible: the error that led here is the one to tell."""
    with suppress(OSError):
        file.close()
    with suppress(OSError):
        files.unlink(partial)


def discard(files: Files, name: str) -> None:
    """Remove a file if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        files.unlink(name)


def read_whole(files: Files, name: str, largest: int) -> bytes | None:
    """The content of a file of at most that many bytes; None if there is none.

    Raises OSError, DamageFoundError (content).
    """
    try:
        file = files.open(name)
    except FileNotFoundError:
        return None
    try:
        size = file.size()
        if size > largest:
            text = f"it has {size} bytes, allowed are {largest}"
            raise DamageFoundError(Finding(Damage.CONTENT, name.rpartition("/")[2], None, text))
        return file.read(0, size)
    finally:
        file.close()
