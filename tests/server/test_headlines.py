"""Memory for long headlines: the budget, the order of those who wait, and who gives way."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from netdump.server.headlines import BUDGET_BYTES, LEAST_S, WAIT_S, Headlines
from netdump.wire import FRAME_MAX
from tests.server.rig import SkippingLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Connection:
    """A bearer that does as it is told."""

    def __init__(self, subject: Headlines, host: str) -> None:
        self.subject = subject
        self.host = host
        self.peer = "192.0.2.1"
        self.goes_on = 0
        self.reasons: list[str] = []

    def take(self, size: int = 10) -> bool:
        return self.subject.take(self, size)

    def go_on(self) -> None:
        self.goes_on += 1
        assert self.take(), "what was granted is there"

    def give_way(self, reason: str) -> None:
        self.reasons.append(reason)
        self.subject.leave(self)


def run(test: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(test)


async def skip(seconds: float) -> None:
    """Let time pass, and what is due then happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.skipped += seconds
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_budget_has_room_for_some_of_the_longest() -> None:
    assert BUDGET_BYTES >= 7 * FRAME_MAX


def test_who_finds_no_memory_waits_for_it() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=25)
        one, two, three, four = (Connection(subject, str(number)) for number in range(4))
        assert [each.take() for each in (one, two, three, four)] == [True, True, False, False]
        assert subject.held_bytes == 20
        two.subject.leave(two)
        assert (three.goes_on, four.goes_on) == (1, 0)
        assert subject.held_bytes == 20
        one.subject.leave(one)
        assert four.goes_on == 1

    run(test())


def test_a_long_one_is_not_passed_over_for_short_ones() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=25)
        one, two, long, short = (Connection(subject, str(number)) for number in range(4))
        assert [one.take(), two.take(), long.take(25), short.take(1)] == [True, True, False, False]
        subject.leave(one)
        assert [long.goes_on, short.goes_on] == [0, 0]
        subject.leave(two)
        assert [long.goes_on, short.goes_on] == [1, 0]

    run(test())


def test_while_somebody_waits_the_oldest_gives_way_once_it_has_had_its_time() -> None:
    async def test() -> None:
        lost: list[tuple[str, str]] = []
        subject = Headlines(lambda bearer, reason: lost.append((bearer.host, reason)), budget_bytes=20)
        one, two, three = (Connection(subject, str(number)) for number in range(3))
        assert one.take()
        await skip(1)
        assert two.take()
        await skip(10 * LEAST_S)
        assert not one.reasons, "nobody waits"
        one.subject.leave(one)
        one.take()
        assert not three.take()
        await skip(0.1)
        assert two.reasons == ["others wait to send their headlines"]
        assert three.goes_on == 1
        assert not one.reasons
        assert lost == [("1", two.reasons[0])]

    run(test())


def test_every_headline_has_its_time() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=10)
        one, two = Connection(subject, "1"), Connection(subject, "2")
        assert one.take()
        assert not two.take()
        await skip(LEAST_S - 0.5)
        assert not one.reasons
        await skip(1)
        assert one.reasons
        assert two.goes_on == 1

    run(test())


def test_what_is_here_need_not_give_way_and_counts_until_it_is_stored() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=10)
        one, two = Connection(subject, "1"), Connection(subject, "2")
        assert one.take()
        subject.whole(one)
        assert not two.take()
        await skip(2 * LEAST_S)
        assert not one.reasons
        subject.leave(one)
        assert (subject.held_bytes, two.goes_on) == (10, 0)
        subject.stored(one)
        assert (subject.held_bytes, two.goes_on) == (10, 1)

    run(test())


def test_what_comes_behind_a_headline_that_is_not_stored_counts_by_itself() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=25)
        one, two = Connection(subject, "1"), Connection(subject, "2")
        assert one.take()
        subject.whole(one)
        assert one.take(15)
        assert subject.held_bytes == 25
        subject.stored(one)
        assert (subject.held_bytes, two.take()) == (15, True)
        subject.leave(one)
        assert subject.held_bytes == 10
        subject.whole(two)
        assert not two.take(20)
        subject.stored(two)
        assert (two.goes_on, subject.held_bytes) == (1, 20)

    run(test())


def test_who_waits_for_long_may_try_another_collector() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=10)
        one, two, three = (Connection(subject, str(number)) for number in range(3))
        one.take()
        subject.whole(one)
        assert not two.take()
        await skip(WAIT_S / 2)
        assert not three.take()
        await skip(WAIT_S / 2 + 1)
        assert two.reasons == ["no memory for a headline within 60 s: too many come at a time"]
        assert not three.reasons
        subject.stored(one)
        assert three.goes_on == 1
        assert not two.goes_on

    run(test())


def test_who_gets_in_because_another_gave_up_is_in() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=20)
        one, long, short = (Connection(subject, str(number)) for number in range(3))
        one.take()
        subject.whole(one)
        assert [long.take(20), short.take(10)] == [False, False]
        await skip(WAIT_S + 1)
        assert long.reasons
        assert (short.goes_on, short.reasons) == (1, [])

    run(test())


def test_of_one_host_the_newest_counts() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=10)
        first, second, third, other = (Connection(subject, host) for host in ("1", "1", "1", "2"))
        assert first.take()
        assert second.take(), "the first one gave way"
        assert first.reasons == ["the host sends another headline"]
        assert not other.take()
        subject.whole(second)
        assert not third.take()
        assert not second.reasons, "it is here"
        fourth = Connection(subject, "1")
        assert not fourth.take()
        assert third.reasons, "it waited only"
        subject.stored(second)
        assert other.goes_on == 1

    run(test())


def test_hostile_hosts_keep_nobody_out_for_long() -> None:
    """Each of twenty asks again at once when it has to give way, and never sends all; a good one gets its turn."""

    async def test() -> None:
        subject = Headlines()
        hostile = [Connection(subject, f"hostile {number}") for number in range(20)]
        for each in hostile:
            each.take(FRAME_MAX)
        good, seconds = Connection(subject, "good"), 0
        good.take(FRAME_MAX)
        while not good.goes_on and not good.reasons:
            await skip(1)
            seconds += 1
            for number, each in enumerate(hostile):
                if each.reasons:
                    hostile[number] = Connection(subject, each.host)
                    hostile[number].take(FRAME_MAX)
            assert subject.held_bytes <= BUDGET_BYTES
        assert good.goes_on == 1
        assert seconds <= (len(hostile) // 7 + 1) * (LEAST_S + 1)

    run(test())


def test_who_had_to_give_way_waits_behind_those_who_had_not() -> None:
    """Two hundred hosts that never finish have had their turn; a good one comes, and is next."""

    async def test() -> None:
        subject = Headlines()
        hostile = [Connection(subject, f"hostile {number}") for number in range(200)]
        for each in hostile:
            each.take(FRAME_MAX)

        async def go_on() -> None:
            await skip(1)
            for number, each in enumerate(hostile):
                if each.reasons:
                    hostile[number] = Connection(subject, each.host)
                    hostile[number].take(FRAME_MAX)

        for _ in range(400):
            await go_on()
        good, seconds = Connection(subject, "good"), 0
        good.take(FRAME_MAX)
        while not good.goes_on and not good.reasons:
            await go_on()
            seconds += 1
        assert good.goes_on == 1
        assert seconds <= LEAST_S + 1

    run(test())


def test_a_host_whose_headline_is_stored_has_its_place_again() -> None:
    async def test() -> None:
        subject = Headlines(budget_bytes=10)
        slow, busy, early, late = (Connection(subject, host) for host in ("slow", "busy", "early", "slow"))
        assert slow.take()
        assert not busy.take()
        await skip(LEAST_S + 1)
        assert slow.reasons
        subject.whole(busy)
        assert [late.take(), early.take()] == [False, False]
        subject.stored(busy)
        assert [late.goes_on, early.goes_on] == [0, 1]
        subject.leave(early)
        subject.whole(late)
        again, other = Connection(subject, "slow"), Connection(subject, "other")
        assert [again.take(), other.take()] == [False, False]
        subject.stored(late)
        assert [again.goes_on, other.goes_on] == [1, 0]

    run(test())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_budget_holds_and_nobody_waits_for_free_memory(seed: int) -> None:
    async def test() -> None:
        random = Random(seed)
        subject = Headlines(budget_bytes=100)
        present: list[Connection] = []

        def end(connection: Connection) -> None:
            subject.leave(connection)
            subject.stored(connection)

        for _ in range(200):
            match random.randrange(6):
                case 0 | 1:
                    present.append(Connection(subject, str(random.randrange(12))))
                    present[-1].take(random.randint(1, 100))
                case 2 if present:
                    chosen = random.choice(present)
                    if chosen not in subject._whole:  # it has one headline
                        subject.whole(chosen)
                case 3 if present:
                    end(present.pop(random.randrange(len(present))))
                case 4 if subject._whole:
                    chosen = random.choice([each for each in present if each in subject._whole])
                    chosen.take(random.randint(1, 100))
                    if chosen in subject._held:
                        subject.stored(chosen)
                case _:
                    await skip(random.uniform(0, LEAST_S))
            for each in [each for each in present if each.reasons]:
                present.remove(each)
                end(each)
            assert subject.held_bytes <= 100
            turns = subject._turns()
            assert not turns or subject.held_bytes + subject._waiting[turns[0]].size > 100
        for each in present:
            end(each)
        assert not subject.held_bytes

    run(test())
