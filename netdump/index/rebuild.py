"""Making an index anew from the store (`netdump reindex DIR`).

Owns the swap of the files. The new index is built beside the old one and put in its place whole, so that a reader sees
the one or the other, and an interruption costs at most a repetition.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError, DumpNotFoundError, IndexFaultError, NotACollectorError
from netdump.index.catalog import STORE_NAME
from netdump.index.gather import gather_anyway
from netdump.index.index import Index
from netdump.index.place import COMPANIONS, NAME, is_plain, open_own, put_aside, take_lock
from netdump.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.index.record import DumpRecord

SERVE_LOCK_NAME: Final = "serve.lock"
SERVE_STATUS_NAME: Final = "serve.json"

_FOLDER: Final = "index.rebuild"
_REBUILT: Final = "index.sqlite.partial"
_REPLACED: Final = "index.sqlite.replaced"
_BATCH: Final = 500


def reindex(directory: Path, progress: Callable[[DumpRecord], None] | None = None) -> int:
    """Make the index of a collector's folder anew and return the number of dumps in it.

    progress: called for each dump in this thread. The old index is not read; it may be damaged or missing. Raises
    BusyError while a collector runs on the folder or anything else has its index open, NotACollectorError,
    IndexFaultError, StorageFaultError.
    """
    if not os.path.isdir(directory / STORE_NAME):  # which raises nothing
        raise NotACollectorError(
            f"{directory} is not a collector's folder (no {STORE_NAME}/): make one with `netdump init`"
        )
    path = directory / NAME
    with _no_collector(directory):
        lock = take_lock(path, fcntl.LOCK_EX, "is in use by another netdump command; try again when that is done")
        try:
            return _rebuild(directory, path, progress)
        except OSError as error:
            raise IndexFaultError(f"the index {path} cannot be made anew: {error.strerror or error}") from error
        finally:
            os.close(lock)


def forget_status(directory: Path) -> None:
    """Remove what a collector that was killed has said of itself: as long as the folder is held, it would be believed.

    For who has just taken the lock. What cannot be removed stays.
    """
    with suppress(OSError):
        (directory / SERVE_STATUS_NAME).unlink()


def set_aside(directory: Path) -> Path:
    """Take a damaged index out of the way and return where it is now, for who wants to look at it.

    The next to open the index makes a new one. For the collector, which holds its folder. Raises BusyError while
    anything else has the index open, IndexFaultError.
    """
    path = directory / NAME
    lock = take_lock(path, fcntl.LOCK_EX, "is damaged, and in use by another netdump command")
    try:
        return put_aside(path)
    except OSError as error:
        raise IndexFaultError(f"the damaged index {path} cannot be set aside: {error.strerror or error}") from error
    finally:
        os.close(lock)


def _rebuild(directory: Path, path: Path, progress: Callable[[DumpRecord], None] | None) -> int:
    folder = directory / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        count = _fill(folder / NAME, Store(directory / STORE_NAME), progress)
        os.close(open_own((folder / NAME).rename(directory / _REBUILT)))
        _swap(directory / _REBUILT, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return count


def _fill(path: Path, store: Store, progress: Callable[[DumpRecord], None] | None) -> int:
    count = 0
    with Index.open(path) as index:
        batch: list[DumpRecord] = []
        for dump_id in store.ids():
            try:
                record = gather_anyway(store, dump_id)
            except DumpNotFoundError:
                continue  # deleted since it was listed
            batch.append(record)
            count += 1
            if progress is not None:
                progress(record)
            if len(batch) >= _BATCH:
                index.add(batch)
                batch.clear()
        index.add(batch)
    return count


def _swap(new: Path, path: Path) -> None:
    """Put a closed index in the place of another, whose lock the caller holds.

    Killed between two steps this leaves no index or the new one, never a database beside the journal of
    another: SQLite would play that back into it. Where there is no index the catalog makes one and fills it. What is
    no file there is none of ours to remove, and gets another name.
    """
    if not is_plain(path):
        put_aside(path)
    replaced = path.with_name(_REPLACED)
    with suppress(FileNotFoundError):
        path.rename(replaced)
    for suffix in COMPANIONS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    new.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    replaced.unlink(missing_ok=True)


@contextmanager
def _no_collector(directory: Path) -> Iterator[None]:
    """Keep a collector from running on the folder, as it would itself. Raises BusyError."""
    try:
        descriptor = open_own(directory / SERVE_LOCK_NAME)
    except OSError as error:
        raise IndexFaultError(f"{directory} cannot be worked on: {error.strerror}; run this as its owner") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"a collector runs on {directory}: stop it, then make its index anew") from None
        forget_status(directory)
        yield
    finally:
        os.close(descriptor)
