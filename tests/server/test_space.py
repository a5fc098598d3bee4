"""Free space: levels and waiting."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from netdump.errors import StorageFaultError
from netdump.server.config import Space
from netdump.server.space import Measure, Room, SpaceWatch, measure_of

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SETTINGS = Space(
    min_free_bytes=16 * MIB, min_free_percent=1, admit_free_bytes=32 * MIB, admit_free_percent=10, check_s=300
)


@pytest.mark.parametrize(
    ("free", "total", "room"),
    [
        (33, 100, Room.PLENTY),
        (32, 100, Room.PLENTY),
        (31, 100, Room.LOW),
        (16, 100, Room.LOW),
        (15, 100, Room.NONE),
        (0, 100, Room.NONE),
        (99, 1000, Room.LOW),  # the share counts where it is larger
        (19, 2000, Room.NONE),
    ],
)
def test_levels(free: int, total: int, room: Room) -> None:
    assert SpaceWatch(SETTINGS, lambda: Measure(free * MIB, total * MIB)).look() is room


def test_a_shortage_is_told_in_figures() -> None:
    assert SpaceWatch(SETTINGS, lambda: Measure(32 * MIB, 100 * MIB)).shortage() is None
    told = SpaceWatch(SETTINGS, lambda: Measure(99 * MIB, 1000 * MIB)).shortage()
    assert told is not None
    assert told.startswith(f"{99 * MIB:,} bytes are free, new dumps are told to come back below {100 * MIB:,}: ")


def test_what_is_about_to_be_written_counts() -> None:
    watch = SpaceWatch(SETTINGS, lambda: Measure(100 * MIB, 200 * MIB))
    assert watch.look() is Room.PLENTY
    assert watch.look(70 * MIB) is Room.LOW
    assert watch.look(90 * MIB) is Room.NONE


def test_the_real_thing(tmp_path: Path) -> None:
    facts = measure_of(tmp_path)()
    assert 0 < facts.free_bytes <= facts.total_bytes


def test_a_pause_lasts_until_the_next_poke() -> None:
    async def body() -> None:
        watch = SpaceWatch(SETTINGS, lambda: Measure(0, 200 * MIB))
        pause = asyncio.create_task(watch.pause(watch.changed()))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not pause.done()
        watch.poke()
        await pause

    asyncio.run(asyncio.wait_for(body(), 10))


def test_a_poke_between_a_look_and_the_pause_counts() -> None:
    async def body() -> None:
        watch = SpaceWatch(SETTINGS, lambda: Measure(0, 200 * MIB))
        changed = watch.changed()
        watch.poke()
        await watch.pause(changed)

    asyncio.run(asyncio.wait_for(body(), 10))


def test_space_that_cannot_be_measured() -> None:
    def measure() -> Measure:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StorageFaultError, match="cannot be measured: Input/output error"):
        SpaceWatch(SETTINGS, measure).look()


def test_pause_ends_by_itself() -> None:
    async def body() -> None:
        watch = SpaceWatch(Space(check_s=1), lambda: Measure(0, 0))
        await watch.pause(watch.changed())

    asyncio.run(asyncio.wait_for(body(), 5))
