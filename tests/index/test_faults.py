"""What errors of SQLite mean."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, IndexFaultError, StorageFaultError
from netdump.index.faults import faults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StorageFaultError),
        (sqlite3.SQLITE_IOERR_WRITE, StorageFaultError),
        (sqlite3.SQLITE_BUSY_RECOVERY, BusyError),
        (sqlite3.SQLITE_READONLY_DIRECTORY, IndexFaultError),
        (sqlite3.SQLITE_CORRUPT, IndexFaultError),
    ],
)
def test_what_database_errors_mean(tmp_path: Path, code: int, expected: type[Exception]) -> None:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode = code
    with pytest.raises(expected), faults(tmp_path):
        raise error
