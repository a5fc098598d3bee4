"""The scrub: how fast it reads, and that it stops at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from netdump.server.config import DAY_S
from netdump.server.scrub import RATE_MIN, PacedFiles, _StoppedError
from netdump.testing.memory_files import MemoryFiles
from tests.server.scrubbing import CREATED, OLD, Desktop, fill

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_the_pace(directory: Path) -> None:
    """Half of the period for all of it, between floor and ceiling; a pace that cannot be kept is told once."""
    desk = Desktop(directory, CREATED, rate_bytes=1 << 20, pass_days=1)
    del desk.scrubber._set_rate
    sizes = {"a": 1000, "b": 3 << 30}
    desk.scrubber._plain.dump = lambda dump_id: type("Dump", (), {"size_on_disk": sizes[dump_id]})  # type: ignore[method-assign,assignment,return-value]
    desk.scrubber._set_rate(["a"])
    assert desk.scrubber._rate == RATE_MIN
    sizes["b"] = 43_200 * 400_000
    desk.scrubber._set_rate(["b"])
    assert desk.scrubber._rate == 400_000
    assert not desk.events.all("scrub-late")
    assert not desk.scrubber.late
    sizes["b"] *= 10
    for _ in range(2):
        desk.scrubber._set_rate(["b"])
    assert desk.scrubber._rate == 1 << 20
    assert len(desk.events.all("scrub-late")) == 1
    assert desk.scrubber.late


def test_a_dump_that_is_deleted_while_all_are_measured_takes_up_nothing(directory: Path) -> None:
    desk = Desktop(directory, CREATED)
    del desk.scrubber._set_rate
    desk.scrubber._set_rate(["0" * 32, OLD.origin.id])
    assert desk.scrubber._rate == RATE_MIN


def test_a_collector_that_stops_does_not_wait_until_all_are_measured(directory: Path) -> None:
    desk = Desktop(directory, CREATED)
    del desk.scrubber._set_rate
    desk.scrubber._stop.set()
    with pytest.raises(_StoppedError):
        desk.scrubber._set_rate([OLD.origin.id])


def test_it_waits_for_as_long_as_what_it_has_read_may_take(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 100.0, list[float]()

    class Stop:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return False

    desk = Desktop(directory, CREATED, rate_bytes=1 << 20)
    monkeypatch.setattr("netdump.server.scrub.time.monotonic", lambda: now)
    monkeypatch.setattr(desk.scrubber, "_stop", Stop())
    desk.scrubber._rate = 1000
    desk.scrubber._take(500)
    desk.scrubber._take(1500)
    now += 10  # nothing was read meanwhile: that is not made up for
    desk.scrubber._take(250)
    assert waits == [0.5, 2.0, 0.25]


def test_reading_takes_its_time() -> None:
    memory, taken = MemoryFiles(), list[int]()
    file = memory.create("a")
    file.write(bytes(1000))
    paced = PacedFiles(memory, taken.append).open("a")
    assert paced.read(10, 500) == bytes(500)
    assert paced.size() == 1000
    paced.close()
    assert taken == [500]


def test_a_slow_scrub_stops_at_once(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber._rate = 1000
    rests, stop = threading.Event(), desk.scrubber._stop
    rest = stop.wait

    def noted(timeout: float | None = None) -> bool:
        rests.set()
        return rest(timeout)

    stop.wait = noted  # type: ignore[method-assign]
    thread = threading.Thread(target=desk.scrubber._run)
    thread.start()
    assert rests.wait(20)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
