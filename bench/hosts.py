"""Light hosts: many senders in one process, so that the collector is what is measured and not they.

Each is a host of its own, with a certificate of its own, and delivers one dump by the rules of the protocol core. The
chunks are prepared once and shared; only packing and TLS are done for each.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.process import BenchError
from netdump.client.config import Credentials, Settings
from netdump.client.credentials import client_context
from netdump.client.image import open_image
from netdump.client.ledger import Ledger
from netdump.client.retry import Backoff
from netdump.codec import Compressor
from netdump.pki import Authority
from netdump.pki import Role as CertificateRole
from netdump.pki.certificates import key_pem, new_key
from netdump.pki.request import make_request
from netdump.pki.token import parse_token
from netdump.wire import (
    Ack,
    Connection,
    Defer,
    Finish,
    Headline,
    Hello,
    Message,
    Receipt,
    Resume,
    Role,
    root_digest,
)

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from netdump.wire import Chunk

DUMP_ID_BYTES: Final = 16
READ_BYTES: Final = 1 << 16
BREATH_S: Final = 2.0  # of silence, then it is seen whether a KEEPALIVE is due
RETRIES: Final = Settings()
AGENT: Final = "netdump-bench"
DIALS_AT_ONCE: Final = 6  # the collector lets 8 handshakes of one address be under way


@dataclass(frozen=True, slots=True)
class Cargo:
    """What every host sends. raw: bytes of data of each chunk."""

    size: int
    page_bytes: int
    headline: Headline
    chunks: tuple[Chunk, ...]
    raw: tuple[int, ...]


def load_cargo(core: Path, level: int) -> Cargo:
    """All chunks of a core, compressed at a zstd level; 0: stored."""
    image = open_image(str(core), 1)
    stream = image.stream(0, Compressor(level) if level else None, None)
    chunks, raw = [], []
    while (prepared := stream.take()) is not None:
        chunks.append(prepared.chunk._replace(data=bytes(prepared.chunk.data)))
        raw.append(prepared.raw_bytes)
    stream.close()
    image.close()
    return Cargo(image.size, image.page_bytes, image.headline(), tuple(chunks), tuple(raw))


def make_contexts(folder: Path, count: int) -> list[ssl.SSLContext]:
    """TLS contexts of that many hosts, enrolled with the collector in folder."""
    authority = Authority.load(folder)
    contexts = []
    for number in range(count):
        name = f"light-{number}"
        token = parse_token(authority.make_token(name, CertificateRole.HOST))
        key = new_key()
        issue = authority.redeem(token.secret_text(), make_request(key, name))
        contexts.append(client_context(Credentials(issue.ca, issue.certificate, key_pem(key)), name))
    return contexts


@dataclass(slots=True)
class Journey:
    """How one dump was delivered. Times of time.monotonic. ack_seconds: from a chunk's sending to its ACK.

    began: the crash. admitted: when chunks might be sent for the first time. waits: (from, to) of each connection on
    which chunks had to wait for other dumps. deferred: how often the host was told to come back. attempts: connections,
    those that were refused or cut included.
    """

    dump_id: bytes
    began: float = 0.0
    admitted: float = 0.0
    ended: float = 0.0
    waits: list[tuple[float, float]] = field(default_factory=list)
    deferred: int = 0
    attempts: int = 0
    wire_bytes: int = 0
    ack_seconds: list[float] = field(default_factory=list)


class LightHost:
    """One host with one dump."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext,
        cargo: Cargo,
        dump_id: bytes,
        *,
        rate: float = math.inf,
    ) -> None:
        """address: the collector's. rate: of the host's link, bytes a second."""
        self._address = address
        self._rate = rate
        self._context = context
        self._cargo = cargo
        self._dump_id = dump_id
        self._acked = asyncio.Event()
        self._sent_at: dict[int, float] = {}  # by the image offset that a chunk ends at
        self.journey = Journey(dump_id)

    async def deliver(self, dials: asyncio.Semaphore, deadline: float) -> Journey:
        """Send until there is a receipt, with the client's pauses. Raises TimeoutError at the deadline, seconds of
        time.monotonic.
        """
        self.journey.began = time.monotonic()
        backoff = Backoff(RETRIES.retry_min, RETRIES.retry_max)
        while True:
            self.journey.attempts += 1
            pause = backoff.next_delay()
            with suppress(OSError, EOFError):
                word = await self._attempt(dials)
                if isinstance(word, Receipt):
                    self.journey.ended = time.monotonic()
                    return self.journey
                if isinstance(word, Defer):
                    self.journey.deferred += 1
                    pause = float(word.seconds)
                    backoff.reset()
            if time.monotonic() + pause > deadline:
                raise TimeoutError
            await asyncio.sleep(pause)

    async def _attempt(self, dials: asyncio.Semaphore) -> Message:
        async with dials:
            reader, writer = await asyncio.open_connection(*self._address, ssl=self._context)
        writer.transport.set_write_buffer_limits(high=1 << 21)
        try:
            return await self._talk(reader, writer)
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
        core, cargo = Connection(Role.CLIENT, time.monotonic()), self._cargo
        writer.write(
            core.send(Hello(self._dump_id, cargo.size, cargo.page_bytes, 1, AGENT, 0, False), time.monotonic())
        )
        word = await self._hear(core, reader, writer)
        if not isinstance(word, Resume):
            return word
        if not word.headline:
            writer.write(core.send(cargo.headline, time.monotonic()))
        ledger = Ledger(self._dump_id, cargo.size)
        ledger.resume(word)
        told = time.monotonic()
        sender = asyncio.create_task(self._send(core, writer, ledger, word.offset))
        try:
            return await self._listen(core, reader, writer)
        finally:
            sender.cancel()
            if not word.credit:
                self.journey.waits.append((told, self.journey.admitted or time.monotonic()))

    async def _send(self, core: Connection, writer: asyncio.StreamWriter, ledger: Ledger, start: int) -> None:
        await self._send_chunks(core, writer, ledger, start)
        last = ledger.last
        root = root_digest(last.chain, self._cargo.size, last.chunks)
        writer.write(core.send(Finish(self._cargo.size, last.chunks, root), time.monotonic()))

    async def _send_chunks(self, core: Connection, writer: asyncio.StreamWriter, ledger: Ledger, start: int) -> None:
        for chunk, raw in zip(self._cargo.chunks, self._cargo.raw, strict=True):
            if chunk.offset < start:
                continue
            while not core.may_send(raw):
                self._acked.clear()
                await self._acked.wait()
            self.journey.admitted = self.journey.admitted or time.monotonic()
            await asyncio.sleep(len(chunk.data) / self._rate)
            frame = core.send(chunk, time.monotonic())
            ledger.add(chunk.length, chunk.digest)
            self._sent_at[chunk.offset + chunk.length] = time.monotonic()
            self.journey.wire_bytes += len(frame)
            writer.write(frame)
            await writer.drain()

    async def _listen(self, core: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
        while True:
            word = await self._hear(core, reader, writer)
            if isinstance(word, Ack):
                if word.offset in self._sent_at:
                    self.journey.ack_seconds.append(time.monotonic() - self._sent_at[word.offset])
                self._acked.set()
            else:
                return word

    async def _hear(self, core: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
        """The next message that is not KEEPALIVE. Raises EOFError."""
        while True:
            while (event := core.next_event()) is not None:
                if isinstance(event, Ack | Resume | Receipt | Defer):
                    return event
                if type(event).__name__ != "Keepalive":
                    raise BenchError(f"the collector says {event}")
            try:
                async with asyncio.timeout(BREATH_S):
                    data = await reader.read(READ_BYTES)
            except TimeoutError:
                writer.write(core.on_time(time.monotonic()))
                continue
            if not data:
                raise EOFError
            core.receive_data(data, time.monotonic())
