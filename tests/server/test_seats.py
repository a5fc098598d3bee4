"""Seats: how many, for whom, who is next, and the credit that those who sit share."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.server.config import Ingest, Limits
from netdump.server.seats import CREDIT_LEAST, RETURN_MOST_S, RETURNS_PER_S, VAST_BYTES, Seat, Seats
from tests.server.rig import SkippingLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MIB = 1 << 20


def room(**limits: int) -> Callable[[str], Seat]:
    """A function that makes seats of one collector."""
    seats = Seats(Limits(**limits), Ingest())
    return lambda host: Seat(seats, host, MIB)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_seats_in_total_and_per_host() -> None:
    seat = room(active_dumps=3, active_dumps_per_host=2)
    first, second, third, other, last = (seat(host) for host in "aaabc")
    assert first.take()
    assert first.take(), "it has it already"
    assert second.take()
    assert not third.take(), "of this host"
    assert other.take()
    assert not last.take(), "of all"
    first.leave()
    first.leave()
    assert last.take()
    assert not first.take()


@pytest.mark.asyncio
async def test_the_first_that_can_sit_is_called() -> None:
    seat = room(active_dumps=2, active_dumps_per_host=1)
    busy, other = seat("a"), seat("b")
    assert busy.take()
    assert other.take()
    blocked, free, junior = seat("a"), seat("c"), seat("d")
    tasks = [asyncio.create_task(one.wait(since)) for one, since in ((junior, 9), (free, 5), (blocked, 1))]
    await turns()
    other.leave()
    await turns()
    assert [one.taken for one in (blocked, free, junior)] == [False, True, False], "a has a seat already"
    busy.leave()
    await turns()
    assert [one.taken for one in (blocked, free, junior)] == [True, True, False]
    junior.leave()
    free.leave()
    assert not junior.taken, "it waits no longer"
    assert [task.done() for task in tasks] == [False, True, True]
    for task in tasks:
        task.cancel()


@pytest.mark.asyncio
async def test_of_too_many_the_last_ones_seen_come_back() -> None:
    seat = room(active_dumps=1, waiting_dumps=2)
    busy = seat("z")
    assert busy.take()
    waits = {since: asyncio.create_task(seat(str(since)).wait(since)) for since in (50, 40, 60, 30, 45)}
    await turns()
    assert {since: task.result() for since, task in waits.items() if task.done()} == {60: False, 50: False, 45: False}
    busy.leave()
    await turns()
    assert waits[30].result() is True
    assert not waits[40].done()
    waits[40].cancel()


def on_a_clock(body: Callable[[SkippingLoop], Coroutine[None, None, None]]) -> None:
    loop = SkippingLoop()
    try:
        loop.run_until_complete(body(loop))
    finally:
        loop.close()


@pytest.mark.parametrize(("defer_s", "most"), [(20, RETURN_MOST_S), (3000, 3000)])
def test_who_is_told_to_come_back_does_so_after_the_others(defer_s: int, most: int) -> None:
    """However many are told so, and whenever: RETURNS_PER_S of them ask."""

    async def body(loop: SkippingLoop) -> None:
        seats = Seats(Limits(defer_s=defer_s), Ingest())
        seats.queue(Seat(seats, "a", MIB), 0)
        pauses = [seats.pause_s(has_waited=False) for _ in range(10 * RETURNS_PER_S)]
        assert pauses == sorted(pauses)
        assert 10 <= pauses[-1] <= 12
        assert max(Counter(pauses).values()) <= RETURNS_PER_S + 1
        loop.skipped += 4.0
        assert 6 <= seats.pause_s(has_waited=False) <= 8, "after those who are still away"
        loop.skipped += 1000.0
        busy = Seat(seats, "b", MIB)
        assert busy.take()
        busy.leave()
        assert seats.pause_s(has_waited=False) <= 2, "nobody is away any more"
        assert [seats.pause_s(has_waited=False) for _ in range((most + 1) * RETURNS_PER_S)][-1] == most

    on_a_clock(body)


def test_who_has_waited_does_not_come_back_after_those_who_found_no_place() -> None:
    """Else those who were seen later would wait, and be served, in its stead."""

    async def body(loop: SkippingLoop) -> None:
        seats = Seats(Limits(defer_s=20), Ingest())
        seats.queue(Seat(seats, "a", MIB), 0)
        loop.skipped += 7.0
        before = [seats.pause_s(has_waited=False) for _ in range(100 * RETURNS_PER_S)][-1]
        assert before >= 100
        assert seats.pause_s(has_waited=True) in (7, 8)
        for _ in range(10 * RETURNS_PER_S):
            seats.pause_s(has_waited=True)
        after = seats.pause_s(has_waited=False)
        assert before - 1 <= after <= before + 1, "it keeps none of those away for longer, nor brings them sooner"
        loop.skipped += 1000.0
        assert seats.pause_s(has_waited=True) == 20

    on_a_clock(body)


def test_a_pause_is_a_second_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whole ones, rounded up. Who comes to wait beside others is not a seat that was given back."""

    async def body(loop: SkippingLoop) -> None:
        seats, now = Seats(Limits(active_dumps=1, defer_s=20), Ingest()), 4096.0
        monkeypatch.setattr(loop, "time", lambda: now)
        busy = Seat(seats, "a", MIB)
        assert busy.take()
        busy.leave()
        assert seats.pause_s(has_waited=True) == 1
        assert busy.take()
        seats.queue(Seat(seats, "b", MIB), 0)
        now += 2.5
        seats.queue(Seat(seats, "c", MIB), 0)
        assert seats.pause_s(has_waited=True) == 3

    on_a_clock(body)


@pytest.mark.parametrize("most", [RETURN_MOST_S, wire.DEFER_MAX])
def test_no_pause_is_longer_than_may_be_said(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the sum of a clock and a pause is rounded to."""

    async def body(loop: SkippingLoop) -> None:
        seats = Seats(Limits(defer_s=most), Ingest())
        seats.queue(Seat(seats, "a", MIB), 0)
        for number in range(100):
            now = (1 << 17) + 2 * most + number - most / 2 + number / 7
            monkeypatch.setattr(loop, "time", lambda now=now: now)
            seats._stirred = now - most
            seats._return = now + most
            assert seats.pause_s(has_waited=False) == most

    on_a_clock(body)


@pytest.mark.parametrize(("quiet_s", "least"), [(0, 1), (7, 7), (19, 19), (1000, 20)])
def test_nobody_is_to_come_back_sooner_than_a_seat_is_given_back(quiet_s: int, least: int) -> None:
    """By how long none was: since the last one, or since somebody waits for one."""

    async def body(loop: SkippingLoop) -> None:
        seats = Seats(Limits(active_dumps=2, active_dumps_per_host=1, defer_s=20), Ingest())
        assert seats.pause_s(has_waited=False) == 20, "nothing is known"
        first, second = Seat(seats, "a", MIB), Seat(seats, "b", MIB)
        assert first.take()
        assert second.take()
        for is_given_back in (False, True):
            loop.skipped += 1000
            if is_given_back:
                first.leave()
            tasks = [asyncio.create_task(Seat(seats, host, MIB).wait(0)) for host in "bbcd"]
            await turns()
            loop.skipped += quiet_s
            assert seats.pause_s(has_waited=False) in (least, least + 1)
            for task in tasks:
                task.cancel()

    on_a_clock(body)


@pytest.mark.asyncio
async def test_nobody_starves_and_no_seat_is_lost() -> None:
    """Hosts that come, wait, give up and come back at random: whoever keeps at it is served, the oldest soon."""
    chance = random.Random(5)
    seats = Seats(Limits(active_dumps=2, active_dumps_per_host=1, waiting_dumps=3), Ingest())
    served: list[int] = []

    async def host(since: int) -> None:
        while True:
            seat = Seat(seats, f"host-{since % 7}", MIB)
            task = asyncio.create_task(seat.wait(since))
            await asyncio.wait({task}, timeout=chance.choice([0, 0.001, 0.01]))
            if seat.taken:
                assert seats.taken <= 2
                await asyncio.sleep(0)
                served.append(since)
                seat.leave()
                return
            seat.leave()
            task.cancel()

    await asyncio.wait_for(asyncio.gather(*map(host, range(40))), 20)
    assert sorted(served) == list(range(40))
    assert not seats.taken
    assert not seats._of_host
    assert not seats._waiting


@pytest.mark.asyncio
async def test_credit_by_the_number_of_dumps() -> None:
    seats = Seats(Limits(active_dumps=100, active_dumps_per_host=100), Ingest())
    found = {0: seats.credit(MIB)}
    for number in range(1, 65):
        assert Seat(seats, "a", MIB).take()
        found[number] = seats.credit(MIB)
    assert {number: found[number] // MIB for number in (0, 1, 4, 5, 8, 16, 64)} == {
        0: 32,
        1: 32,
        4: 24,
        5: 19,
        8: 12,
        16: 6,
        64: CREDIT_LEAST // MIB,
    }
    assert seats.credit(VAST_BYTES) == 32 * MIB
    small = Seats(Limits(), Ingest(credit_bytes=2 * MIB))
    assert small.credit(MIB) == 2 * MIB


@pytest.mark.asyncio
async def test_a_seat_more_for_each_slow_line() -> None:
    seats = Seats(Limits(active_dumps=8, slow_dumps=12), Ingest())
    taken = [Seat(seats, str(number), MIB) for number in range(8)]
    assert all(seat.take() for seat in taken)
    waits = [Seat(seats, f"w{number}", MIB) for number in range(20)]
    tasks = [asyncio.create_task(seat.wait(since)) for since, seat in enumerate(waits)]
    await turns()
    seats.look(measured=8, slow=0, behind=2)
    assert seats.taken == 8, "they send as fast as can be wished"
    seats.look(measured=8, slow=8, behind=3)
    assert seats.taken == 8, "it is the collector that is slow"
    for slow, taken_then in ((3, 11), (0, 11), (8, 11 + 8)):
        seats.look(measured=8, slow=slow, behind=2)
        assert seats.taken == taken_then
    seats.look(measured=19, slow=19, behind=0)
    assert seats.taken == 20
    assert seats.credit(MIB) == CREDIT_LEAST
    assert not Seat(seats, "z", MIB).take(), "there are no more than slow_dumps allows"
    waits[0].leave()
    assert seats.taken == 20, "the next one has it"
    seats.look(measured=0, slow=0, behind=0)
    assert seats.more == 12, "nobody has sat for long enough to tell"
    seats.look(measured=20, slow=0, behind=0)
    for seat in (*taken, *waits[:13]):
        seat.leave()
    assert seats.taken == 7
    for task in tasks:
        task.cancel()


@pytest.mark.asyncio
async def test_more_seats_are_not_there_for_ever() -> None:
    """Of the hosts that come hours after slow ones, no more are let in than were before."""
    seats = Seats(Limits(active_dumps=8, slow_dumps=5), Ingest())
    watched = [seats.is_watched]
    sitting = [Seat(seats, str(number), MIB) for number in range(9)]
    tasks = [asyncio.create_task(seat.wait(since)) for since, seat in enumerate(sitting)]
    await turns()
    watched.append(seats.is_watched)
    seats.look(measured=8, slow=8, behind=0)
    seats.look(measured=9, slow=9, behind=0)
    assert seats.more == 1, "nine sit"
    watched.append(seats.is_watched)  # although nobody waits
    sitting.pop().leave()
    seats.look(measured=8, slow=8, behind=0)
    assert seats.more == 0
    watched.append(seats.is_watched)
    assert watched == [False, True, True, False]
    await asyncio.gather(*tasks)


@pytest.mark.asyncio
async def test_vast_images_have_the_usual_seats_and_get_the_next() -> None:
    seats = Seats(Limits(active_dumps=1, slow_dumps=5), Ingest())
    first, vast, later = Seat(seats, "a", MIB), Seat(seats, "b", VAST_BYTES), Seat(seats, "c", VAST_BYTES - 1)
    assert first.take()
    tasks = [asyncio.create_task(seat.wait(since)) for since, seat in enumerate((vast, later))]
    await turns()
    seats.look(measured=1, slow=1, behind=0)
    assert (vast.taken, later.taken) == (False, True)
    first.leave()
    assert vast.taken, "although as many sit as before"
    assert not Seat(seats, "d", VAST_BYTES).take()
    await asyncio.gather(*tasks)
