"""What the disk fails to do for hosts is told while it does, and for a while after."""

from __future__ import annotations

from netdump.errors import BusyError, StorageFaultError
from netdump.server.diskfailures import RECENT_S, DiskFailures


class Disk:
    def __init__(self) -> None:
        self.fault: str | None = None
        self.tries = 0

    def try_out(self) -> None:
        self.tries += 1
        if self.fault is not None:
            raise StorageFaultError(self.fault)


def test_it_is_told_until_it_works_and_no_host_meets_it() -> None:
    disk, now = Disk(), [1000.0]
    subject = DiskFailures(disk.try_out, lambda: now[0])
    subject.note(BusyError("the dump is being restored"))
    assert subject.look() is None
    assert not disk.tries, "a disk that is well is left alone"
    subject.note(StorageFaultError("opening dump 5: Input/output error"))
    assert subject.look() == "opening dump 5: Input/output error"
    now[0] += RECENT_S - 1
    subject.note(StorageFaultError("opening dump 6: Input/output error"))
    now[0] += RECENT_S - 1
    assert subject.look() == "opening dump 6: Input/output error"
    now[0] += 1
    disk.fault = "trying to write: Read-only file system"
    assert subject.look() == disk.fault
    disk.fault = None
    assert subject.look() is None
    tries = disk.tries
    assert subject.look() is None
    assert disk.tries == tries


def test_what_a_host_meets_while_it_is_tried_is_not_forgotten() -> None:
    def try_out() -> None:
        subject.note(StorageFaultError("another"))

    now = [1000.0]
    subject = DiskFailures(try_out, lambda: now[0])
    subject.note(StorageFaultError("one"))
    now[0] += RECENT_S
    assert subject.look() is None
    assert subject.look() == "another"
