"""The door: limits before TLS, deadlines from the first moment, and nothing lost in the hand-over."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.errors import AddressError
from netdump.pki import ingest_server_context
from netdump.server import acceptqueue
from netdump.server.audit import STRANGERS_PER_MINUTE
from netdump.server.config import Address
from netdump.server.gate import Gate, GateLimits
from netdump.server.listener import (
    ACCEPTED_AT_ONCE,
    HANDSHAKE_LEAST_S,
    Listener,
    Visitor,
    address_of,
    bind,
)
from tests.server.rig import PATIENCE_S, Events, Papers, SkippingLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

LIMITS = GateLimits(connections=8, connections_per_source=6, handshakes=5, handshakes_per_source=4)


class Collect(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()

    def data_received(self, data: bytes) -> None:
        self.data += data


class Door:
    """A listener on a loop of this test, and who came through it."""

    def __init__(self, folder: Path, limits: GateLimits, handshake_s: float, host: str) -> None:
        self.events = Events()
        self.visitors: asyncio.Queue[Visitor] = asyncio.Queue()
        self.gate = Gate(limits)
        self.listener = Listener(
            "test",
            ingest_server_context(folder),
            self.gate,
            handshake_s=handshake_s,
            serve=self._serve,
            audit=self.events,
        )
        self.socket = bind(Address(host, 0))
        self.address = address_of(self.socket)

    def _serve(self, visitor: Visitor) -> None:
        self.rest = Collect()
        visitor.transport.set_protocol(self.rest)
        visitor.transport.resume_reading()
        self.visitors.put_nowait(visitor)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A peer's TCP connection; not blocking, for the loop's sock_ methods."""
        sock = socket.create_connection(("127.0.0.1", self.address.port), PATIENCE_S, (source, 0))
        sock.setblocking(False)
        return sock


@asynccontextmanager
async def opened(
    folder: Path, limits: GateLimits = LIMITS, handshake_s: float = 60.0, host: str = "127.0.0.1"
) -> AsyncIterator[Door]:
    door = Door(folder, limits, handshake_s, host)
    await door.listener.open([door.socket])
    try:
        yield door
    finally:
        await door.listener.close()
        while not door.visitors.empty():
            door.visitors.get_nowait().transport.abort()
        await turns()  # for what aborted transports still have to call


def run(body: Callable[[SkippingLoop], Coroutine[None, None, None]]) -> None:
    loop = SkippingLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(body(loop), PATIENCE_S))
    finally:
        loop.close()


async def turns(count: int = 10) -> None:
    """Let the loop turn: whatever is ready gets done."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # what is waited for has no event, on purpose
        await asyncio.sleep(0)


async def is_dropped(sock: socket.socket) -> bool:
    """Wait until the other side has gone; whatever it said before."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(sock, 65536):
            pass
    sock.close()
    return True


class Peer:
    """The client's side of TLS on a socket."""

    def __init__(self, door: Door, context: ssl.SSLContext) -> None:
        self.socket = door.connect()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def shake(self) -> None:
        """Handshake, but for the last bytes to be sent, which are left in outgoing."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(self.socket, self.outgoing.read())
                self.incoming.write(await loop.sock_recv(self.socket, 65536))
            else:
                return


def client_context(folder: Path, papers: Papers | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "pki" / "ca.crt")
    context.set_alpn_protocols([wire.ALPN])
    if papers is not None:
        context.load_cert_chain(papers.file)
    return context


def test_one_too_many_is_reset_before_anything_is_read(folder: Path) -> None:
    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(2, 9, 9, 9)) as door:
            held = [door.connect() for _ in range(2)]
            assert await is_dropped(door.connect())
            assert door.events.all("connection-refused") == [
                {
                    "event": "connection-refused",
                    "service": "test",
                    "peer": "127.0.0.1",
                    "reason": "connections",
                }
            ]
            assert door.gate._strangers.total() == 2
            for sock in held:
                sock.close()

    run(body)


@pytest.mark.parametrize("count", [0, 3, 6])
@pytest.mark.parametrize("trickles", [False, True])
def test_a_handshake_that_does_not_go_on_is_dropped(folder: Path, count: int, trickles: bool) -> None:
    """However many bytes of it have come, and also if another one comes every now and then."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, handshake_s=10.0) as door:
            sock = door.connect()
            sock.send(hello[:count])
            await until(lambda: door.gate._handshakes)
            await turns()
            loop.skipped += 9.0
            await turns()
            if trickles:
                sock.send(hello[count : count + 1])
                await turns()
            assert door.gate._handshakes
            loop.skipped += 1.1
            await turns(50)
            assert not door.gate._handshakes, "its time does not begin anew"
            assert await is_dropped(sock)
            await until(lambda: not door.gate._strangers)
            assert door.events.all("handshake-failed")

    run(body)


def test_strangers_who_hold_places_give_way(folder: Path, web1: Papers) -> None:
    """Every place for handshakes is taken by peers that say nothing; whoever comes gets in all the same."""

    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(16, 16, 3, 4)) as door:
            stuck = [door.connect() for _ in range(3)]
            await until(lambda: len(door.listener._welcomes) == 3)
            peer = Peer(door, client_context(folder, web1))
            await until(lambda: door.listener._accepted)
            await turns(50)
            assert door.listener._accepted, "none of the others has had its second"
            loop.skipped += HANDSHAKE_LEAST_S
            await peer.shake()
            await loop.sock_sendall(peer.socket, peer.outgoing.read())
            visitor = await door.visitors.get()
            assert await is_dropped(stuck[0]), "the oldest"
            assert door.events.all("handshake-failed")[-1]["reason"] == "gave way to others"
            assert door.gate._strangers.total() == 3, "its place is free"
            assert door.gate._handshakes == {"127.0.0.1": 2}
            visitor.transport.abort()
            visitor.leave()
            for sock in (*stuck[1:], peer.socket):
                sock.close()

    run(body)


@pytest.mark.parametrize("limits", [GateLimits(64, 64, 64, 2), GateLimits(64, 64, 2, 64), GateLimits(64, 2, 64, 64)])
def test_a_herd_waits_for_its_turn(folder: Path, web1: Papers, limits: GateLimits) -> None:
    """Whichever of the limits for a moment it meets: nobody is turned away."""

    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, limits) as door:
            peers = [Peer(door, client_context(folder, web1)) for _ in range(12)]
            await until(lambda: len(door.listener._accepted) == 10)

            async def come_in(peer: Peer) -> None:
                await peer.shake()
                await loop.sock_sendall(peer.socket, peer.outgoing.read())

            async def serve() -> None:
                for _ in peers:
                    visitor = await door.visitors.get()
                    visitor.vouch()
                    visitor.transport.abort()
                    visitor.leave()
                    loop.skipped += HANDSHAKE_LEAST_S / len(peers)  # what vouching has made room for is looked at then

            await asyncio.gather(serve(), *map(come_in, peers))
            assert not door.listener._accepted
            assert not door.events.all("connection-refused")
            for peer in peers:
                peer.socket.close()

    run(body)


def test_who_waits_at_the_door_does_not_wait_for_ever(folder: Path, web1: Papers) -> None:
    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 1, 9, 9), handshake_s=10.0) as door:
            first = Peer(door, client_context(folder, web1))
            await first.shake()
            await loop.sock_sendall(first.socket, first.outgoing.read())
            visitor = await door.visitors.get()
            second = door.connect()
            await until(lambda: door.listener._accepted)
            loop.skipped += 9.0
            await turns(50)
            third = door.connect()
            await until(lambda: len(door.listener._accepted) == 2)
            loop.skipped += 1.1
            assert await is_dropped(second)
            assert [each["reason"] for each in door.events.all("connection-refused")] == ["waiting-time"]
            visitor.leave()
            loop.skipped += HANDSHAKE_LEAST_S
            await until(lambda: door.listener._welcomes)
            assert not door.listener._accepted
            loop.skipped += 10.0 - HANDSHAKE_LEAST_S - 1.1 + 0.1
            assert await is_dropped(third), "its time did not begin anew"
            visitor.transport.abort()
            first.socket.close()

    run(body)


def test_too_many_do_not_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptqueue, "WAITING_MOST", 2 * acceptqueue.SOURCE_PART)

    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 9, 9, 1)) as door:
            held = [door.connect() for _ in range(3)]
            await until(lambda: len(door.listener._accepted) == 2)
            assert await is_dropped(door.connect())
            assert [each["reason"] for each in door.events.all("connection-refused")] == ["waiting-connections"]
            for sock in held:
                sock.close()

    run(body)


def test_who_waits_keeps_out_nobody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of two sources do: the limits have room for a third."""
    monkeypatch.setattr(acceptqueue, "WAITING_MOST", 2 * acceptqueue.SOURCE_PART)

    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 9, 3, 1)) as door:
            held = [door.connect(f"127.0.0.{number}") for number in (1, 2) for _ in range(3)]
            await until(lambda: len(door.listener._accepted) == 4)
            held.append(door.connect("127.0.0.3"))
            await until(lambda: door.gate._handshakes["127.0.0.3"])
            assert not door.events.all("connection-refused")
            assert await is_dropped(door.connect("127.0.0.3"))
            assert await is_dropped(door.connect("127.0.0.4"))
            reasons = [each["reason"] for each in door.events.all("connection-refused")]
            assert reasons == ["handshakes-per-source", "handshakes"]
            for sock in held:
                sock.close()

    run(body)


def test_addresses_take_turns(folder: Path) -> None:
    """However many of one wait all the time."""

    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 9, 1, 9)) as door:
            many = [door.connect("127.0.0.1") for _ in range(3)]
            await until(lambda: len(door.listener._accepted) == 2)
            one = door.connect("127.0.0.2")
            await until(lambda: len(door.listener._accepted) == 3)
            many.append(door.connect("127.0.0.1"))
            await until(lambda: len(door.listener._accepted) == 4)
            many.pop(0).close()
            await until(lambda: len(door.listener._accepted) == 3)
            many.pop(0).close()
            await until(lambda: len(door.listener._accepted) == 2)
            assert door.gate._handshakes == {"127.0.0.2": 1}
            for sock in (one, *many):
                sock.close()

    run(body)


def test_nobody_gives_way_for_nothing(folder: Path) -> None:
    """Who waits has as many handshakes under way as it may: another one less does not help it."""

    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 9, 2, 1)) as door:
            socks = [door.connect(source) for source in ("127.0.0.1", "127.0.0.2")]
            await until(lambda: door.gate._handshakes.total() == 2)
            socks.append(door.connect("127.0.0.2"))
            await until(lambda: door.listener._accepted)
            loop.skipped += HANDSHAKE_LEAST_S
            await turns(50)
            assert door.gate._handshakes.total() == 2
            assert not door.events.all("handshake-failed")
            for sock in socks:
                sock.close()

    run(body)


def test_who_waits_is_told_when_all_connections_are_taken(folder: Path, web1: Papers) -> None:
    """That may last: another collector may have room."""

    async def body(loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(2, 9, 9, 1)) as door:
            peers = [Peer(door, client_context(folder, web1)) for _ in range(2)]
            late = door.connect()
            await until(lambda: len(door.listener._accepted) == 2)
            for peer in peers:
                await peer.shake()
                await loop.sock_sendall(peer.socket, peer.outgoing.read())
                (await door.visitors.get()).transport.abort()
            assert await is_dropped(late)
            assert [each["reason"] for each in door.events.all("connection-refused")] == ["connections"]
            for peer in peers:
                peer.socket.close()

    run(body)


def test_garbage_and_strangers_do_not_get_in(folder: Path) -> None:
    async def body(loop: SkippingLoop) -> None:
        async with opened(folder) as door:
            garbage = door.connect()
            garbage.send(b"GET / HTTP/1.0\r\n\r\n" * 100)
            assert await is_dropped(garbage)
            # Without a certificate the client's own handshake ends well in TLS 1.3; the refusal comes behind it.
            stranger = Peer(door, client_context(folder, None))
            await stranger.shake()
            await loop.sock_sendall(stranger.socket, stranger.outgoing.read())
            assert await is_dropped(stranger.socket)
            door.connect().close()  # goes without a word
            await until(lambda: len(door.events.all("handshake-failed")) == 3)
            await until(lambda: not door.gate._strangers)
            assert door.visitors.empty()

    run(body)


def test_what_comes_right_behind_the_handshake_is_handed_over(folder: Path, web1: Papers) -> None:
    async def body(loop: SkippingLoop) -> None:
        async with opened(folder) as door:
            peer = Peer(door, client_context(folder, web1))
            await peer.shake()
            early = bytes(range(256)) * 500
            peer.tls.write(early)
            # The last message of the client's handshake and data, in one piece.
            await loop.sock_sendall(peer.socket, peer.outgoing.read())
            visitor = await door.visitors.get()
            assert visitor.tls.selected_alpn_protocol() == wire.ALPN
            assert visitor.tls.getpeercert(binary_form=True)
            assert visitor.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await until(lambda: len(door.rest.data) >= len(early))
            assert bytes(door.rest.data) == early
            assert door.gate._strangers.total() == 1
            assert not door.gate._handshakes
            visitor.leave()
            visitor.leave()  # does nothing
            assert not door.gate._strangers
            visitor.transport.abort()
            peer.socket.close()

    run(body)


def test_few_connections_are_accepted_at_once(folder: Path) -> None:
    """However many strangers come in one moment, the limit of open files is for those who are let in."""
    places = 4 * ACCEPTED_AT_ONCE

    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(places, places, places, places)) as door:
            peers = [door.connect() for _ in range(places)]  # which the kernel keeps
            counts = [0]
            while counts[-1] < places:
                await asyncio.sleep(0)
                counts.append(len(door.listener._welcomes))
            assert max(after - before for before, after in itertools.pairwise(counts)) <= ACCEPTED_AT_ONCE
            for sock in peers:
                sock.close()

    run(body)


def test_closing_drops_who_is_at_the_door(folder: Path) -> None:
    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(9, 9, 9, 1)) as door:
            socks = [door.connect() for _ in range(3)]
            await until(lambda: door.gate._strangers and len(door.listener._accepted) == 2)
            await door.listener.close()
            for sock in socks:
                assert await is_dropped(sock)
            assert not door.listener._accepted
            assert not door.gate._strangers
            with pytest.raises(ConnectionRefusedError):
                door.connect()

    run(body)


def test_strangers_cannot_fill_the_log(folder: Path) -> None:
    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, GateLimits(1, 1, 1, 1)) as door:
            first = door.connect()
            for _ in range(STRANGERS_PER_MINUTE + 20):
                assert await is_dropped(door.connect())
            assert len(door.events.all("connection-refused")) == STRANGERS_PER_MINUTE
            first.close()

    run(body)


def test_an_ipv4_peer_of_a_socket_for_both_families_is_named_as_one(folder: Path) -> None:
    async def body(_loop: SkippingLoop) -> None:
        async with opened(folder, host="") as door:
            door.connect().close()
            await until(lambda: door.events.all("handshake-failed"))
            assert door.events.all("handshake-failed")[0]["peer"] == "127.0.0.1"

    run(body)


def test_addresses_to_listen_on() -> None:
    with bind(Address("127.0.0.1", 0)) as sock:
        taken = address_of(sock)
        assert taken.port
        with pytest.raises(
            AddressError, match=f"cannot listen on 127.0.0.1:{taken.port}: Address already in use; another"
        ):
            bind(taken)
    with pytest.raises(AddressError, match=r"requested address; this machine has no such address"):
        bind(Address("192.0.2.1", 0))
    for host in ("", "localhost"):
        with bind(Address(host, 0)) as sock:
            socket.create_connection(("127.0.0.1", address_of(sock).port), PATIENCE_S).close()
    with pytest.raises(AddressError):
        bind(Address("no-such-host.invalid", 0))
    with pytest.raises(AddressError):
        bind(Address("x" * 70 + ".example", 0))
