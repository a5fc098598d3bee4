"""One connection of a host: what breaks the protocol, how silence ends it, and that last words arrive."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from netdump import wire
from netdump.errors import RemoteProtocolError
from netdump.pages import PageState, Run
from netdump.pki import Identity, Role
from netdump.server import hostconnection
from netdump.server.bufferpool import BufferPool
from netdump.server.config import Ingest
from netdump.server.headlines import Headlines
from netdump.server.hostconnection import HostConnection
from netdump.server.space import Measure
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import Host, Papers, Rig, headline_of

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.server.hostconnection import Taker
    from netdump.server.listener import Visitor

PLENTY = Measure(1 << 40, 1 << 41)
DUMP = SampleDump(seed=11, image_bytes=60_000, chunk_bytes=8_192)


def error_of(answer: wire.Message | None) -> wire.ErrorCode:
    assert isinstance(answer, wire.Error), answer
    return answer.code


# Breaches


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x80\x01\x00\x00\xff\xff\xff\xff", wire.ErrorCode.TOO_LARGE),
        (b"\x80\x06\x00\x00\x00\x00\x00\x00", wire.ErrorCode.UNEXPECTED_MESSAGE),
        (b"\x80\x01\x00\x01\x00\x00\x00\x00", wire.ErrorCode.BAD_FRAME),
        (b"\x80\x01\x00\x00\x00\x00\x00\x00", wire.ErrorCode.BAD_FIELD),
        (b"\xff\xff\x00\x00\x00\x00\x00\x00", wire.ErrorCode.UNKNOWN_CRITICAL),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", wire.ErrorCode.BAD_FRAME),
    ],
)
def test_garbage_instead_of_hello(folder: Path, web1: Papers, data: bytes, code: wire.ErrorCode) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.say_raw(data)
        answer = host.hear()
        assert error_of(answer) in {code, wire.ErrorCode.UNKNOWN_CRITICAL, wire.ErrorCode.TOO_LARGE}
        assert error_of(answer) is code or data.startswith(b"GET")
        assert host.ended()
        dropped = rig.events.wait("host-dropped")
        assert dropped["host"] == "web1"
        assert str(dropped["reason"]).startswith(f"{error_of(answer).slug}: ")


def test_nothing_may_follow_hello_before_its_answer(folder: Path, web1: Papers) -> None:
    hello = wire.pack(wire.Hello(DUMP.dump_id, 60_000, 4096, 0))
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.say_raw(hello + wire.pack(wire.Keepalive()))
        host.wire.send(wire.Hello(DUMP.dump_id, 60_000, 4096, 0), 0.0)
        assert error_of(host.hear()) is wire.ErrorCode.UNEXPECTED_MESSAGE
        assert host.ended()


def test_more_than_the_credit(folder: Path, web1: Papers) -> None:
    # Small chunks cost 4 KiB each however small they are: 513 of them are more than 2 MiB.
    dump = SampleDump(seed=12, image_bytes=513, chunk_bytes=1)
    settings = {"ingest": {"credit_bytes": 2 << 20}, "store": {"publish_bytes": 1 << 20}}
    held = threading.Event()

    def measure() -> Measure:
        assert held.wait(20)  # nothing is stored before it may be
        return PLENTY

    with Rig(folder, settings, measure=measure) as rig, Host(rig, web1) as host:
        held.set()
        host.resume(dump)
        held.clear()
        try:
            host.headline(dump)
            host.say_raw(b"".join(chunk.frame for chunk in dump.chunks))
            assert error_of(host.hear()) is wire.ErrorCode.CREDIT_EXCEEDED
        finally:
            held.set()


def test_a_last_word_is_heard_over_all_that_is_still_being_sent(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.socket.settimeout(20)
        host.say_raw(b"\xff\xff\x00\x00\x00\x00\x00\x00")
        host.say_raw(bytes(4 << 20))  # would meet a reset, and the reset would swallow the answer
        assert error_of(host.hear()) is wire.ErrorCode.UNKNOWN_CRITICAL


def test_random_bytes_never_get_further_than_an_error(folder: Path, web1: Papers) -> None:
    random_bytes = random.Random(5)
    with Rig(folder) as rig:
        for _ in range(20):
            with Host(rig, web1) as host:
                host.say_raw(random_bytes.randbytes(random_bytes.randint(8, 4000)))
                host.socket.shutdown(socket.SHUT_WR)
                host.ended()
    assert not rig.mistakes


def test_damaged_frames_after_resume_never_get_further_than_an_error(folder: Path, web1: Papers) -> None:
    generator = random.Random(6)
    frames = wire.pack(headline_of(DUMP)) + b"".join(chunk.frame for chunk in DUMP.chunks)
    with Rig(folder) as rig:
        for attempt in range(15):
            damaged = bytearray(frames)
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
            dump_id = bytes([attempt]) * 16
            with Host(rig, web1) as host:
                answer = host.hello(DUMP, dump_id=dump_id)
                if isinstance(answer, wire.Defer):
                    continue
                host.say_raw(bytes(damaged))
                host.socket.shutdown(socket.SHUT_WR)
                host.ended()
            rig.events.wait("dump-interrupted", attempt + 1)
    assert not rig.mistakes


# Time


def test_hello_has_ten_seconds(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        rig.events.wait("host-connected")
        host.say_raw(b"\x80\x01")  # a trickle does not extend it
        rig.skip(wire.OPENING_TIMEOUT + 0.1)
        assert error_of(host.hear()) is wire.ErrorCode.IDLE_TIMEOUT
        assert host.ended()


def test_the_collector_says_that_it_lives(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        assert host.resume(DUMP).keepalive == 5
        for _ in range(3):
            rig.skip(5.1)
            assert isinstance(host.hear_any(), wire.Keepalive)
            host.say(wire.Keepalive())


def test_a_silent_host_is_dropped(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        resume = host.resume(DUMP)
        rig.skip(resume.idle + 0.1)
        assert error_of(host.hear()) is wire.ErrorCode.IDLE_TIMEOUT
        assert host.ended()
        assert rig.events.wait("dump-interrupted")["offset"] == 0


def test_a_host_that_is_not_listened_to_is_not_silent(folder: Path, web1: Papers) -> None:  # [W-61]
    begun: list[HostConnection] = []
    begin = HostConnection.begin

    def watched(connection: HostConnection, resume: wire.Resume, taker: Taker) -> None:
        begun.append(connection)
        begin(connection, resume, taker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostConnection, "begin", watched)
        with Rig(folder) as rig, Host(rig, web1) as host:
            resume = host.resume(DUMP)
            rig.call(begun[0].hold)
            for _ in range(2):
                rig.skip(resume.idle + 0.1)
                assert isinstance(host.hear_any(), wire.Keepalive)
            rig.skip(resume.idle - 0.1)
            rig.call(begun[0].release)
            host.headline(DUMP)
            host.chunks(DUMP.chunks)
            assert isinstance(host.finish(DUMP), wire.Receipt)
        with Rig(folder) as rig, Host(rig, web1) as host:  # once it is listened to again, silence counts
            resume = host.resume(SampleDump(seed=12, image_bytes=5_000))
            rig.call(begun[1].hold)
            rig.skip(resume.idle + 0.1)
            rig.call(begun[1].release)
            rig.skip(resume.idle + 0.1)
            assert error_of(host.hear()) is wire.ErrorCode.IDLE_TIMEOUT


SLOW = {"ingest": {"idle_s": 600, "keepalive_s": 60, "rate_window_s": 5, "rate_bytes": 10_000}}


@pytest.mark.parametrize("headline_sent", [False, True])
def test_a_host_that_may_send_and_does_not_is_dropped(folder: Path, web1: Papers, headline_sent: bool) -> None:
    with Rig(folder, SLOW) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        if headline_sent:
            host.headline(DUMP)
        rig.skip(6)
        answer = host.hear()
        assert error_of(answer) is wire.ErrorCode.IDLE_TIMEOUT
        assert "too slow" in cast("wire.Error", answer).text
        assert "too slow" in str(rig.events.wait("host-dropped")["reason"])


def test_a_host_that_only_keeps_alive_is_dropped(folder: Path, web1: Papers) -> None:  # [W-63]
    """However much of it it sends: a seat is not to be had for nothing."""
    with Rig(folder, SLOW) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        unknown = b"\x7f\xff\0\0" + (60_000).to_bytes(4, "big") + bytes(60_000)  # more than 10,000 bytes a second
        host.say_raw(unknown + wire.pack(wire.Keepalive()) * 100)
        rig.skip(6)
        answer = host.hear()
        assert error_of(answer) is wire.ErrorCode.IDLE_TIMEOUT
        assert "too slow" in cast("wire.Error", answer).text


def test_a_flood_of_keepalives_ends_the_connection(folder: Path, web1: Papers) -> None:  # [W-63]
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        host.say_raw(wire.pack(wire.Keepalive()) * 5000)
        assert error_of(host.hear()) is wire.ErrorCode.UNEXPECTED_MESSAGE


def test_a_host_that_brings_enough_is_not(folder: Path, web1: Papers) -> None:
    with Rig(folder, SLOW) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        host.headline(DUMP)
        host.chunks(DUMP.chunks)
        rig.skip(4.9)  # publishes, and is within the window
        host.await_ack(len(DUMP.image))
        rig.skip(0.2)  # the window is over: 60,000 bytes of image in it were enough
        assert isinstance(host.finish(DUMP), wire.Receipt)


# Ends


def test_an_error_of_the_host_is_logged_and_not_answered(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        host.say(wire.Error(wire.ErrorCode.BAD_ROOT, "the chain \\ is not mine"))
        rig.events.wait("dump-interrupted")
        assert host.ended()
        failed = rig.events.wait("host-failed")
        assert (failed["host"], failed["reason"]) == ("web1", "bad-root: the chain \\ is not mine")
        assert not rig.events.all("host-dropped")


def test_no_control_character_of_an_error_comes_into_the_log(folder: Path, web1: Papers) -> None:
    """The core refuses them; whatever else is not printable ASCII the audit escapes (test_audit.py)."""
    error = wire.pack(wire.Error(wire.ErrorCode.INTERNAL, "a?[2Jb")).replace(b"?", b"\x1b")
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.say_raw(error)
        reason = str(rig.events.wait("host-dropped")["reason"])
        assert reason.startswith("bad-field: ")
        assert reason.isprintable()
        assert not rig.events.all("host-failed")


# Without a socket


class Stub:
    """Stands for a visitor and its transport."""

    address = "192.0.2.1"

    def __init__(self) -> None:
        self.transport = self
        self.written = bytearray()
        self.unread = 0
        self.aborted = False
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def set_protocol(self, protocol: object) -> None: ...
    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def leave(self) -> None: ...


def connection(stub: Stub, headlines: Headlines | None = None, host: str = "web1") -> HostConnection:
    def attend(_connection: HostConnection, _hello: wire.Hello) -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(3600))

    return HostConnection(
        cast("Visitor", stub),
        Identity(Role.HOST, host, ""),
        Ingest(),
        BufferPool(),
        headlines or Headlines(),
        attend=attend,
        on_breach=lambda connection, error: None,
        on_error=lambda connection, error: None,
        on_lost=lambda _: None,
    )


def bring(subject: HostConnection, data: bytes) -> None:
    """Bytes arrive, as long as the connection is read."""
    view = memoryview(data)
    while view and cast("Stub", subject._transport).reading:
        room = subject.get_buffer(-1)
        part = view[: len(room)]
        room[: len(part)] = part
        subject.buffer_updated(len(part))
        view = view[len(part) :]


def resumed(subject: HostConnection, **changes: Any) -> None:
    """HELLO came, and was answered."""
    subject.start()
    bring(subject, wire.pack(wire.Hello(DUMP.dump_id, 60_000, 4096, 0)))
    resume = wire.Resume(0, wire.chain_start(DUMP.dump_id, 60_000), 0, True, 2 << 20, 5, 30)
    subject.begin(resume._replace(**changes), cast("Taker", Takes()))


@pytest.mark.asyncio
async def test_a_stranger_gets_little_memory() -> None:
    assert len(connection(Stub()).get_buffer(-1)) == 4096


@pytest.mark.asyncio
async def test_a_host_that_does_not_read_is_given_up() -> None:
    stub = Stub()
    subject = connection(stub)
    stub.unread = hostconnection.UNREAD_MAX + 1
    subject.fail(wire.ErrorCode.INTERNAL, "x")
    assert stub.aborted


class Takes:
    """A dump that takes all and does nothing."""

    def take(self, message: object) -> None: ...
    def end(self) -> None: ...


@pytest.mark.asyncio
@pytest.mark.parametrize(("count", "rests"), [(100, False), (wire.CHUNK_RUNS_MAX, True)])
async def test_who_gives_much_to_look_through_is_not_read_for_a_moment(count: int, rests: bool) -> None:
    stub = Stub()
    subject = connection(stub)
    resumed(subject)
    table = wire.pack_runs([Run(PageState.ZERO, 1), Run(PageState.LOST, 1)] * (count // 2))
    chunk = wire.Chunk(0, count, table, wire.chunk_digest(0, count, table, b""), wire.CodecId.STORED, b"")
    bring(subject, wire.pack(chunk))
    assert stub.reading is not rests
    subject.hold()
    await asyncio.sleep(2 * len(table) * hostconnection.REST_S)
    assert not stub.reading, "a host that is held is not read because it has rested"
    subject.release()
    assert stub.reading


LONG = wire.pack(wire.Headline(wire.CodecId.STORED, 1 << 20, bytes(32), bytes(1 << 20)))
SHORT = wire.pack(wire.Headline(wire.CodecId.STORED, 10, bytes(32), bytes(10)))
CHUNK_HEADER = b"\x80\x06\0\0" + (1 << 20).to_bytes(4, "big")


@pytest.mark.asyncio
async def test_a_long_headline_waits_unread_until_there_is_memory_for_it() -> None:
    headlines = Headlines(budget_bytes=len(LONG))
    stubs = Stub(), Stub()
    first, second = (connection(stub, headlines, f"web{number}") for number, stub in enumerate(stubs))
    for each in (first, second):
        resumed(each, headline=False)
    bring(first, LONG[:100_000])
    bring(second, LONG[:100_000])
    assert [stub.reading for stub in stubs] == [True, False]
    bring(first, LONG[100_000:])
    assert headlines.held_bytes == len(LONG), "not stored yet"
    assert [stub.reading for stub in stubs] == [True, False]
    first.introduced()
    assert [stub.reading for stub in stubs] == [True, True]
    bring(second, LONG[4096:])
    assert second.is_open
    assert second._wire.state is wire.State.STREAMING


@pytest.mark.asyncio
async def test_memory_for_a_headline_is_free_when_its_connection_ends() -> None:
    headlines = Headlines()
    for end in (HostConnection.eof_received, lambda it: it.connection_lost(None), lambda it: it.give_way("x")):
        subject = connection(stub := Stub(), headlines)
        resumed(subject, headline=False)
        bring(subject, LONG[:100_000])
        assert headlines.held_bytes == len(LONG)
        end(subject)
        assert not headlines.held_bytes
    assert wire.unpack(bytes(stub.written[-len(wire.pack(wire.Error(wire.ErrorCode.STORAGE, "x; come back"))) :])) == (
        wire.Error(wire.ErrorCode.STORAGE, "x; come back")
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("changes", [{"credit": 0}, {"offset": 60_000, "chunks": 2}])
async def test_a_chunk_that_is_not_due_is_no_way_around_the_limit(changes: dict[str, int]) -> None:
    headlines = Headlines()
    seated, standing = connection(Stub(), headlines, "seated"), connection(Stub(), headlines, "standing")
    resumed(seated)
    bring(seated, CHUNK_HEADER)
    assert not headlines.held_bytes
    resumed(standing, **changes)
    bring(standing, CHUNK_HEADER)
    assert headlines.held_bytes > 1 << 20


@pytest.mark.asyncio
@pytest.mark.parametrize("headline", [SHORT, LONG])
async def test_nor_is_one_behind_a_headline_that_is_not_stored_yet(headline: bytes) -> None:
    headlines = Headlines()
    subject = connection(Stub(), headlines)
    resumed(subject, headline=False, credit=0)
    bring(subject, headline + CHUNK_HEADER)
    assert headlines.held_bytes == (len(LONG) if headline is LONG else 0) + len(CHUNK_HEADER) + (1 << 20)
    subject.introduced()
    assert headlines.held_bytes == len(CHUNK_HEADER) + (1 << 20)
    subject.connection_lost(None)
    assert not headlines.held_bytes


@pytest.mark.asyncio
async def test_nothing_is_said_after_the_last_word() -> None:
    stub = Stub()
    subject = connection(stub)
    subject.fail(wire.ErrorCode.STORAGE, "first\nline")
    first = bytes(stub.written)
    assert wire.unpack(first) == wire.Error(wire.ErrorCode.STORAGE, "first\\nline") or b"first" in first
    subject.fail(wire.ErrorCode.INTERNAL, "second")
    subject.conclude(wire.Defer(1))
    subject.acknowledge(0)
    subject.breach(RemoteProtocolError("bad-digest", "third"))
    subject.hold()
    subject.release()
    subject.get_buffer(-1)[:3] = b"abc"
    subject.buffer_updated(3)
    assert stub.written == first
    assert not subject.is_open


@pytest.mark.asyncio
async def test_a_mistake_of_ours_is_told_and_logged() -> None:
    async def fail() -> None:
        raise LookupError("a mistake")

    def attend(_connection: HostConnection, _hello: wire.Hello) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(fail()))
        return tasks[0]

    tasks: list[asyncio.Task[None]] = []
    stub, heard = Stub(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    subject = connection(stub)
    subject._attend = attend
    hello = wire.pack(wire.Hello(bytes(16), 1, 4096, 0))
    subject.get_buffer(-1)[: len(hello)] = hello
    subject.buffer_updated(len(hello))
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert isinstance(heard[0]["exception"], LookupError)
    answer = wire.unpack(bytes(stub.written))
    assert error_of(answer) is wire.ErrorCode.INTERNAL
    assert "LookupError" not in cast("wire.Error", answer).text
