"""Where an index lies, and who may put another in its place. What is set aside: test_rebuild.py."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError
from netdump.index.index import Index
from netdump.index.place import LOCK_NAME, is_locked, take_lock

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


def test_whether_somebody_holds_a_lock(migrated: Path, tmp_path: Path) -> None:
    path = migrated.with_name(LOCK_NAME)
    assert not is_locked(path.with_name("nothing"))
    assert not path.with_name("nothing").exists()
    for kind, locked in ((fcntl.LOCK_EX, True), (fcntl.LOCK_SH, False)):  # who shares it lets others share it
        lock = take_lock(migrated, kind, "is in use")
        assert is_locked(path) is locked
        os.close(lock)
        assert not is_locked(path)
    path.unlink()
    path.symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic"):
        is_locked(path)
