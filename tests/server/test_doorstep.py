"""Who waits at the door: sources in turn, each in its order, and no more than there may be."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, cast

import pytest

from netdump.server.doorstep import FILES_PART, SOURCE_PART, WAITING_MOST, Doorstep, Guest

if TYPE_CHECKING:
    import asyncio

NOTHING = cast("asyncio.Transport", None)


def guest(source: str) -> Guest:
    return Guest(NOTHING, source, source, 0.0)


def test_of_each_source_the_first_comes_first() -> None:
    doorstep = Doorstep()
    guests = [guest(source) for source in "aabac"]
    assert all(map(doorstep.add, guests))
    assert len(doorstep) == 5
    assert doorstep.firsts() == [guests[0], guests[2], guests[4]]
    doorstep.remove(guests[0])
    doorstep.remove(guests[2])
    assert doorstep.firsts() == [guests[1], guests[4]]
    doorstep.remove(guests[3])
    assert doorstep.firsts() == [guests[1], guests[4]], "who was behind it has given up"
    assert len(doorstep) == 2


def test_sources_take_turns() -> None:
    doorstep = Doorstep()
    guests = [guest(source) for source in "aaabb"]
    assert all(map(doorstep.add, guests))
    order = []
    while waiting := doorstep.firsts():
        order.append(guests.index(waiting[0]))
        doorstep.serve(waiting[0])
    assert order == [0, 3, 1, 4, 2]
    assert not doorstep._lines


@pytest.mark.parametrize(
    ("files", "most"), [(64, 4), (FILES_PART * WAITING_MOST, WAITING_MOST), (1 << 30, WAITING_MOST)]
)
def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    """Nor than leave files for those who are let in."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, 1 << 30))
    doorstep = Doorstep()
    for number in range(SOURCE_PART):
        first = guest(str(number))
        assert doorstep.add(first)
        assert all(doorstep.add(guest(str(number))) for _ in range(most // SOURCE_PART - 1))
        if number < SOURCE_PART - 1:
            assert not doorstep.add(guest(str(number))), "others may wait, too"
    assert len(doorstep) == most == doorstep.most
    assert not doorstep.add(guest("another"))
    doorstep.remove(first)
    assert doorstep.add(guest("another"))
    assert not doorstep.add(guest("another"))


def test_nothing_is_kept_of_who_is_gone() -> None:
    doorstep = Doorstep()
    only = guest("a")
    doorstep.add(only)
    doorstep.remove(only)
    assert not doorstep._lines
    assert not doorstep
