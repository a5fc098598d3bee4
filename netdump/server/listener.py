"""Taking connections in: limits before TLS, TLS under a deadline, then over to whoever serves them.

A connection that is one too many is reset before a byte of it is read; where only handshakes are too many for a moment
it waits in a queue (acceptqueue.py). The handshake's deadline runs from the connection's first moment. Where
handshakes are too many in total, the oldest gives way, if it has had time enough: strangers who only hold places keep
nobody out. What is spoken after the handshake is none of this module's business.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, cast

from netdump.errors import AddressError
from netdump.namedtuple import NamedTuple
from netdump.server.acceptqueue import AcceptQueue, Pending
from netdump.server.audit import Rationed
from netdump.server.config import Address
from netdump.server.ratelimit import source_of
from netdump.server.tls import Gulp, TlsTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from netdump.server.audit import Audit
    from netdump.server.gate import Gate

BACKLOG = 256
ACCEPTED_AT_ONCE = 16  # each takes a file descriptor until it is admitted or dropped, in the next turn of the loop
CLOSING_TURNS = 5  # of the loop, until asyncio has brought a connection that it was accepting, and dropped one
HANDSHAKE_LEAST_S = 1.0  # that every handshake has, however many others wait


class Visitor:
    """A connection with TLS established, its reading paused. Who takes it over calls `leave` when it is lost."""

    __slots__ = ("_gate", "_source", "address", "transport")

    def __init__(self, transport: asyncio.Transport, address: str, source: str, gate: Gate) -> None:
        self.transport = transport
        self.address = address
        self._source: str | None = source
        self._gate: Gate | None = gate

    @property
    def tls(self) -> ssl.SSLObject:
        """The session: the peer's certificate and the protocol agreed on."""
        return cast("ssl.SSLObject", self.transport.get_extra_info("ssl_object"))

    def vouch(self) -> None:
        """Who this is is known, and limited by name: its address does not matter any more. To be called once."""
        assert self._gate is not None
        assert self._source is not None
        self._gate.vouch(self._source)
        self._source = None

    def leave(self) -> None:
        """Give the place back. Further calls do nothing."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self._source)


class _Arriving(NamedTuple):
    """A TCP connection in its handshake, since a moment of the loop's clock."""

    transport: TlsTransport
    address: str
    source: str
    since: float


class _Knock(asyncio.Protocol):
    """A TCP connection that has not begun TLS: nothing is read from it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)  # by what it does: that of uvloop is not one by descent
        tcp.pause_reading()
        self._listener.admit(tcp)


class Listener:
    """One TLS service on any number of sockets.

    serve(visitor) is called on the loop for each connection that got through; it must not block.
    """

    def __init__(
        self,
        name: str,
        context: ssl.SSLContext,
        gate: Gate,
        *,
        handshake_s: float,
        serve: Callable[[Visitor], None],
        audit: Audit,
    ) -> None:
        self._name = name
        self._context = context
        self._gate = gate
        self._handshake_s = handshake_s
        self._serve = serve
        self._strangers = Rationed(audit, clock=asyncio.get_running_loop().time)
        self._closed = False
        self._servers: list[asyncio.Server] = []
        self._accepted = AcceptQueue()
        self._next_look: asyncio.TimerHandle | None = None
        # In the order of arrival. Who gives way is taken out before its task has ended.
        self._welcomes: dict[asyncio.Task[bool], _Arriving] = {}
        self._evicted: set[asyncio.Task[bool]] = set()
        self._gulp = Gulp()

    def show(self, context: ssl.SSLContext) -> None:
        """Shake hands in this context from now on; connections that there are stay as they are."""
        self._context = context

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Start to accept. The sockets are the listener's from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            # asyncio accepts as many at once as it lets the kernel keep: those are two things.
            server = await loop.create_server(lambda: _Knock(self), sock=sock, backlog=ACCEPTED_AT_ONCE)
            self._servers.append(server)
            sock.listen(BACKLOG)

    async def close(self) -> None:
        """Accept no more, and drop those who wait for their handshake or are still in it."""
        self._closed = True
        if self._next_look is not None:
            self._next_look.cancel()
        while firsts := self._accepted.firsts():
            for pending in firsts:
                self._dismiss(pending)
        for server in self._servers:
            server.close()
        for task in self._welcomes:
            task.cancel()
        await asyncio.gather(*self._welcomes, *self._evicted, return_exceptions=True)
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)

    def admit(self, transport: asyncio.Transport) -> None:
        """Decide on a TCP connection that was just accepted."""
        if self._closed:
            transport.abort()
            return
        address, loop = _peer_address(transport), asyncio.get_running_loop()
        pending = Pending(transport, address, source_of(address), loop.time())
        if self._accepted.add(pending):
            pending.timer = loop.call_later(self._handshake_s, self._give_up, pending)
            self._look()
        elif self._accepted.has(pending.source):
            self._refuse(pending, "waiting-connections")
        # The queue is full of others, who keep nobody out that the limits let in.
        elif reason := self._ask(pending.source):
            self._refuse(pending, reason)
        else:
            self._welcome(pending)

    def _ask(self, source: str) -> str | None:
        """As Gate.enter. A handshake that has had its time gives way."""
        reason = self._gate.enter(source)
        if reason == "handshakes" and self._make_way():
            reason = self._gate.enter(source)
        return reason

    def _look(self) -> None:
        """Let in who waits, as far as the limits allow."""
        while self._let_in():
            pass
        if self._accepted and self._next_look is None:
            # For what no handshake's end tells of: one that has had its time, a stranger that has gone.
            self._next_look = asyncio.get_running_loop().call_later(HANDSHAKE_LEAST_S, self._look_again)

    def _look_again(self) -> None:
        self._next_look = None
        self._look()

    def _let_in(self) -> bool:
        """Of each source who came first. Returns whether anybody waits no longer."""
        is_news = False
        for pending in self._accepted.firsts():
            reason = self._ask(pending.source)
            if reason == "handshakes":
                return False
            if reason is None:
                self._accepted.serve(pending)
                self._welcome(pending)
                is_news = True
            elif reason == "connections":  # which may last; another collector may have room
                self._dismiss(pending)
                self._complain("connection-refused", pending.address, reason)
                is_news = True
        return is_news

    def _welcome(self, pending: Pending) -> None:
        """Begin the handshake of one that the gate has let in."""
        pending.end_wait()
        transport, loop = pending.transport, asyncio.get_running_loop()
        # asyncio does it only for sockets made with IPPROTO_TCP, which listening ones seldom are. Without it a write
        # behind another waits 40 ms for the peer's delayed acknowledgement: ACKs of chunks, bodies behind HTTP heads.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = TlsTransport(transport, self._context, self._gulp)
        task = asyncio.create_task(self._shake_hands(tls, pending))
        self._welcomes[task] = _Arriving(tls, pending.address, pending.source, loop.time())
        # A callback, for a task that is cancelled before it began never runs a line of its own.
        task.add_done_callback(self._welcomed)

    def _dismiss(self, pending: Pending) -> None:
        """Out of the queue."""
        self._accepted.remove(pending)
        pending.end_wait()
        pending.transport.abort()

    def _give_up(self, pending: Pending) -> None:
        """One has waited for as long as a handshake may take."""
        self._dismiss(pending)
        self._complain("connection-refused", pending.address, "waiting-time")

    def _refuse(self, pending: Pending, reason: str) -> None:
        self._complain("connection-refused", pending.address, reason)
        pending.transport.abort()

    def _make_way(self) -> bool:
        """Give up the oldest handshake, if it has had HANDSHAKE_LEAST_S."""
        task, arriving = next(iter(self._welcomes.items()))
        if asyncio.get_running_loop().time() < arriving.since + HANDSHAKE_LEAST_S or task.done():
            return False
        self._complain("handshake-failed", arriving.address, "gave way to others")
        del self._welcomes[task]
        self._evicted.add(task)
        task.cancel()
        arriving.transport.abort()
        self._gate.shaken(arriving.source)
        self._gate.leave(arriving.source)
        return True

    async def _shake_hands(self, transport: TlsTransport, pending: Pending) -> bool:
        """Returns whether it went well."""
        try:
            async with asyncio.timeout_at(pending.since + self._handshake_s):
                await transport.handshake()
        except TimeoutError:
            self._complain("handshake-failed", pending.address, f"no end of it within {self._handshake_s:g} s")
        except OSError as error:
            self._complain("handshake-failed", pending.address, str(error) or type(error).__name__)
        else:
            return True
        return False

    def _welcomed(self, task: asyncio.Task[bool]) -> None:
        """A handshake is over, well or not."""
        if task in self._evicted:
            self._evicted.discard(task)
            return
        arriving = self._welcomes.pop(task)
        self._gate.shaken(arriving.source)
        # Lost also in the very turn in which the handshake ended.
        if task.cancelled() or not task.result() or arriving.transport.is_closing():
            arriving.transport.abort()
            self._gate.leave(arriving.source)
        else:
            self._serve(Visitor(arriving.transport, arriving.address, arriving.source, self._gate))
        self._look()

    def _complain(self, event: str, address: str, reason: str) -> None:
        self._strangers(event, service=self._name, peer=address, reason=reason)


def _peer_address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    # None when the peer went away before it was looked at.
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    # A socket for both families gives an IPv4 peer as ::ffff:192.0.2.1: nobody looks for that in a log.
    return address.removeprefix("::ffff:") if "." in address else address


_REMEDIES = {
    errno.EADDRINUSE: "another program listens there (`ss -ltnp` says which): stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address: correct `listen` in the settings, or --ingest or --api",
    errno.EACCES: "ports below 1024 are for root: choose another one",
}


def bind(address: Address) -> socket.socket:
    """Open a listening socket. Raises AddressError."""
    try:
        if not address.host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        family, _, _, _, where = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(where[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _REMEDIES:  # what `socket` adds to the system's word is the address once more
            raise AddressError(f"cannot listen on {address}: {os.strerror(number)}; {_REMEDIES[number]}") from error
        reason = getattr(error, "strerror", None) or error
        raise AddressError(
            f"cannot listen on {address}: {reason}; correct `listen` in the settings, or --ingest or --api"
        ) from error


def address_of(sock: socket.socket) -> Address:
    """The address and port that a socket really listens on."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)
