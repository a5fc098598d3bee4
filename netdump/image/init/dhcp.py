"""A DHCP client for one address: asks for a lease, and later for more of it.

Owns the messages (RFC 2131, RFC 2132) and one exchange on one interface. What a server says is checked: lengths,
transaction, hardware address, times. Sets nothing up and keeps nothing; the caller does.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from netdump.image.init.plan import Route
from netdump.image.init.rawudp import RawUdp
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from netdump.image.init.lease import HeldLease

SERVER_PORT, CLIENT_PORT = 67, 68
MESSAGE_BYTES_MAX = 1500
SERVERS_MAX = 3  # resolv.conf takes no more
ROUTES_MAX = 32
WAIT_MIN, WAIT_MAX = 1.0, 8.0  # seconds for an answer; doubles
LEASE_SECONDS_MIN = 60  # shorter ones are taken for that long
BROADCAST = "255.255.255.255"

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST_FLAG = 0x8000  # for who has no address yet
_FOR_EVER = 0xFFFFFFFF
_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6
_MASK, _ROUTER, _SERVERS, _WISH, _SECONDS, _TYPE, _SERVER, _PARAMETERS, _HALF_TIME, _STATIC_ROUTES = (
    1, 3, 6, 50, 51, 53, 54, 55, 58, 121,
)  # fmt: skip


class Lease(NamedTuple):
    """What a server grants.

    prefix: bits. servers: name servers. server: who grants it, "" if it does not say. seconds: None for ever, else
    LEASE_SECONDS_MIN or more. half_time: seconds until it wants renewing, within the former.
    """

    address: str
    prefix: int
    routes: tuple[Route, ...]
    servers: tuple[str, ...]
    server: str = ""
    seconds: int | None = None
    half_time: int = 0


class LeaseLostError(Exception):
    """The server does not grant this address any longer."""


class Reply(NamedTuple):
    """A message from a server. type: of DHCP. server: its identifier, 4 bytes or empty."""

    type: int
    address: bytes
    server: bytes
    lease: Lease


def obtain_lease(interface: str, mac: str, deadline: float) -> Lease | None:
    """Ask on an interface that is up until deadline (of time.monotonic). None if no server grants anything.

    Raises OSError if the interface cannot be used.
    """
    transaction, hardware = _transaction(), _hardware(mac)
    started = time.monotonic()
    with _open_link(interface) as link, _open_receiver(interface, link) as receiver:
        wait = WAIT_MIN
        while (now := time.monotonic()) < deadline:
            until = min(deadline, now + wait)
            wait = min(WAIT_MAX, 2 * wait)
            asking = int(now - started)
            _send(link, pack_message(_DISCOVER, transaction, hardware, asking=asking))
            offer = _receive(receiver, transaction, hardware, (_OFFER,), until)
            if offer is None:
                continue
            _send(link, pack_message(_REQUEST, transaction, hardware, offer.address, offer.server, asking=asking))
            answer = _receive(receiver, transaction, hardware, (_ACK, _NAK), min(deadline, time.monotonic() + wait))
            if answer is not None and answer.type == _ACK:
                return answer.lease
            if answer is not None:  # refused, by who may refuse everything: not at once again, for all hear it
                time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
    return None


def renew_lease(lease: HeldLease, deadline: float) -> Lease | None:
    """Ask for more of a lease until deadline: the server that granted it, and then all. None if nobody answers.

    The address must be set up. Raises LeaseLostError, and OSError if the interface cannot be used.
    """
    transaction, hardware = _transaction(), _hardware(lease.mac)
    message = pack_message(_REQUEST, transaction, hardware, address=socket.inet_aton(lease.address))
    with _open_link(lease.interface) as link:
        wait = WAIT_MIN
        for target in (lease.server, lease.server, BROADCAST, BROADCAST, BROADCAST):
            until = min(deadline, time.monotonic() + wait)
            wait = min(WAIT_MAX, 2 * wait)
            try:
                link.sendto(message, (target, SERVER_PORT))
            except OSError:
                if target == BROADCAST:
                    raise
                continue  # there is no way to this server; there may be another one
            answer = _receive(link, transaction, hardware, (_ACK, _NAK), until)
            if answer is not None and answer.type == _NAK:
                raise LeaseLostError
            if answer is not None and answer.lease.address == lease.address:
                return answer.lease
    return None


def pack_message(
    kind: int, transaction: int, hardware: bytes, wish: bytes = b"", server: bytes = b"", *, address: bytes = b"",
    asking: int = 0,
) -> bytes:  # fmt: skip
    """A message to servers. hardware: 6 bytes. wish: the address that was offered, by server. address: that we have.

    asking: for how many seconds by now. Of two servers that share their clients each serves those of the other one
    only when they have been asking for some (RFC 3074 section 5).
    """
    flags = 0 if address else _BROADCAST_FLAG
    head = _HEAD.pack(
        1, 1, len(hardware), 0, transaction, asking, flags, address, b"", b"", b"", hardware, b"", b"", _COOKIE
    )
    options = bytes((_TYPE, 1, kind))
    options += bytes((_PARAMETERS, 6, _MASK, _ROUTER, _SERVERS, _SECONDS, _HALF_TIME, _STATIC_ROUTES))
    options += bytes((_WISH, 4)) + wish if wish else b""
    options += bytes((_SERVER, 4)) + server if server else b""
    return (head + options + b"\xff").ljust(300, b"\0")  # BOOTP relays drop shorter ones


def parse_message(data: bytes, transaction: int, hardware: bytes) -> Reply | None:
    """Read what came in; None if it is not a sound answer to us."""
    if len(data) < _HEAD.size:
        return None
    fields = _HEAD.unpack_from(data)
    if fields[0] != 2 or fields[4] != transaction or fields[11][: len(hardware)] != hardware or fields[14] != _COOKIE:
        return None
    options = _options(data[_HEAD.size :])
    kind, mask, address = options.get(_TYPE, b""), options.get(_MASK, b"\xff\xff\xff\0"), fields[8]
    if len(kind) != 1 or len(mask) != 4 or (kind[0] != _NAK and not any(address)):
        return None
    server = options.get(_SERVER, b"")[:4]
    seconds = _seconds(options.get(_SECONDS, b""))
    lease = Lease(
        socket.inet_ntoa(address),
        int.from_bytes(mask, "big").bit_count(),
        _routes(options),
        tuple(_addresses(options.get(_SERVERS, b""))[:SERVERS_MAX]),
        socket.inet_ntoa(server) if len(server) == 4 else "",
        seconds,
        _half_time(options.get(_HALF_TIME, b""), seconds),
    )
    return Reply(kind[0], address, server, lease)


def _transaction() -> int:
    return int.from_bytes(os.urandom(4), "big")


def _hardware(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _open_link(interface: str) -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        link.bind(("", CLIENT_PORT))
    except OSError:
        link.close()
        raise
    return link


def _open_receiver(interface: str, link: socket.socket) -> AbstractContextManager[RawUdp | socket.socket]:
    """What hears answers while there is no address: link itself, if this kernel has nothing better."""
    try:
        return RawUdp(interface, CLIENT_PORT)
    except OSError:
        return nullcontext(link)


def _send(link: socket.socket, message: bytes) -> None:
    link.sendto(message, (BROADCAST, SERVER_PORT))


def _receive(
    link: RawUdp | socket.socket, transaction: int, hardware: bytes, kinds: tuple[int, ...], until: float
) -> Reply | None:
    while (left := until - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            reply = parse_message(link.recv(MESSAGE_BYTES_MAX), transaction, hardware)
        except TimeoutError:
            return None
        if reply is not None and reply.type in kinds:
            return reply
    return None


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        length = data[at + 1]
        found[data[at]] = found.get(data[at], b"") + data[at + 2 : at + 2 + length]  # RFC 3396: long ones are split
        at += 2 + length
    return found


def _seconds(data: bytes) -> int | None:
    """How long a lease lasts; None for ever, which is also what a server means that does not say (BOOTP)."""
    seconds = int.from_bytes(data, "big") if len(data) == 4 else _FOR_EVER
    return None if seconds == _FOR_EVER else max(LEASE_SECONDS_MIN, seconds)


def _half_time(data: bytes, seconds: int | None) -> int:
    """After how many seconds a lease wants renewing: as the server says, or at its half (RFC 2131 section 4.4.5)."""
    if seconds is None:
        return 0
    told = int.from_bytes(data, "big") if len(data) == 4 else 0
    return told if LEASE_SECONDS_MIN // 2 <= told < seconds else seconds // 2


def _routes(options: dict[int, bytes]) -> tuple[Route, ...]:
    """Classless routes (RFC 3442) as far as they make sense, else the one to the first router."""
    data = options.get(_STATIC_ROUTES, b"")
    found: list[Route] = []
    at = 0
    while at < len(data) and data[at] <= 32 and len(found) < ROUTES_MAX:
        bits, used = data[at], (data[at] + 7) // 8
        network, router = data[at + 1 : at + 1 + used], data[at + 1 + used : at + 5 + used]
        if len(router) < 4:
            break
        beyond = 32 - bits  # which some servers do not leave zero
        number = int.from_bytes(network.ljust(4, b"\0"), "big") >> beyond << beyond
        destination = f"{socket.inet_ntoa(number.to_bytes(4, 'big'))}/{bits}" if bits else "default"
        found.append(Route(destination, socket.inet_ntoa(router) if any(router) else ""))
        at += 5 + used
    if not found:
        found += [Route("default", router) for router in _addresses(options.get(_ROUTER, b""))[:1]]
    return tuple(found)


def _addresses(data: bytes) -> list[str]:
    return [socket.inet_ntoa(data[at : at + 4]) for at in range(0, len(data) - 3, 4)]
