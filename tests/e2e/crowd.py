"""A crowd at one collector: hosts that send, connections that idle, and peers that mean harm; how the first fare.

All in one loop, from addresses of their own (127.0.0.0/8), against a collector that is another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from netdump import wire
from netdump.errors import ProtocolError
from netdump.pages import PageState, Run
from netdump.pki import Role
from tests.server.rig import issue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from tests.server.rig import Papers

    Visit = Callable[["Crowd", str], Coroutine[None, None, None]]

CHUNK_BYTES: Final = 32_768
CHUNKS_A_SECOND: Final = 4.0  # of each host that sends: twice as much as rate_bytes demands
IMAGE_BYTES: Final = 1 << 40
SLOTS: Final = 2  # dumps of one host that arrive at the same time, by default
IDLE_PER_HOST: Final = 4
AT_ONCE: Final = 16  # of those who idle, on their way in
PAUSE_S: Final = 0.2  # before a peer that was dropped comes again
LAST_ACKS_S: Final = 20.0
SETTLE_S: Final = 600.0
ENDS: Final = (OSError, ssl.SSLError, ProtocolError, asyncio.IncompleteReadError)  # how connections end

_KIND: Final = ContextVar("_KIND", default="")  # of the peer whose task this is


@dataclass
class Report:
    """What was seen. acks: seconds from a chunk to its acknowledgement. failures: of hosts that did nothing wrong.

    dropped: by kind of peer, how often it was sent away. idle: connections that are kept open now.
    """

    acks: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    idle: int = 0
    idle_most: int = 0

    def percentile(self, share: float) -> float:
        """Of the acknowledgements; for ever if there were none."""
        if not self.acks:
            return float("inf")
        ordered = sorted(self.acks)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Line:
    """A TLS connection as a host has it, over the wire core."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.core = wire.Connection(wire.Role.CLIENT, time.monotonic())

    def say(self, message: wire.Message) -> None:
        """Send by the rules."""
        self.writer.write(self.core.send(message, time.monotonic()))

    async def hear(self) -> wire.Message:
        """The next message. Raises ConnectionError at the end."""
        while (message := self.core.next_event()) is None:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionResetError("the collector has closed the connection")
            self.core.receive_data(data, time.monotonic())
        return message

    async def offered(self, name: str) -> wire.Resume:
        """Offer the dump of that name, which must be taken."""
        self.say(wire.Hello(hashlib.sha256(name.encode()).digest()[:16], IMAGE_BYTES, 4096, 0, "crowd"))
        answer = await self.hear()
        if not isinstance(answer, wire.Resume):
            raise ConnectionAbortedError(f"HELLO was answered with {answer}")
        return answer

    async def resumed(self, name: str, log: bytes | None = None) -> wire.Resume:
        """Offer the dump of that name, which must be taken, and send its headline if it is wanted."""
        answer = await self.offered(name)
        if not answer.headline:
            raw = wire.pack_document(wire.HeadlineDocument(log=log, machine="x86_64"))
            self.say(wire.Headline(wire.CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw))
        return answer

    async def gone(self) -> None:
        """Read until the collector has had enough."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class Crowd:
    """Who comes to a collector, all at once."""

    def __init__(self, folder: Path, ingest: str, api: str, first: int = 0) -> None:
        """folder: of the collector, whose authority issues everybody's certificates. first: number of an address."""
        self._first = first
        self.report = Report()
        self.folder = folder
        self.idle_wanted = 0
        self.ingest, self.api = (int(address.rpartition(":")[2]) for address in (ingest, api))
        self.numbers = itertools.count()
        self.visitors: dict[str, str] = {}  # what kind of peer each address was of
        self.door = asyncio.Semaphore(AT_ONCE)
        self._sources = itertools.count()
        self._papers: dict[str, Papers] = {}
        self._over = asyncio.Event()
        self._sending = 0  # good hosts that have begun
        self._settled = asyncio.Event()  # all idle ones are there at once

    async def gather(self, idle: int, active: int, seconds: float, then: Callable[[], None]) -> Report:
        """Let those come that mean no harm, and go after so many seconds of all being there. then: once they are."""
        for name in {f"good-{n // SLOTS}" for n in range(active)} | {f"idle-{n // IDLE_PER_HOST}" for n in range(idle)}:
            self.papers(name)
        self.idle_wanted = idle
        others = [
            asyncio.create_task(self._again("idle", _idle, f"idle-{number // IDLE_PER_HOST}")) for number in range(idle)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S if idle else 0):
                await self._settled.wait()
        hosts = [asyncio.create_task(self._good(number)) for number in range(active)]
        if self.report.idle < idle:
            self.report.failures.append(f"only {self.report.idle} of {idle} idle ones got in within {SETTLE_S} s")
        while self._sending < active and not all(host.done() for host in hosts):
            await asyncio.wait(hosts, timeout=0.1)
        then()
        await asyncio.sleep(seconds)
        self._over.set()
        await asyncio.gather(*hosts)
        await _end(others)
        return self.report

    async def attack(self, kinds: Mapping[str, Visit], count: int, seconds: float) -> Report:
        """Let so many of the others come, of all kinds in turn, and go after so many seconds."""
        tasks = [
            asyncio.create_task(self._again(kind, kinds[kind], f"{kind}-{number}"))
            for number, kind in zip(range(count), itertools.cycle(kinds), strict=False)
        ]
        await asyncio.sleep(seconds)
        self._over.set()
        await _end(tasks)
        return self.report

    def settled(self) -> None:
        """All who idle are there."""
        self._settled.set()

    def papers(self, name: str) -> Papers:
        """The certificate of a host, made when it is first asked for."""
        if name not in self._papers:
            self._papers[name] = issue(self.folder, Role.HOST, name)
        return self._papers[name]

    @contextlib.asynccontextmanager
    async def line(
        self, name: str | None, *, api: bool = False, tls: bool = True, chain: Path | None = None
    ) -> AsyncIterator[Line]:
        """A connection of the host of that name (None: nobody), from an address of its own. chain: of certificates."""
        number = (self._first + next(self._sources)) % 60_000
        address = f"127.1.{number // 250}.{2 + number % 250}"
        self.visitors[address] = _KIND.get()
        context: ssl.SSLContext | None = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.folder / "pki" / "ca.crt")
            context.set_alpn_protocols(["http/1.1" if api else wire.ALPN])
            if name is not None:
                context.load_cert_chain(chain or self.papers(name).file)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.api if api else self.ingest,
            local_addr=(address, 0),
            ssl=context,
            server_hostname="localhost" if tls else None,
        )
        try:
            yield Line(reader, writer)
        finally:
            writer.transport.abort()

    async def _again(self, kind: str, visit: Visit, name: str) -> None:
        """Come, and come again whenever sent away."""
        _KIND.set(kind)
        while not self._over.is_set():
            with contextlib.suppress(*ENDS):
                await visit(self, name)
            self.report.dropped[kind] = self.report.dropped.get(kind, 0) + 1
            await asyncio.sleep(PAUSE_S)

    async def _good(self, number: int) -> None:
        """A host that does nothing wrong: it must never be sent away, and be answered in time."""
        try:
            async with self.line(f"good-{number // SLOTS}") as line:
                answer = await line.resumed(f"good {number}")
                self._sending += 1
                await self._send(line, data_chunks(answer.offset, Random(number)))
        except ENDS as error:
            self.report.failures.append(f"good host {number}: {type(error).__name__}: {error}")

    async def _send(self, line: Line, chunks: Iterator[wire.Chunk]) -> None:
        sent: dict[int, float] = {}
        listening = asyncio.create_task(self._take_acks(line, sent))
        try:
            while not self._over.is_set() and not listening.done():
                if line.core.may_send(CHUNK_BYTES):
                    chunk = next(chunks)
                    sent[chunk.offset + chunk.length] = time.monotonic()
                    line.say(chunk)
                    await line.writer.drain()
                await asyncio.sleep(1 / CHUNKS_A_SECOND)
            until = time.monotonic() + LAST_ACKS_S
            while sent and not listening.done() and time.monotonic() < until:
                await asyncio.wait({listening}, timeout=0.05)
            if listening.done():
                listening.result()
            if sent:
                raise ConnectionError(f"{len(sent)} chunks were never acknowledged")
        finally:
            listening.cancel()

    async def _take_acks(self, line: Line, sent: dict[int, float]) -> None:
        while True:
            message = await line.hear()
            if isinstance(message, wire.Ack):
                now = time.monotonic()
                for end in [end for end in sent if end <= message.offset]:
                    self.report.acks.append(now - sent.pop(end))
            elif not isinstance(message, wire.Keepalive):
                raise ConnectionAbortedError(f"the collector says {message}")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Stop them. What one of them has raised is a mistake of its own, and an attack that was none."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _idle(crowd: Crowd, name: str) -> None:
    """A host that has begun a dump, and from then on only keeps its connection alive."""
    async with contextlib.AsyncExitStack() as stack:
        async with crowd.door:
            line = await stack.enter_async_context(crowd.line(name))
            answer = await line.resumed(f"{name} {next(crowd.numbers)}")
        crowd.report.idle += 1
        crowd.report.idle_most = max(crowd.report.idle_most, crowd.report.idle)
        if crowd.report.idle >= crowd.idle_wanted:
            crowd.settled()
        gone = asyncio.create_task(line.gone())
        try:
            while not gone.done():
                line.say(wire.Keepalive())
                await asyncio.wait({gone}, timeout=answer.keepalive)
        finally:
            gone.cancel()
            crowd.report.idle -= 1


def data_chunks(offset: int, random: Random, size: int = CHUNK_BYTES) -> Iterator[wire.Chunk]:
    """Chunks of data without end. size: of each, bytes."""
    raw = random.randbytes(size)
    table = wire.pack_runs([Run(PageState.DATA, size)])
    while True:
        digest = wire.chunk_digest(offset, size, table, raw)
        yield wire.Chunk(offset, size, table, digest, wire.CodecId.STORED, raw)
        offset += size
