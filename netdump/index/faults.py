"""What an error of SQLite, or of the files of an index, means: one of ours, with what to do.

Owns which of them say that the file is damaged, so that it may be mended or made anew.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from netdump.errors import BusyError, IndexFaultError, StorageFaultError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def remedy(path: Path) -> str:
    """What to do about an index that is damaged or foreign."""
    return f"make it anew from the stored dumps: netdump reindex {path.parent}"


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn database errors of the block into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(path, error.orig) from error
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except TimeoutError as error:
        raise BusyError(f"the index {path} is being written all the time; try again in a moment") from error
    except OSError as error:
        raise IndexFaultError(
            f"the index {path} cannot be opened: {error.strerror or error}; check its owner"
        ) from error
    except PoolTimeoutError as error:
        raise BusyError(f"the index {path} is asked for more at once than it answers; try again in a moment") from error
    except (SQLAlchemyError, ValueError, TypeError) as error:
        # A row whose JSON, state or type is not what the schema promises: the file was changed by something else.
        raise IndexFaultError(f"the index {path} is damaged ({error}); {remedy(path)}", damaged=True) from error


def _translated(path: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary code; the rest only details it
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return BusyError(f"the index {path} is locked by another process; try again in a moment")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StorageFaultError(f"the index {path} cannot be written ({error}); check the disk and its free space")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return IndexFaultError(f"the index {path} cannot be opened for writing ({error}); run this as its owner")
    return IndexFaultError(f"the index {path} is damaged ({error}); {remedy(path)}", damaged=True)
