"""What a collector finds to say of itself, part by part."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netdump import __version__
from netdump.errors import BusyError, StorageFaultError
from netdump.index.index import Share
from netdump.index.record import State
from netdump.server.config import Space
from netdump.server.diskfailures import DiskFailures
from netdump.server.health import HEADINGS, Health, Parts
from netdump.server.space import Measure, SpaceWatch
from netdump.server.status import TOPICS
from netdump.server.tally import Tally
from tests.server.rig import Events

PLENTY, SHORT = Measure(500, 1000), Measure(40, 1000)
SPACE = Space(min_free_bytes=10, min_free_percent=0, admit_free_bytes=50, admit_free_percent=5, check_s=5)


class Fakes:
    """Parts of a collector in which all is well until a test says otherwise."""

    def __init__(self) -> None:
        self.events = Events()
        self.measure: Measure | OSError = PLENTY
        self.dumps = {state: Share(0, 0) for state in State}
        self.index: Exception | None = None
        self.senders = SimpleNamespace(doubt=None)
        self.certificate = SimpleNamespace(ending=None)
        self.upkeep = SimpleNamespace(failing=None)
        self.scrubber = SimpleNamespace(late=False)
        self.spare_bytes = 0
        self.disk_failures = DiskFailures()
        self.now = 1_796_000_000.7
        parts = Parts(
            senders=cast("Any", self.senders),
            certificate=cast("Any", self.certificate),
            upkeep=cast("Any", self.upkeep),
            space=SpaceWatch(SPACE, self._measure),
            views=cast("Any", SimpleNamespace(spare_bytes=lambda: self.spare_bytes)),
            disk_failures=self.disk_failures,
            recorder=cast("Any", SimpleNamespace(census=self._census)),
            scrubber=cast("Any", self.scrubber),
            tally=Tally(self.events),
        )
        self.health = Health(parts, "a:1", "b:2", lambda: self.now)

    def _measure(self) -> Measure:
        if isinstance(self.measure, OSError):
            raise self.measure
        return self.measure

    def _census(self) -> dict[State, Share]:
        if self.index is not None:
            raise self.index
        return self.dumps


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


def test_all_is_well(fakes: Fakes) -> None:
    fakes.dumps[State.COMPLETE] = Share(3, 300)
    fakes.dumps[State.ARRIVING] = Share(1, 7)
    fakes.now += 60
    status = fakes.health.look()
    assert (status.pid, status.version, status.ingest, status.api) == (os.getpid(), __version__, "a:1", "b:2")
    assert (status.started, status.written) == (1_796_000_000, 1_796_000_060)
    assert status.troubles == ()
    assert status.dumps == {"arriving": 1, "complete": 3, "interrupted": 0, "damaged": 0}
    assert (status.stored_bytes, status.free_bytes, status.total_bytes) == (307, 500, 1000)
    assert fakes.health.headlines == []


def test_before_the_first_look(fakes: Fakes) -> None:
    """A disk that hangs keeps nobody from being told where it listens."""
    fakes.measure, fakes.index = OSError(errno.EIO, "x"), BusyError("y")
    fakes.senders.doubt = "1970"
    status = fakes.health.first
    assert [topic for topic, _ in status.troubles] == ["clock"]
    assert (status.dumps, status.stored_bytes, status.free_bytes, status.total_bytes) == (None, None, None, None)


def test_a_clock_before_1970(fakes: Fakes) -> None:
    fakes.now = -5.0
    assert fakes.health.first.written == 0


def test_every_part_is_heard(fakes: Fakes) -> None:
    fakes.senders.doubt, fakes.certificate.ending, fakes.upkeep.failing = "1970", "in May", "the clock: KeyError"
    fakes.dumps[State.DAMAGED] = Share(2, 10)
    fakes.scrubber.late = True
    fakes.measure = SHORT
    fakes.disk_failures.note(StorageFaultError("opening dump 5: Read-only file system"))
    status = fakes.health.look()
    facts = dict(status.troubles)
    assert list(facts) == ["clock", "certificate", "upkeep", "damage", "space", "store", "scrub"]
    assert set(facts) | {"running", "index"} == set(TOPICS)
    assert set(HEADINGS) == set(TOPICS) - {"running"}
    assert facts["clock"] == "1970"
    assert facts["damage"].startswith("2 dumps are damaged: see `netdump list")
    assert facts["space"].startswith("40 bytes are free")
    assert facts["store"] == "hosts are told to come back with their dumps: opening dump 5: Read-only file system"
    assert fakes.health.headlines[:2] == ["THE CLOCK IS WRONG: 1970", "A CERTIFICATE ENDS: in May"]
    fakes.dumps[State.DAMAGED] = Share(1, 10)
    assert dict(fakes.health.look().troubles)["damage"].startswith("one dump is damaged: ")


def test_an_index_that_does_not_answer(fakes: Fakes) -> None:
    fakes.index = BusyError("somebody has it locked")
    status = fakes.health.look()
    assert dict(status.troubles) == {"index": "dumps are received, but cannot be listed: somebody has it locked"}
    assert (status.dumps, status.stored_bytes) == (None, None)
    assert status.free_bytes == 500


def test_a_disk_that_cannot_be_measured(fakes: Fakes) -> None:
    fakes.measure = OSError(errno.EIO, "Input/output error")
    status = fakes.health.look()
    assert "Input/output error" in dict(status.troubles)["space"]
    assert (status.free_bytes, status.total_bytes) == (None, None)


def test_room_that_views_take_is_room(fakes: Fakes) -> None:
    """They fill the disk to what new dumps need, and one dump more is enough to be below that."""
    fakes.measure, fakes.spare_bytes = SHORT, 10
    status = fakes.health.look()
    assert status.troubles == ()
    assert status.free_bytes == SHORT.free_bytes
    fakes.spare_bytes -= 1
    assert [topic for topic, _ in fakes.health.look().troubles] == ["space"]


def test_no_more_files(fakes: Fakes) -> None:
    """It is said also where `vmcore` files would give the bytes that are wanting."""
    fakes.measure, fakes.spare_bytes = Measure(40, 1000, 4, 100), 10
    (trouble,) = fakes.health.look().troubles
    assert (trouble.topic, trouble.fact.partition(",")[0]) == ("space", "4 more files (inodes")
    assert fakes.events.all("space-low")[0]["reason"] == trouble.fact


def test_the_log_says_when_room_gets_too_little_and_when_it_is_enough(fakes: Fakes) -> None:
    for measure in (PLENTY, SHORT, SHORT, PLENTY, PLENTY, SHORT):
        fakes.measure = measure
        fakes.health.look()
    assert fakes.health.look().events == {"dump-complete": 0, "space-enough": 1, "space-low": 2}
    assert str(fakes.events.all("space-low")[0]["reason"]).startswith("40 bytes are free")
