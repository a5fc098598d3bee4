"""Connections: bytes on their way both ways, the client's end as its Link, the collector's as asyncio's transport.

Owns what a network may do to a connection. Bytes arrive when the simulation delivers them; TCP keeps their order
within a connection, nothing keeps it between connections.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from netdump import wire
from netdump.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.client.address import Address
    from tests.simulation.client import SimulatedClient

BUFFER_BYTES = 24_000  # what the kernels at both ends hold of one direction


class Cable:
    """One connection. upward, downward: bytes on their way to the collector, to the client.

    frozen_until: nothing moves before. dead: it never will again, and nobody is told (half-open).
    """

    def __init__(self, host: str, watch: Callable[[Cable, bytes], None]) -> None:
        self.host = host
        self.upward = bytearray()
        self.downward = bytearray()
        self.frozen_until = 0.0
        self.dead = False
        self.reset = False
        self.client_closed = False
        self.collector_closed = False
        self.link: SimulatedLink | None = None
        self.transport = SimulatedTransport(self, watch)
        self.client: SimulatedClient | None = None
        self.tamper: Callable[[bytearray], None] | None = None  # with what is on its way up, once, after RESUME
        self.tamper_down: Callable[[bytearray], None] | None = None  # the same on the way down, RESUME included
        self.deceived = False  # the client has heard what the collector has not said
        self.offset: int | None = None  # where RESUME says that the dump goes on, once the collector has said so
        self._delivered = 0
        self._ends: list[int] | None = [0]  # where the client's messages end, of all it ever sent; None: not known

    def count_sent(self, size: int) -> None:
        """The client sends a message of that size."""
        if self._ends is not None:
            self._ends.append(self._ends[-1] + size)

    def rearrange(self, change: Callable[[list[bytes]], None]) -> bool:
        """Do something to the whole messages that are on their way to the collector. Returns whether there are any."""
        if self._ends is None or self.offset is None:
            return False
        ends = [end - self._delivered for end in self._ends if 0 <= end - self._delivered <= len(self.upward)]
        if len(ends) < 2:
            return False
        messages = [bytes(self.upward[start:end]) for start, end in pairwise(ends)]
        change(messages)
        self.upward[ends[0] : ends[-1]] = b"".join(messages)
        self._ends = None
        return True

    def cut(self) -> None:
        """Both ends learn that the connection is broken; what is on its way is lost."""
        self.reset = True
        self.upward.clear()
        self.downward.clear()

    def moves(self, now: float) -> bool:
        return not self.dead and now >= self.frozen_until

    # What can be done now

    def can_reach_collector(self, now: float) -> bool:
        transport = self.transport
        if transport.lost or not self.moves(now):
            return False
        return self.reset or ((bool(self.upward) or self.client_closed) and not transport.paused)

    def reach_collector(self, size: int) -> int:
        """Deliver up to size bytes, or the end. Returns the bytes delivered."""
        transport = self.transport
        if self.reset:
            transport.lose(ConnectionResetError(104, "Connection reset by peer"))
            return 0
        if self.upward:
            if self.tamper is not None and self.offset is not None:
                self.tamper(self.upward)
                self.tamper = self._ends = None
            data = bytes(self.upward[:size])
            del self.upward[: len(data)]
            self._delivered += len(data)
            transport.deliver(data)
            return len(data)
        transport.end()
        return 0

    def can_reach_client(self, now: float) -> bool:
        link = self.link
        if link is None or link.closed or not self.moves(now):
            return False
        return self.reset or bool(self.downward) or (self.collector_closed and not link.eof)

    def reach_client(self, size: int) -> int:
        link = self.link
        assert link is not None
        if self.reset:
            link.broken = "connection reset"
            return 0
        if self.downward:
            if self.tamper_down is not None:
                self.tamper_down(self.downward)
                self.tamper_down = None
                self.deceived = True
            data = bytes(self.downward[:size])
            del self.downward[: len(data)]
            link.inbox += data
            return len(data)
        link.eof = True
        return 0

    @property
    def over(self) -> bool:
        return self.transport.lost and (self.link is None or self.link.closed)


class SimulatedLink:
    """The client's end: what netdump.client.link.Link is to a session. wait(until): lets the world go on."""

    def __init__(self, address: Address, cable: Cable, wait: Callable[[Callable[[], bool], float], None]) -> None:
        self.address = address
        self.eof = False
        self.sent_bytes = self.sent_records = 0
        self.inbox = bytearray()
        self.broken = ""
        self.closed = False
        self._cable = cable
        self._wait = wait
        self._queue = bytearray()
        cable.link = self

    @property
    def pending(self) -> int:
        return len(self._queue)

    def send(self, data: bytes, more: wire.Buffer = b"") -> None:
        for part in (data, more):
            self._queue += part
        self._cable.count_sent(len(data) + len(more))

    def exchange(self, timeout: float) -> bytes:
        queued = bool(self._queue)
        self._push()
        if not (queued and not self._queue):
            self._wait(self._has_news, max(0.0, timeout))
            self._push()
        received = bytes(self.inbox)
        self.inbox.clear()
        if self.broken and not received:
            raise UnreachableError(f"{self.address}: connection lost ({self.broken})")
        return received

    def blame(self, *, silent: bool = False) -> None:
        """There is one way only."""

    def close(self, farewell: float = 0.0) -> None:
        if not self.closed:
            self._push()
            self.closed = True
            self._cable.client_closed = True

    def _has_news(self) -> bool:
        room = self._queue and not self._cable.reset and len(self._cable.upward) < BUFFER_BYTES
        return bool(self.inbox or self.broken or self.eof or room)

    def _push(self) -> None:
        cable = self._cable
        if self.broken or cable.reset or self.closed:
            return
        room = BUFFER_BYTES - len(cable.upward)
        if room > 0 and self._queue:
            data = self._queue[:room]
            del self._queue[:room]
            cable.upward += data
            self.sent_bytes += len(data)


class SimulatedTransport(asyncio.Transport):
    """The collector's end. watch: sees what the collector says before anybody else can."""

    def __init__(self, cable: Cable, watch: Callable[[Cable, bytes], None]) -> None:
        super().__init__()
        self.lost = False
        self.paused = False
        self._cable = cable
        self._watch = watch
        self._protocol: Any = None
        self._closing = False

    # What the collector calls

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Session(self._cable.host) if name == "ssl_object" else default

    def write(self, data: Any) -> None:
        cable = self._cable
        if self._closing or self.lost or not data:
            return
        self._watch(cable, bytes(data))
        if not cable.reset and not cable.dead:
            cable.downward += data

    def get_write_buffer_size(self) -> int:
        return max(0, len(self._cable.downward) - BUFFER_BYTES)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._cable.collector_closed = True
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        if not self._closing:
            self._cable.cut()
            self.close()

    # What the network does, on the loop

    def deliver(self, data: bytes) -> None:
        while data and not self.lost:
            buffer = self._protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self._protocol.buffer_updated(size)
            data = data[size:]

    def end(self) -> None:
        self._protocol.eof_received()
        self.close()

    def lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self._closing = True
            self._cable.collector_closed = True
            self._protocol.connection_lost(error)


class _Session:
    """What TLS knows of the peer."""

    def __init__(self, host: str) -> None:
        self._host = host

    def selected_alpn_protocol(self) -> str:
        return wire.ALPN

    def getpeercert(self, *, binary_form: bool) -> bytes:
        return self._host.encode()
