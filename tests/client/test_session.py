"""One connection against a collector that does as it should, and against those that do not."""

from __future__ import annotations

import socket
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from netdump.client import session
from netdump.client.ledger import Ledger
from netdump.client.link import RECORDS_MAX, open_link
from netdump.client.resolve import Resolver
from netdump.client.session import Limits, Session
from netdump.client.stream import Workers
from netdump.client.tally import Tally
from netdump.errors import DeadlineError, RemoteProtocolError, UnreachableError
from netdump.pages import PageState
from netdump.wire import (
    Ack,
    Decline,
    DeclineCode,
    Defer,
    Error,
    ErrorCode,
    Hello,
    Receipt,
    Resume,
    pack,
)
from tests.client.collector import FakeCollector, Manners
from tests.client.pretend import PretendImage, RecycledImage, content

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from netdump.client.address import Address
    from netdump.client.session import LastWord
    from netdump.client.stream import ChunkStream
    from tests.client.conftest import StartCollector

IMAGE = PretendImage(content(100))


class Run:
    """One session at a time against one address, keeping ledger and tally over them."""

    def __init__(self, context: ssl.SSLContext, image: PretendImage = IMAGE) -> None:
        self.image = image
        self.ledger = Ledger(image.dump_id, image.size)
        self.tally = Tally()
        self.turns: list[int] = []
        self.queued: list[Address] = []
        self.last: Session | None = None
        self._context = context

    def __call__(
        self,
        address: Address,
        *,
        stall: float = 60,
        progress: float = 60,
        deadline: float = 60,
        records_max: int = RECORDS_MAX,
    ) -> LastWord | None:
        link = open_link(address, self._context, Resolver(), connect_timeout=10, dns_timeout=10)
        self.last = Session(
            link,
            self.ledger,
            self.tally,
            Limits(stall, progress, time.monotonic() + deadline),
            headline=self.image.headline,
            afterword=self.image.afterword,
            catch_up=self.image.catch_up,
            open_stream=self.image.stream,
            on_turn=self.turns.append,
            on_queue=lambda: self.queued.append(address),
            records_max=records_max,
        )
        hello = Hello(self.image.dump_id, self.image.size, self.image.page_bytes, 0, "netdump/test", 0)
        try:
            return self.last.run(hello)
        finally:
            link.close()


@pytest.fixture
def run(context: ssl.SSLContext) -> Run:
    return Run(context)


def whole(collector: FakeCollector, image: PretendImage = IMAGE) -> None:
    """The collector has exactly the image."""
    kept = collector.dumps[image.dump_id]
    assert kept.complete
    assert bytes(kept.image) == image.data
    assert kept.headline is not None
    assert not collector.errors


def test_a_whole_dump(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector()
    word = run(collector.address)
    assert isinstance(word, Receipt)
    assert word.document == b"signed"
    whole(collector)
    kept = collector.only()
    assert word.root == kept.root
    assert kept.states[PageState.ZERO] == 20 * 4096
    assert run.tally.raw_bytes == 80 * 4096
    assert run.tally.resent_bytes == 0
    assert run.turns == sorted(run.turns)
    assert run.last
    assert run.last.advanced
    assert run.last.acked_offset <= IMAGE.size


def test_what_came_up_while_sending_is_said_last(start_collector: StartCollector, context: ssl.SSLContext) -> None:
    """[W-66]."""
    collector, image = start_collector(), PretendImage(IMAGE.data, name="later")
    open_stream = image.stream

    def stream(start: int) -> ChunkStream:
        image.late = "free pages are sent too"
        return open_stream(start)

    image.stream = stream  # type: ignore[method-assign]
    Run(context, image)(collector.address)
    assert collector.only().remark == "free pages are sent too"


def test_catching_up_keeps_the_connection_alive(start_collector: StartCollector, context: ssl.SSLContext) -> None:
    collector, image = start_collector([Manners(keepalive=1, idle=3)]), PretendImage(IMAGE.data, name="behind")

    def catch_up(offset: int) -> Iterator[int]:
        assert offset == 0
        while not collector.keepalives:
            time.sleep(0.01)
            yield offset

    image.catch_up = catch_up  # type: ignore[method-assign]
    assert isinstance(Run(context, image)(collector.address), Receipt)
    whole(collector, image)


def test_much_to_catch_up_with_is_the_callers(
    start_collector: StartCollector, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector would find us slow: it is left, and asked again when all is looked at."""
    collector, image = start_collector(), PretendImage(IMAGE.data, name="far behind")
    left = iter(range(10))

    def catch_up(offset: int) -> Iterator[int]:
        assert offset == 0
        yield from left

    image.catch_up = catch_up  # type: ignore[method-assign]
    monkeypatch.setattr(session, "CATCH_UP_SECONDS", 0)
    run = Run(context, image)
    assert run(collector.address) is None
    first = run.last
    assert first is not None
    assert first.behind
    assert list(left) == list(range(1, 10)), "there was time for one look"
    assert isinstance(run(collector.address), Receipt)
    assert run.last is not None
    assert not run.last.behind
    whole(collector, image)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * 16384])
def test_images_of_any_size(start_collector: StartCollector, context: ssl.SSLContext, size: int) -> None:
    image = PretendImage((content(12))[:size])
    collector = start_collector()
    assert isinstance(Run(context, image)(collector.address), Receipt)
    whole(collector, image)


def test_a_dump_that_is_complete_is_answered_at_once(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector()
    run(collector.address)
    before = run.tally.chunks
    assert isinstance(run(collector.address), Receipt)
    assert run.tally.chunks == before


def test_a_receipt_for_something_else_is_not_believed(start_collector: StartCollector, run: Run) -> None:
    """[W-68], on another connection than that of FINISH."""
    collector = start_collector([Manners(), Manners(answer=Receipt(bytes(32), b"signed"))])
    assert isinstance(run(collector.address), Receipt)
    with pytest.raises(RemoteProtocolError, match="not that of what was sent before") as caught:
        run(collector.address)
    assert caught.value.reason == "bad-root"
    assert isinstance(run(collector.address), Receipt)


def test_who_has_sent_nothing_believes_a_receipt(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector([Manners(answer=Receipt(bytes(32), b"signed"))])
    assert run(collector.address) == Receipt(bytes(32), b"signed")


def test_credit_is_kept_and_acknowledgements_free_it(start_collector: StartCollector, context: ssl.SSLContext) -> None:
    image = PretendImage(content(1500), chunk_pages=64)  # 6 MB through a credit of 2 MiB
    collector = start_collector([Manners(credit=2 << 20)])
    assert isinstance(Run(context, image)(collector.address), Receipt)
    whole(collector, image)  # the core of the collector refuses what exceeds the credit


def test_without_credit_the_headline_is_sent_and_chunks_wait(start_collector: StartCollector, run: Run) -> None:
    """[W-37]: other dumps come first."""
    collector = start_collector(
        [Manners(credit=0, retort=(0, Defer(7, "later"))), Manners(credit=0, retort=(0, Ack(0, 2 << 20)))]
    )
    assert run(collector.address) == Defer(7, "later")
    kept = collector.only()
    assert kept.headline is not None
    assert not kept.offset
    assert isinstance(run(collector.address), Receipt)
    whole(collector)
    waits = len(run.queued)
    assert waits in {1, 2}  # the second answer may have come with the credit behind it
    assert isinstance(run(collector.address), Receipt)
    assert len(run.queued) == waits


class NarrowSocket(socket.socket):
    """Takes little at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_chunk_stays_as_it_is_while_it_is_sent(
    start_collector: StartCollector, context: ssl.SSLContext, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data is not copied on its way to TLS, and its buffer is used again: not before all of it is on its way."""
    monkeypatch.setattr(socket, "socket", NarrowSocket)
    noise = Random(5).randbytes(24 << 20)
    image = RecycledImage(noise, chunk_pages=256, workers=Workers(threads, lambda: None) if threads else None)
    collector = start_collector([Manners(credit=8 << 20)])
    assert isinstance(Run(context, image)(collector.address), Receipt)
    whole(collector, image)
    assert not image.out


@pytest.mark.parametrize(
    "answer",
    [
        Defer(7, "later"),
        Decline(DeclineCode.QUOTA, "full"),
        Error(ErrorCode.NOT_ALLOWED, "revoked"),
    ],
)
def test_other_answers_are_returned(start_collector: StartCollector, run: Run, answer: Any) -> None:
    assert run(start_collector([Manners(answer=answer)]).address) == answer
    assert run.last
    assert not run.last.advanced


@pytest.mark.parametrize("after", [1, 3, 10])
def test_an_error_in_the_middle_ends_the_session(start_collector: StartCollector, run: Run, after: int) -> None:
    word = Error(ErrorCode.STORAGE, "disk full")
    collector = start_collector([Manners(retort=(after, word))])
    assert run(collector.address) == word
    assert run.last
    assert run.last.advanced
    assert isinstance(run(collector.address), Receipt)
    whole(collector)


def test_headline_is_sent_once(start_collector: StartCollector, context: ssl.SSLContext) -> None:
    run = Run(context, PretendImage(content(100)))
    collector = start_collector([Manners(retort=(2, Error(ErrorCode.STORAGE)))])
    run(collector.address)
    run(collector.address)
    assert run.image.headlines == 1
    whole(collector, run.image)


def test_resume_goes_on_where_the_collector_says(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector([Manners(retort=(5, Error(ErrorCode.STORAGE)))])
    run(collector.address)
    durable = collector.only().offset
    assert 0 < durable < IMAGE.size
    run(collector.address)
    whole(collector)
    assert run.last
    assert run.last.resume
    assert run.last.resume.offset == durable


# Collectors that break the protocol


def lies(**fields: Any) -> Callable[[Resume], Resume]:
    return lambda resume: resume._replace(**fields)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Resume(0, bytes(32), 0, False, 1 << 21, 1, 3), "bad-root"),
        (Resume(IMAGE.size + 1, bytes(32), 1, False, 1 << 21, 1, 3), "bad-field"),
    ],
)
def test_lies_about_the_start(start_collector: StartCollector, run: Run, answer: Resume, reason: str) -> None:
    collector = start_collector([Manners(answer=pack(answer))])
    with pytest.raises(RemoteProtocolError) as caught:
        run(collector.address)
    assert caught.value.reason == reason
    assert isinstance(run(collector.address), Receipt)
    assert collector.errors == [f"client: {reason}: {caught.value}"]


def test_a_chain_that_is_not_ours_is_found_at_the_end(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector([Manners(alter=lies(offset=16384, chunks=1, chain=bytes(32)))])
    assert run(collector.address) == Error(ErrorCode.BAD_ROOT)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pack(Ack(5)), "bad-ack"),
        (pack(Resume(0, bytes(32), 0, False, 1 << 21, 1, 3)), "unexpected-message"),
        (pack(Receipt(bytes(32), b"x")), "unexpected-message|bad-root"),  # the latter after FINISH
        (b"\x80\x63\0\0\0\0\0\0", "unknown-critical"),
        (b"\x80\x07\0\0\xff\xff\xff\xff", "too-large"),
    ],
)
def test_breaches_in_the_stream(start_collector: StartCollector, run: Run, frame: bytes, reason: str) -> None:
    collector = start_collector([Manners(retort=(3, frame))])
    with pytest.raises(RemoteProtocolError) as caught:
        run(collector.address)
    assert caught.value.reason in reason.split("|")
    assert isinstance(run(collector.address), Receipt)
    assert bytes(collector.only().image) == IMAGE.data


# Collectors that do nothing


def test_a_collector_that_goes_silent_is_left_after_its_own_idle_time(
    start_collector: StartCollector, context: ssl.SSLContext
) -> None:
    """In every state; all at once, because 3 seconds is the shortest idle time that the protocol has."""

    def play(place: str, found: dict[str, object]) -> None:
        image = PretendImage(content(20), name=place)
        run = Run(context, image)
        collector = start_collector([Manners(hang=place, keepalive=1, idle=3)])
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="the collector is silent"):
            run(collector.address)
        elapsed = time.monotonic() - start
        again = run(collector.address)
        found[place] = isinstance(again, Receipt) and bytes(collector.only().image) == image.data and 2.5 < elapsed < 8

    places = ("resume", "headline", "chunk:0", "chunk:3", "finish")
    found: dict[str, object] = {}
    threads = [threading.Thread(target=play, args=(place, found)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(places, True)


def test_stall_timeout_is_sooner_than_a_long_idle_time(start_collector: StartCollector, run: Run) -> None:
    collector = start_collector([Manners(hang="chunk:2", keepalive=1, idle=600)])
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="nothing heard for 2 s"):
        run(collector.address, stall=1)  # but twice keepalive at least
    assert 1.9 < time.monotonic() - start < 4


@pytest.mark.parametrize("place", ["chunk:0", "chunk:5", "finish"])
def test_a_collector_that_is_alive_but_acknowledges_nothing(
    start_collector: StartCollector, run: Run, place: str
) -> None:
    collector = start_collector([Manners(mute=place)])
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"alive, but nothing was acknowledged for \d+ s"):
        run(collector.address, progress=0.6)
    assert 0.5 < time.monotonic() - start < 4


def test_a_collector_that_takes_no_chunks_and_says_no_more(
    start_collector: StartCollector, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk hangs, say, before the headline is durable: another collector may do better."""
    monkeypatch.setattr(session, "QUEUE_TIMEOUT_MIN", 1.2)
    collector = start_collector([Manners(credit=0, mute="headline")])
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="alive, but it took no pages for 1 s"):
        run(collector.address, progress=0.6, deadline=10)
    assert 1.1 < time.monotonic() - start < 4
    assert len(run.queued) == 1


@pytest.mark.parametrize("place", ["hello", "resume", "chunk:3", "finish"])
def test_the_deadline_ends_every_wait(start_collector: StartCollector, run: Run, place: str) -> None:
    collector = start_collector([Manners(hang=place)])
    start = time.monotonic()
    with pytest.raises(DeadlineError):
        run(collector.address, deadline=0.3)
    assert 0.25 < time.monotonic() - start < 2


def test_a_connection_whose_keys_are_used_up_ends_with_all_acknowledged(
    start_collector: StartCollector, run: Run
) -> None:
    collector = start_collector()
    assert run(collector.address, records_max=8) is None
    assert run.last is not None
    half = run.last.acked_offset
    assert 0 < half < IMAGE.size
    assert collector.dumps[IMAGE.dump_id].offset == half
    assert isinstance(run(collector.address), Receipt)
    whole(collector)
    assert run.tally.resent_bytes == 0


def test_a_slow_collector_is_waited_for(start_collector: StartCollector, context: ssl.SSLContext) -> None:
    """No acknowledgement without need:

    the client waits for them at the credit, longer than keepalive, and stays alive.
    """
    image = PretendImage(content(700), chunk_pages=32)
    collector = start_collector([Manners(credit=2 << 20, slow=2)])
    assert isinstance(Run(context, image)(collector.address, stall=30), Receipt)
    whole(collector, image)
    assert collector.keepalives
