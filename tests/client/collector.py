"""A collector for tests:

the wire core in threads over blocking TLS, with a memory instead of a store, and manners on request.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netdump.client.address import Address
from netdump.codec import decode
from netdump.errors import ProtocolError
from netdump.pages import PageState
from netdump.wire import (
    Ack,
    Chunk,
    Connection,
    Error,
    ErrorCode,
    Finish,
    Headline,
    Hello,
    Keepalive,
    Message,
    Receipt,
    Resume,
    Role,
    State,
    chain_link,
    chain_start,
    chunk_digest,
    raw_bytes,
    root_digest,
    unpack_runs,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

JOIN_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 1.0
POLL = 0.02  # seconds of silence after which what has arrived is acknowledged
MIB = 1 << 20


@dataclass(frozen=True)
class Manners:
    """How one connection is served.

    hang: stop for ever (staying open) at: tcp, tls, hello, resume, headline, chunk:N, finish. mute: hang, but keep
    alive. answer: to HELLO instead of RESUME. retort: sent after so many chunks. alter: the RESUME to send instead.
    credit: if it is 0, retort is sent once the headline is here.
    ack: never if False. slow: KEEPALIVEs that must have come before the first acknowledgement.
    """

    credit: int = 4 * MIB
    keepalive: int = 1
    idle: int = 3
    hang: str = ""
    mute: str = ""
    answer: Message | bytes | None = None
    retort: tuple[int, Message | bytes] | None = None
    alter: Callable[[Resume], Resume] | None = None
    ack: bool = True
    slow: int = 0


@dataclass
class Kept:
    """What the collector has of one dump. Guarded by the collector's lock."""

    image: bytearray
    chain: bytes
    offset: int = 0
    chunks: int = 0
    headline: bytes | None = None
    complete: bool = False
    root: bytes = b""
    remark: str = ""
    states: dict[PageState, int] = field(default_factory=lambda: dict.fromkeys(PageState, 0))


@contextmanager
def unanswered() -> Iterator[Address]:
    """An address whose machine drops what comes: the queue of a listener there is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        host, port = full.getsockname()[:2]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield Address(host, port)


class Hung(Exception):  # noqa: N818 - not an error: the script asked for it
    """The script says: do nothing more."""


class FakeCollector:
    """Serves on 127.0.0.1.

    script: the manners of each connection in turn (after the last: good ones), or a function of its number.
    """

    def __init__(self, context: ssl.SSLContext, script: Sequence[Manners] | Callable[[int], Manners] = ()) -> None:
        self.dumps: dict[bytes, Kept] = {}
        self.hellos: list[Hello] = []
        self.errors: list[str] = []
        self.raw_received = 0
        self.keepalives = 0
        self._context = context
        self._script = script
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._count = 0
        self._newest: dict[bytes, int] = {}
        self._spawn(self._accept)

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()[:2]
        return Address(host, port)

    def stop(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT)
        self._listener.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="fake-collector")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number, self._count = self._count, self._count + 1
            script = self._script
            manners = script(number) if callable(script) else script[number] if number < len(script) else Manners()
            self._spawn(self._serve, connection, manners, number)

    def _serve(self, raw: socket.socket, manners: Manners, number: int) -> None:
        with raw:
            try:
                self._hang("tcp", manners)
                raw.settimeout(HANDSHAKE_TIMEOUT)
                with self._context.wrap_socket(raw, server_side=True) as tls:
                    try:
                        self._hang("tls", manners)
                        _Service(self, tls, manners, number).run()
                        _drain(tls)
                    except Hung:
                        self._stopping.wait()
            except Hung:
                self._stopping.wait()
            except ProtocolError as error:
                self.errors.append(str(error))
            except OSError:
                pass  # cut

    def _hang(self, place: str, manners: Manners) -> None:
        if manners.hang == place:
            raise Hung

    def kept(self, hello: Hello, number: int) -> Kept:
        """What there is of a dump; the newest connection fences the older ones."""
        with self._lock:
            self.hellos.append(hello)
            self._newest[hello.dump_id] = number
            start = chain_start(hello.dump_id, hello.image_bytes)
            return self.dumps.setdefault(hello.dump_id, Kept(bytearray(hello.image_bytes), start))

    def only(self) -> Kept:
        (kept,) = self.dumps.values()
        return kept

    def store(self, kept: Kept, chunk: Chunk, dump_id: bytes, number: int) -> bool:
        """Verify and keep a chunk. Returns False if a newer connection has taken over."""
        runs = unpack_runs(chunk.table, chunk.offset, chunk.length)
        raw = decode(chunk.codec, chunk.data, raw_bytes(runs))
        assert chunk_digest(chunk.offset, chunk.length, chunk.table, raw) == chunk.digest
        with self._lock:
            if self._newest[dump_id] != number:
                return False
            self.raw_received += len(raw)
            place, taken = chunk.offset, 0
            for run in runs:
                if run.state is PageState.DATA:
                    kept.image[place : place + run.length] = raw[taken : taken + run.length]
                    taken += run.length
                elif run.state is PageState.ALIAS:
                    kept.image[place : place + run.length] = kept.image[run.source : run.source + run.length]
                else:
                    kept.image[place : place + run.length] = bytes(run.length)
                kept.states[run.state] += run.length
                place += run.length
            kept.offset = place
            kept.chain = chain_link(kept.chain, chunk.digest)
            kept.chunks += 1
        return True


def _drain(tls: ssl.SSLSocket) -> None:
    """Close as a collector should: unread bytes at a close make a reset, which destroys the last word on its way."""
    tls.shutdown(socket.SHUT_WR)
    tls.settimeout(2)
    while tls.recv(1 << 16):
        pass


class _Service:
    """One connection."""

    def __init__(self, collector: FakeCollector, tls: ssl.SSLSocket, manners: Manners, number: int) -> None:
        self._collector = collector
        self._tls = tls
        self._manners = manners
        self._number = number
        self._core = Connection(Role.COLLECTOR, time.monotonic())
        self._kept: Kept | None = None
        self._hello: Hello | None = None
        self._muted = False
        self._chunks = 0

    def run(self) -> None:
        self._tls.settimeout(POLL)
        while self._core.state is not State.CLOSED:
            if self._collector._stopping.is_set():
                return
            try:
                data = self._tls.recv(1 << 16)
                if not data:
                    return
                if self._muted:
                    continue  # not fed: the account of the core may go no further
                self._core.receive_data(data, time.monotonic())
                while (event := self._core.next_event()) is not None:
                    self._handle(event)
            except TimeoutError:
                self._acknowledge()
            self._write(self._on_time())

    def _on_time(self) -> bytes:
        now = time.monotonic()
        if self._muted:
            return self._keep_alive(now)
        return self._core.on_time(now)

    def _keep_alive(self, now: float) -> bytes:
        """While muted nothing is received, but the core must believe that the client is alive."""
        timer = self._core.next_timer()
        return self._core.send(Keepalive(), now) if timer is not None and now >= timer else b""

    def _send(self, message: Message) -> None:
        self._write(self._core.send(message, time.monotonic()))

    def _say(self, word: Message | bytes) -> None:
        """Send a message, or any bytes as they are."""
        if isinstance(word, bytes):
            self._write(word)
        else:
            self._send(word)

    def _write(self, data: bytes) -> None:
        if data:
            self._tls.settimeout(5)
            self._tls.sendall(data)
            self._tls.settimeout(POLL)

    def _at(self, place: str) -> None:
        if self._manners.hang == place:
            raise Hung
        if self._manners.mute == place:
            self._muted = True

    def _handle(self, event: Message) -> None:
        if self._muted:
            return
        match event:
            case Hello():
                self._open(event)
            case Headline():
                self._at("headline")
                assert self._kept
                raw = decode(event.codec, event.body, event.raw_bytes, 8 * MIB)
                assert hashlib.sha256(raw).digest() == event.digest
                self._kept.headline = bytes(raw)
                self._call()
            case Chunk():
                self._chunk(event)
            case Finish():
                self._finish(event)
            case Keepalive():
                self._collector.keepalives += 1
            case Error():
                self._collector.errors.append(f"client: {event.code.slug}: {event.text}")
            case _:
                pass

    def _open(self, hello: Hello) -> None:
        self._at("hello")
        if self._muted:
            return
        if self._manners.answer:
            self._say(self._manners.answer)
            return
        self._hello = hello
        self._kept = kept = self._collector.kept(hello, self._number)
        if kept.complete:
            self._send(Receipt(kept.root, b"signed"))
            return
        resume = Resume(
            kept.offset,
            kept.chain,
            kept.chunks,
            kept.headline is not None,
            self._manners.credit,
            self._manners.keepalive,
            self._manners.idle,
        )
        self._send(self._manners.alter(resume) if self._manners.alter else resume)
        self._at("resume")
        if kept.headline is not None:
            self._call()

    def _call(self) -> None:
        """The headline is here: say whether chunks may come, if that was left open."""
        if not self._manners.credit and self._manners.retort:
            self._say(self._manners.retort[1])

    def _chunk(self, chunk: Chunk) -> None:
        assert self._kept
        assert self._hello
        self._at(f"chunk:{self._chunks}")
        if self._muted:
            return
        self._chunks += 1
        if not self._collector.store(self._kept, chunk, self._hello.dump_id, self._number):
            raise Hung  # fenced
        if self._core.unacked_cost >= self._core.credit // 2:
            self._acknowledge()
        if self._manners.retort and self._chunks == self._manners.retort[0]:
            self._acknowledge()
            self._say(self._manners.retort[1])

    def _acknowledge(self) -> None:
        willing = self._kept and self._manners.ack and not self._muted and self._core.state is State.STREAMING
        if self._collector.keepalives < self._manners.slow:
            return
        if willing and self._core.acked_offset < self._core.sent_offset:
            self._send(Ack(self._core.sent_offset))

    def _finish(self, finish: Finish) -> None:
        assert self._kept
        self._at("finish")
        if self._muted:
            return
        root = root_digest(self._kept.chain, finish.image_bytes, finish.chunks)
        if root != finish.root:
            self._send(Error(ErrorCode.BAD_ROOT))
            return
        self._kept.complete, self._kept.root, self._kept.remark = True, root, finish.remark
        self._send(Receipt(root, b"signed"))
