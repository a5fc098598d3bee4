"""Free space: levels and waiting."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from netdump.errors import StorageFaultError
from netdump.server.config import Space
from netdump.server.space import ADMIT_FREE_FILES, MIN_FREE_FILES, Measure, Room, SpaceWatch, measure_of

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


@pytest.mark.parametrize(
    ("free", "total", "room"),
    [
        (0, 0, Room.PLENTY),  # it does not count them
        (100, 1000, Room.PLENTY),
        (99, 1000, Room.LOW),
        (10, 1000, Room.LOW),
        (9, 1000, Room.NONE),
        (ADMIT_FREE_FILES, 1 << 40, Room.PLENTY),  # however many there are
        (ADMIT_FREE_FILES - 1, 1 << 40, Room.LOW),
        (MIN_FREE_FILES, 1 << 40, Room.LOW),
        (MIN_FREE_FILES - 1, 1 << 40, Room.NONE),
    ],
)
def test_levels_of_files(free: int, total: int, room: Room) -> None:
    watch = SpaceWatch(SETTINGS, lambda: Measure(1 << 40, 1 << 40, free, total))
    assert watch.look() is room
    assert watch.lacks_files() is (room is not Room.PLENTY)
    assert not watch.wants_bytes(0)
    assert SpaceWatch(Space(min_free_percent=0, admit_free_percent=0), watch.measure).look() is Room.PLENTY


def test_whichever_is_scarcer_counts() -> None:
    watch = SpaceWatch(SETTINGS, lambda: Measure(15 * MIB, 100 * MIB, 99, 1000))
    assert watch.look() is Room.NONE
    assert watch.wants_bytes(0)
    assert not watch.wants_bytes(16 * MIB)  # then both are low, and more bytes would let nobody in


def test_a_shortage_is_told_in_figures() -> None:
    assert SpaceWatch(SETTINGS, lambda: Measure(32 * MIB, 100 * MIB)).shortage() is None
    told = SpaceWatch(SETTINGS, lambda: Measure(99 * MIB, 1000 * MIB)).shortage()
    assert told is not None
    assert told.startswith(f"{99 * MIB:,} bytes are free, new dumps are told to come back below {100 * MIB:,}: ")


def test_a_shortage_of_files_is_told_as_one() -> None:
    told = SpaceWatch(SETTINGS, lambda: Measure(9 * MIB, 100 * MIB, 1099, 11_000)).shortage(lambda: 99 * MIB)
    assert told is not None
    assert told.startswith(
        "1,099 more files (inodes, `df -i`) can be made, new dumps are told to come back below 1,100,"
    )


def test_what_is_about_to_be_written_counts() -> None:
    watch = SpaceWatch(SETTINGS, lambda: Measure(100 * MIB, 200 * MIB))
    assert watch.look() is Room.PLENTY
    assert watch.look(70 * MIB) is Room.LOW
    assert watch.look(90 * MIB) is Room.NONE


def test_the_real_thing(tmp_path: Path) -> None:
    facts = measure_of(tmp_path)()
    assert 0 < facts.free_bytes <= facts.total_bytes
    assert 0 <= facts.free_files <= facts.total_files


@pytest.mark.parametrize(
    ("free", "total", "measured"),
    [(7, 10, (7, 10)), (0, 10, (0, 10)), (0, 0, (0, 0)), (5, 0, (0, 0)), (-1, 10, (0, 0))],
)
def test_file_systems_that_count_files_and_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, total: int, measured: tuple[int, int]
) -> None:
    facts = SimpleNamespace(f_bavail=1, f_frsize=4096, f_blocks=2, f_favail=free, f_files=total)
    monkeypatch.setattr("os.statvfs", lambda _: facts)
    assert measure_of(tmp_path)() == (4096, 8192, *measured)


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
