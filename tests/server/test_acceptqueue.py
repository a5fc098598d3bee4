"""Accepted connections that wait: sources in turn, each in its order, and no more than there may be."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, cast

import pytest

from netdump.server.acceptqueue import FILES_PART, SOURCE_PART, WAITING_MOST, AcceptQueue, Pending

if TYPE_CHECKING:
    import asyncio

NOTHING = cast("asyncio.Transport", None)


def pending(source: str) -> Pending:
    return Pending(NOTHING, source, source, 0.0)


def test_of_each_source_the_first_comes_first() -> None:
    queue = AcceptQueue()
    all_pending = [pending(source) for source in "aabac"]
    assert all(map(queue.add, all_pending))
    assert len(queue) == 5
    assert queue.firsts() == [all_pending[0], all_pending[2], all_pending[4]]
    queue.remove(all_pending[0])
    queue.remove(all_pending[2])
    assert queue.firsts() == [all_pending[1], all_pending[4]]
    queue.remove(all_pending[3])
    assert queue.firsts() == [all_pending[1], all_pending[4]], "who was behind it has given up"
    assert len(queue) == 2


def test_sources_take_turns() -> None:
    queue = AcceptQueue()
    all_pending = [pending(source) for source in "aaabb"]
    assert all(map(queue.add, all_pending))
    order = []
    while waiting := queue.firsts():
        order.append(all_pending.index(waiting[0]))
        queue.serve(waiting[0])
    assert order == [0, 3, 1, 4, 2]
    assert not queue._lines


@pytest.mark.parametrize(
    ("files", "most"), [(64, 4), (FILES_PART * WAITING_MOST, WAITING_MOST), (1 << 30, WAITING_MOST)]
)
def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    """Nor than leave files for those who are let in."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, 1 << 30))
    queue = AcceptQueue()
    for number in range(SOURCE_PART):
        first = pending(str(number))
        assert queue.add(first)
        assert all(queue.add(pending(str(number))) for _ in range(most // SOURCE_PART - 1))
        if number < SOURCE_PART - 1:
            assert not queue.add(pending(str(number))), "others may wait, too"
    assert len(queue) == most == queue.most
    assert not queue.add(pending("another"))
    queue.remove(first)
    assert queue.add(pending("another"))
    assert not queue.add(pending("another"))


def test_nothing_is_kept_of_who_is_gone() -> None:
    queue = AcceptQueue()
    only = pending("a")
    queue.add(only)
    queue.remove(only)
    assert not queue._lines
    assert not queue
