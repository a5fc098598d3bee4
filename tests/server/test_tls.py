"""TLS between a TCP transport and a protocol: all arrives, in order, where it is wanted; nothing after the end."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import gc
import ssl
import weakref
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from netdump import wire
from netdump.pki import ingest_server_context
from netdump.server import tls
from netdump.server.tls import (
    ENCRYPT_BYTES,
    GULP_BYTES,
    MUTE_RECORDS_MAX,
    RECORDS_AT_ONCE,
    Gulp,
    Records,
    TlsTransport,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.rig import Papers

NOISE = bytes(range(251)) * 5000


class Tcp(asyncio.Transport):
    """What is below: keeps what is written, and lets go when it is told to, in the next turn, as asyncio does."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711)})
        self.written = bytearray()
        self.largest = 0
        self.reading = True
        self.unsent = 0
        self.end = ""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol: Any = protocol

    def write(self, data: Any) -> None:
        self.written += data
        self.largest = max(self.largest, len(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        if not self.end:
            self.end = how
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def bring(self, data: bytes) -> None:
        """Bytes from the peer, in pieces as large as the buffer for them, for as long as they are wanted."""
        while data and self.reading and not self.end:
            room = self.protocol.get_buffer(-1)
            count = min(len(room), len(data))
            room[:count] = data[:count]
            data = data[count:]
            self.protocol.buffer_updated(count)


class Whole(asyncio.BufferedProtocol):
    """Gathers what comes, in a buffer of a size of its own."""

    def __init__(self, size: int) -> None:
        self.room = memoryview(bytearray(size))
        self.data = bytearray()
        self.ended = self.lost = False
        self.said: list[str] = []

    def get_buffer(self, sizehint: int) -> Any:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        assert nbytes
        self.data += self.room[:nbytes]

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")


class Pieces(asyncio.Protocol):
    """The same, without a buffer of its own."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Line:
    """A subject between a Tcp and the client's side of TLS."""

    def __init__(self, folder: Path, papers: Papers) -> None:
        self.tcp = Tcp()
        self.subject = TlsTransport(self.tcp, ingest_server_context(folder), Gulp())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(folder / "pki" / "ca.crt")
        context.set_alpn_protocols([wire.ALPN])
        context.load_cert_chain(papers.file)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def shake(self, protocol: asyncio.BaseProtocol | None = None) -> None:
        task = asyncio.create_task(self.subject.handshake())
        await asyncio.sleep(0)
        while not task.done():
            with suppress(ssl.SSLWantReadError):
                self.peer.do_handshake()
            self.tcp.bring(self.outgoing.read())
            self.hear()
            await asyncio.sleep(0)
        await task
        if protocol is not None:
            self.subject.set_protocol(protocol)
            self.subject.resume_reading()

    def say(self, data: bytes) -> bytes:
        """What the peer's TLS makes of data."""
        assert self.peer.write(data) == len(data)
        return self.outgoing.read()

    def hear(self) -> None:
        self.incoming.write(bytes(self.tcp.written))
        self.tcp.written.clear()

    def read(self) -> bytes:
        """All that was sent to the peer, up to close_notify if that was sent."""
        self.hear()
        pieces = []
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.peer.read(65536):
                pieces.append(piece)
        return b"".join(pieces)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [1 << 12, 16_383, 1 << 21])
@pytest.mark.asyncio
async def test_everything_arrives_in_the_protocols_own_buffer(folder: Path, web1: Papers, size: int) -> None:
    line, protocol = Line(folder, web1), Whole(size)
    await line.shake(protocol)
    assert line.subject.get_protocol() is protocol
    line.tcp.bring(line.say(NOISE) + line.say(b"more"))
    assert protocol.data == NOISE + b"more"
    assert line.subject.is_reading()


@pytest.mark.asyncio
async def test_the_protocols_buffer_is_not_kept(folder: Path, web1: Papers) -> None:
    """It may be a frame of many MiB: it is free at once, not when the garbage collector comes round."""

    class Giving(Whole):
        def get_buffer(self, sizehint: int) -> memoryview:
            view = self.room[:]
            given.append(weakref.ref(view))
            return view

    given: list[weakref.ref[memoryview]] = []
    line = Line(folder, web1)
    await line.shake(Giving(1 << 16))
    gc.disable()
    try:
        line.tcp.bring(line.say(NOISE[:1000]))
        assert given
        assert not any(view() for view in given)
    finally:
        gc.enable()


@pytest.mark.asyncio
async def test_a_protocol_without_a_buffer(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Pieces()
    await line.shake(protocol)
    line.tcp.bring(line.say(NOISE))
    assert protocol.data == NOISE
    line.subject.write(NOISE)
    line.subject.write(b"")
    line.subject.write(memoryview(b"more"))
    assert line.read() == NOISE + b"more"


@pytest.mark.asyncio
async def test_a_long_answer_goes_out_in_pieces(folder: Path, web1: Papers) -> None:
    line, answer = Line(folder, web1), NOISE * (1 + 3 * ENCRYPT_BYTES // len(NOISE))
    await line.shake(Pieces())
    line.subject.write(answer)
    assert line.read() == answer
    assert line.tcp.largest < ENCRYPT_BYTES * 1.01


@pytest.mark.asyncio
async def test_nothing_is_read_before_somebody_listens(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake()
    assert not line.tcp.reading
    assert not line.subject.is_reading()
    assert line.subject.get_extra_info("ssl_object").selected_alpn_protocol() == wire.ALPN
    assert line.subject.get_extra_info("peername") == ("192.0.2.1", 4711)
    line.subject.set_protocol(protocol)
    line.subject.resume_reading()
    line.tcp.bring(line.say(b"now"))
    assert protocol.data == b"now"


class Cautious(Whole):
    """Takes a little, then pauses."""

    subject: TlsTransport

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.subject.pause_reading()


@pytest.mark.asyncio
async def test_a_pause_keeps_what_is_here_already(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Cautious(1000)
    protocol.subject = line.subject
    await line.shake(protocol)
    line.tcp.bring(line.say(NOISE[:100_000]))
    assert protocol.data == NOISE[:1000]
    assert not line.tcp.reading
    for _ in range(99):
        before = len(protocol.data)
        line.subject.resume_reading()
        assert len(protocol.data) == before, "never from within the call"
        await asyncio.sleep(0)
    assert protocol.data == NOISE[:100_000]


@pytest.mark.asyncio
async def test_a_pause_keeps_what_openssl_was_not_given_yet(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Cautious(RECORDS_AT_ONCE)
    protocol.subject = line.subject
    await line.shake(protocol)
    line.tcp.bring(b"".join(line.say(NOISE[number : number + 1]) for number in range(5 * RECORDS_AT_ONCE)))
    for part in range(1, 6):
        line.subject._gulp.view[:] = bytes(GULP_BYTES)  # another connection uses it
        assert protocol.data == NOISE[: part * RECORDS_AT_ONCE]
        line.subject.resume_reading()
        if part == 2:
            line.tcp.bring(line.say(b"more"))  # before what is here is given to anybody
        await asyncio.sleep(0)
    assert protocol.data == NOISE[: 5 * RECORDS_AT_ONCE] + b"more"


@pytest.mark.parametrize("goodbye", [True, False])
@pytest.mark.asyncio
async def test_the_peer_ends_the_connection(folder: Path, web1: Papers, goodbye: bool) -> None:
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    line.tcp.bring(line.say(b"last"))
    if goodbye:
        with pytest.raises(ssl.SSLWantReadError):
            line.peer.unwrap()
        line.tcp.bring(line.outgoing.read())
    else:
        assert not line.tcp.protocol.eof_received()
    assert protocol.ended
    assert protocol.data == b"last"
    assert line.subject.is_closing()
    await turns()
    assert line.tcp.end == "closed"
    assert protocol.lost
    line.subject.write(b"nobody")
    assert line.read() == b"", "close_notify, and nothing behind it"


class KeyChanger:
    """The peer's session, as OpenSSL's library has it: Python has no call for this."""

    def __init__(self, line: Line) -> None:
        self._line = line
        library = ctypes.CDLL(_ssl.__file__)
        try:
            self._change = library.SSL_key_update
        except AttributeError:
            pytest.skip("OpenSSL is hidden in this Python")
        self._change.argtypes = (ctypes.c_void_p, ctypes.c_int)
        # Behind the head of the object and its socket.
        place = id(line.peer._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
        self._session = ctypes.c_void_p.from_address(place)

    def records(self, count: int, asks: bool = True) -> bytes:
        """Records that change the keys. asks: for the same from the other side."""
        for _ in range(count):
            assert self._change(self._session, asks) == 1
            self._line.peer.do_handshake()
        return self._line.outgoing.read()


@pytest.mark.asyncio
async def test_keys_may_be_changed(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    keys = KeyChanger(line)
    for number in range(MUTE_RECORDS_MAX):
        line.tcp.bring(keys.records(1) + line.say(NOISE[:20_000]))
        line.subject.write(b"%d" % number)
        assert line.read() == b"%d" % number
    assert protocol.data == NOISE[:20_000] * MUTE_RECORDS_MAX
    assert not line.subject.is_closing()


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.asyncio
async def test_who_does_nothing_but_change_keys_is_sent_away(folder: Path, web1: Papers, asks: bool) -> None:
    """Half a second for each 256 KiB of it, and strangers come as far as this at the API."""
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    records = KeyChanger(line).records(3 * MUTE_RECORDS_MAX, asks)
    line.tcp.bring(records)
    assert line.tcp.end == "aborted"
    assert line.subject._mute <= MUTE_RECORDS_MAX + RECORDS_AT_ONCE
    assert len(line.tcp.written) <= 2 * RECORDS_AT_ONCE * 32
    await turns()
    assert protocol.lost


@pytest.mark.parametrize("size", [1, 7, 4096, GULP_BYTES])
def test_where_records_end(size: int) -> None:
    lengths = [16_401, 16_401, 22, 0, 1, 256, 18, 16_401, *[18] * 200, 300, 16_401]
    data = memoryview(b"".join(b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length) for length in lengths))
    records, ends, place = Records(), list(accumulate(5 + length for length in lengths)), 0
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        while piece:
            count, ended = records.take(piece)
            assert ended == sum(place < end <= place + count for end in ends) <= RECORDS_AT_ONCE
            assert count == len(piece) or ended == RECORDS_AT_ONCE
            place, piece = place + count, piece[count:]
    assert place == len(data)


@pytest.mark.asyncio
async def test_a_damaged_record_ends_it(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    record = bytearray(line.say(b"good") + line.say(b"evil"))
    record[-1] ^= 1
    line.tcp.bring(bytes(record))
    assert protocol.data == b"good"
    assert line.tcp.end == "aborted"
    await turns()
    assert protocol.lost


@pytest.mark.asyncio
async def test_closing_is_said_and_what_still_comes_is_ignored(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "SHUTDOWN_S", 0.01)
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    late = line.say(NOISE)
    line.subject.write(b"goodbye")
    line.subject.pause_reading()
    line.subject.close()
    line.subject.close()
    line.subject.write(b"nobody hears this")
    assert line.read() == b"goodbye"
    assert line.tcp.reading, "else unread bytes would reset the connection"
    line.tcp.bring(late)
    assert not protocol.data
    assert not line.tcp.is_closing()
    while not protocol.lost:  # noqa: ASYNC110  # a peer that does not go
        await asyncio.sleep(0.005)
    assert line.tcp.end == "aborted"


@pytest.mark.parametrize(("written", "waits"), [(250, [250, 150, 50, 0]), (10_000, [10_000, 9_900, 9_800, 9_700])])
@pytest.mark.asyncio
async def test_a_slow_peer_gets_the_end_of_what_was_written(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch, written: int, waits: list[int]
) -> None:
    """One that takes everything and does not go, and one that would go on for ever."""
    monkeypatch.setattr(tls, "SHUTDOWN_S", 0.01)
    monkeypatch.setattr(tls, "SHUTDOWN_TURNS", 4)
    line, protocol = Line(folder, web1), Whole(4096)
    await line.shake(protocol)
    seen = []
    call_later = asyncio.get_running_loop().call_later

    def later(delay: float, callback: Any, *words: Any) -> asyncio.TimerHandle:
        seen.append(line.tcp.unsent)
        line.tcp.unsent = max(0, line.tcp.unsent - 100)  # as much as the peer takes in that time
        return call_later(delay, callback, *words)

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later)
    line.tcp.unsent = written
    line.subject.close()
    while not protocol.lost:  # noqa: ASYNC110  # it is the connection that ends
        await asyncio.sleep(0)
    assert seen == waits
    assert line.tcp.end == "aborted"


@pytest.mark.asyncio
async def test_a_handshake_that_goes_wrong(folder: Path, web1: Papers) -> None:
    line = Line(folder, web1)
    task = asyncio.create_task(line.subject.handshake())
    await asyncio.sleep(0)
    line.tcp.bring(b"\x16\x03\x01\x00\x04abcd")
    with pytest.raises(ssl.SSLError):
        await task
    assert line.tcp.written[:1] == b"\x15", "an alert"
    line = Line(folder, web1)
    task = asyncio.create_task(line.subject.handshake())
    await asyncio.sleep(0)
    assert not line.tcp.protocol.eof_received()
    line.tcp.close()
    with pytest.raises(ConnectionResetError):
        await task
    line = Line(folder, web1)
    line.subject.abort()
    with pytest.raises(ConnectionResetError):
        await line.subject.handshake()


@pytest.mark.asyncio
async def test_flow_of_writing_is_that_of_tcp(folder: Path, web1: Papers) -> None:
    line, protocol = Line(folder, web1), Whole(4096)
    line.subject.pause_writing()  # in the handshake: of no interest to anybody
    line.subject.resume_writing()
    await line.shake(protocol)
    line.subject.pause_writing()
    line.subject.resume_writing()
    assert protocol.said == ["pause", "resume"]
    assert not line.subject.can_write_eof()


def test_one_gulp_serves_all(folder: Path, web1: Papers) -> None:
    async def body() -> None:
        gulp = Gulp()
        pair = [TlsTransport(Tcp(), ingest_server_context(folder), gulp) for _ in range(2)]
        first, second = (subject.get_buffer(-1) for subject in pair)
        assert first is second
        assert len(first) == GULP_BYTES

    assert web1
    asyncio.run(body())
