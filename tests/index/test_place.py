"""Where an index lies, and who may put another in its place. What is set aside: test_rebuild.py."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError
from netdump.index.index import Index
from netdump.index.place import LOCK_NAME, take_lock

if TYPE_CHECKING:
    from pathlib import Path


def test_an_opened_index_keeps_rebuilders_out_and_the_other_way_round(migrated: Path) -> None:
    with Index.open(migrated), Index.open(migrated), pytest.raises(BusyError, match="is in use"):
        take_lock(migrated, fcntl.LOCK_EX, "is in use")
    lock = take_lock(migrated, fcntl.LOCK_EX, "is in use")
    with pytest.raises(BusyError, match="being rebuilt"):
        Index.open(migrated)
    os.close(lock)
    Index.open(migrated).close()
    assert migrated.with_name(LOCK_NAME).exists()
