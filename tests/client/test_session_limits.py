"""How long a session waits for a collector: on a played clock, against a played connection."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from netdump.client.address import Address
from netdump.client.ledger import Ledger
from netdump.client.session import Limits, Session
from netdump.client.tally import Tally
from netdump.errors import UnreachableError
from netdump.wire import (
    Ack,
    Defer,
    Hello,
    Keepalive,
    Resume,
    chain_start,
    pack,
)
from tests.client.pretend import PretendImage, content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.client.session import LastWord
    from netdump.wire import Buffer

IMAGE = PretendImage(content(100))


class PlayedLink:
    """Says what it is told to at its times, and takes all at once. answers: (time, frame)."""

    address = Address("played", 1)
    sent_records = sent_bytes = pending = 0
    eof = False

    def __init__(self, *answers: tuple[float, bytes]) -> None:
        self.now = 0.0
        self._answers = deque(answers)

    def send(self, *parts: Buffer) -> None:
        pass

    def exchange(self, timeout: float) -> bytes:
        assert timeout >= 0
        until = self.now + timeout
        if self._answers and self._answers[0][0] <= until:
            until, frame = self._answers.popleft()
        else:
            frame = b""
        self.now = max(self.now, until)
        return frame

    def close(self, farewell: float = 0.0) -> None:
        pass

    def delivery_rate(self) -> float:
        return 1e6


class Told:
    """An Effort that only notes what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def begin(self) -> None:
        self.words.append("begin")

    def sent(self, raw_bytes: int, packed_bytes: int, rate: float) -> None:
        self.words.append(f"sent {raw_bytes} {rate:.0f}")

    def waited(self, seconds: float) -> None:
        self.words.append(f"waited {seconds:.0f}")


def played(
    link: PlayedLink, limits: Limits, catch_up: Callable[[int], Iterator[int]] = IMAGE.catch_up, effort: Any = None
) -> LastWord | None:
    return Session(
        link,  # type: ignore[arg-type]
        Ledger(IMAGE.dump_id, IMAGE.size),
        Tally(),
        limits,
        headline=IMAGE.headline,
        afterword=IMAGE.afterword,
        catch_up=catch_up,
        open_stream=IMAGE.stream,
        on_turn=lambda _: None,
        on_queue=lambda: None,
        clock=lambda: link.now,
        effort=effort,
    ).run(Hello(IMAGE.dump_id, IMAGE.size, IMAGE.page_bytes, 0, "netdump/test", 0))


def resumes(credit: int) -> bytes:
    """Keepalive is 5 s, idle 600."""
    return pack(Resume(0, chain_start(IMAGE.dump_id, IMAGE.size), 0, True, credit, 5, 600))


LATER = (900.0, pack(Defer(7, "later")))
ALIVE = [(float(second), pack(Keepalive())) for second in range(8, 900, 8)]


def test_whoever_speaks_is_not_stalled() -> None:
    link = PlayedLink((0, resumes(0)), *ALIVE, LATER)
    assert played(link, Limits(10, 1000, 2000)) == Defer(7, "later")


def test_silence_is_a_stall() -> None:
    link = PlayedLink((0, resumes(0)), *ALIVE[:10], LATER)
    with pytest.raises(UnreachableError, match="nothing heard for 10 s"):
        played(link, Limits(10, 1000, 2000))
    assert link.now == 90


class DeafLink(PlayedLink):
    """Takes what is sent at these times, a part each time, and all of it at the last."""

    def __init__(self, takes: list[float], *answers: tuple[float, bytes]) -> None:
        super().__init__(*answers)
        self._takes = deque(takes)

    def send(self, *parts: Buffer) -> None:
        if self.now > 0:
            self.pending += sum(map(len, parts))

    def exchange(self, timeout: float) -> bytes:
        received = super().exchange(timeout)
        while self._takes and self._takes[0] <= self.now:
            self._takes.popleft()
            self.sent_bytes += 1
            self.pending = self.pending if self._takes else 0
        return received


WITHOUT_HEADLINE = (1.0, pack(Resume(0, chain_start(IMAGE.dump_id, IMAGE.size), 0, False, 2 << 20, 5, 600)))


def test_a_headline_that_is_not_taken_is_not_held_out_for_ever() -> None:
    """Who lives, but does not read. There is no acknowledgement of a headline."""
    link = DeafLink([], WITHOUT_HEADLINE, *ALIVE)
    with pytest.raises(UnreachableError, match="alive, but nothing was acknowledged for 60 s"):
        played(link, Limits(60, 60, 2000))
    assert link.now == pytest.approx(61, abs=5)


def test_one_that_is_taken_slowly_is() -> None:
    link = DeafLink([50.0, 100.0, 150.0, 200.0], WITHOUT_HEADLINE, *ALIVE[:26], (210, pack(Defer(7, "later"))))
    assert played(link, Limits(60, 60, 2000)) == Defer(7, "later")


@pytest.mark.parametrize(("progress", "patient"), [(60, 120), (600, 600)])
def test_a_turn_is_waited_for_for_two_minutes_or_as_long_as_for_progress(progress: float, patient: float) -> None:
    link = PlayedLink((0, resumes(0)), *ALIVE)
    with pytest.raises(UnreachableError, match=f"alive, but it took no pages for {patient} s"):
        played(link, Limits(60, progress, 2000))
    assert link.now == patient


def test_each_acknowledgement_gives_new_time() -> None:
    acks = [(50.0 * number, pack(Ack(number * 16384))) for number in range(1, 11)]
    answers = sorted([*ALIVE, *acks], key=lambda answer: answer[0])
    link = PlayedLink((0, resumes(2 << 20)), *answers)
    with pytest.raises(UnreachableError, match="alive, but nothing was acknowledged for 60 s"):
        played(link, Limits(60, 60, 2000))
    assert link.now == 560


def test_a_receipt_is_not_waited_for_for_ever() -> None:
    link = PlayedLink((0, resumes(2 << 20)), (20, pack(Ack(IMAGE.size))), *ALIVE[2:])
    with pytest.raises(UnreachableError, match="alive, but nothing was acknowledged for 60 s"):
        played(link, Limits(60, 60, 2000))
    assert link.now == 80


@pytest.mark.parametrize(("offset", "until"), [(IMAGE.size, 20 + 4 * 50 + 60), (16384, 20 + 60)])
def test_a_collector_that_gets_on_with_its_receipt_is_waited_for(offset: int, until: float) -> None:
    """[W-69]: with terabytes it takes longer than anybody waits for an acknowledgement."""
    acks = [(20.0 + 50 * number, pack(Ack(offset))) for number in range(5)]
    answers = sorted([*ALIVE, *acks], key=lambda answer: answer[0])
    link = PlayedLink((0, resumes(2 << 20)), *answers)
    with pytest.raises(UnreachableError, match="alive, but nothing was acknowledged for 60 s"):
        played(link, Limits(60, 60, 2000))
    assert link.now == until


def test_an_acknowledgement_of_nothing_new_is_no_progress_before() -> None:
    again = [(50.0 * number, pack(Ack(0))) for number in range(1, 11)]
    link = PlayedLink((0, resumes(0)), *again)
    with pytest.raises(UnreachableError, match="alive, but it took no pages for 120 s"):
        played(link, Limits(60, 60, 2000))
    assert link.now == 120


def test_looking_at_what_was_sent_waits_for_nothing() -> None:
    link = PlayedLink((0, resumes(2 << 20)), LATER)
    seen: list[float] = []

    def catch_up(offset: int) -> Iterator[int]:
        for number in range(40):
            seen.append(link.now)
            link.now += 0.1
            yield number

    assert played(link, Limits(60, 60, 2000), catch_up) is None
    assert seen == pytest.approx([number / 10 for number in range(len(seen))])
    assert 30 <= len(seen) <= 31, "three seconds of it"


def test_effort_is_told_of_each_connection_and_chunk() -> None:
    link, told = PlayedLink((0, resumes(2 << 20)), LATER, *ALIVE), Told()
    with pytest.raises(UnreachableError):
        played(link, Limits(60, 60, 2000), effort=told)
    assert told.words[0] == "begin"
    assert sum(word.startswith("sent ") for word in told.words) == 25
