"""The kernel's network settings over rtnetlink: reading them, and changing them.

Owns one socket and the layout of the messages. Serves the builder, which reads what the healthy system uses, and the
init, which brings it about again. Errors are OSError. Source: Linux include/uapi/linux/{netlink,rtnetlink,if_link}.h,
rtnetlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIVE_BYTES = 1 << 17
TIMEOUT = 10.0  # seconds; the kernel answers at once

_NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LINK = struct.Struct("=BxHiII")  # family, ARPHRD type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_FAMILY = struct.Struct("=H")  # before the address of a gateway of another family, struct rtvia
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags

_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x100
_NEWLINK, _GETLINK = 16, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _GETROUTE = 24, 26
_NESTED = 0x8000

IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x02, 0x08, 0x40, 0x80
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
_TABLE_MAIN, _PROTOCOL_BOOT, _UNICAST, _ONLINK, _FIB_MATCH = 254, 3, 1, 4, 0x2000
_VIA, _PROTOCOL_ADVERTISED = 18, 9  # RTA_VIA, RTPROT_RA


class LinkState(NamedTuple):
    """An interface as it is. lower, master: indexes, 0 for none. kind: "" for a device, else vlan, bond, bridge…"""

    ifindex: int
    name: str
    mac: str
    permanent_mac: str
    hardware: int
    up: bool
    carrier: bool
    mtu: int
    kind: str
    lower: int
    master: int
    vlan: int


class AddressState(NamedTuple):
    """An address of an interface. permanent: set by hand, not leased or advertised."""

    ifindex: int
    address: str
    prefix: int
    scope: int
    permanent: bool
    tentative: bool

    @property
    def is_routed(self) -> bool:
        """Whether it is good beyond the link: of the whole net or, as fec0::/10, of a site."""
        return self.scope < SCOPE_LINK


class RouteState(NamedTuple):
    """How a destination is reached. gateway, source: "" for none. by_default: by the route for all that has none.

    advertised: by a router, over ICMPv6.
    """

    ifindex: int
    gateway: str
    source: str
    by_default: bool = True
    advertised: bool = False


class Netlink:
    """One conversation with the kernel. Not thread-safe. Every method raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(TIMEOUT)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    # Reading

    def links(self) -> list[LinkState]:
        """All interfaces."""
        return [_read_link(body) for kind, body in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0)) if kind == _NEWLINK]

    def addresses(self) -> list[AddressState]:
        """All addresses, both families."""
        found = self._dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))
        return [_read_address(body) for kind, body in found if kind == _NEWADDR]

    def route_to(self, address: str, index: int = 0) -> RouteState:
        """How the kernel would send to a literal address now. index: of the interface that it must be, 0 for any."""
        family, packed = pack_address(address)
        question = family, len(packed) * 8, 0, 0, 0, 0, 0, 0
        replies = []
        for flags in (0, _FIB_MATCH):  # the second time the route as it stands in the table
            body = _ROUTE.pack(*question, flags) + _attribute(1, packed)
            body += _attribute(4, struct.pack("=i", index)) if index else b""
            replies += [reply for kind, reply in self._request(_GETROUTE, 0, body) if kind == _NEWROUTE][:1]
        if not replies:
            raise OSError(101, os.strerror(101))
        _, bits, _, _, _, protocol, *_ = _ROUTE.unpack_from(replies[-1])
        return _read_route(replies[0])._replace(by_default=bits == 0, advertised=protocol == _PROTOCOL_ADVERTISED)

    # Changing

    def set_up(self, index: int, *, up: bool = True, mtu: int = 0) -> None:
        """Take an interface up or down. mtu: bytes, 0 leaves it."""
        body = _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP)
        self._request(_NEWLINK, _ACK, body + (_attribute(4, struct.pack("=I", mtu)) if mtu else b""))

    def add_link(self, name: str, kind: str, *, lower: int = 0, vlan: int = 0) -> None:
        """Make a virtual interface. kind: vlan (with lower and vlan) or bond."""
        data = _attribute(2 | _NESTED, _attribute(1, struct.pack("=H", vlan))) if vlan else b""
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(3, name.encode() + b"\0")
        body += _attribute(5, struct.pack("=I", lower)) if lower else b""
        body += _attribute(18 | _NESTED, _attribute(1, kind.encode() + b"\0") + data)
        self._request(_NEWLINK, _ACK | _CREATE | _EXCL, body)

    def set_master(self, index: int, master: int) -> None:
        """Put an interface, which must be down, under another one."""
        self._request(_NEWLINK, _ACK, _LINK.pack(0, 0, index, 0, 0) + _attribute(10, struct.pack("=I", master)))

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an address, without duplicate address detection: the dead system had it."""
        family, packed = pack_address(address)
        flags = IFA_F_NODAD if family == socket.AF_INET6 else 0
        body = _ADDRESS.pack(family, prefix, flags, SCOPE_UNIVERSE, index)
        body += _attribute(2, packed) + _attribute(1, packed)
        self._request(_NEWADDR, _ACK | _CREATE | _REPLACE, body)

    def remove_address(self, state: AddressState) -> None:
        """Take an address away."""
        family, packed = pack_address(state.address)
        body = _ADDRESS.pack(family, state.prefix, 0, 0, state.ifindex) + _attribute(2, packed)
        self._request(_DELADDR, _ACK, body)

    def add_route(self, index: int, destination: str, gateway: str) -> None:
        """Add a route. destination: "default" (of IPv4) or ADDRESS/PREFIX. gateway: "" where that is on the link.

        The gateway to an IPv4 destination may have an IPv6 address (RFC 8950).
        """
        family: int = socket.AF_INET
        length, attributes = 0, b""
        if destination != "default":
            address, _, bits = destination.partition("/")
            family, packed = pack_address(address)
            length = int(bits) if bits else len(packed) * 8
            attributes += _attribute(1, packed)
        if gateway:
            other, packed = pack_address(gateway)
            attributes += _attribute(5, packed) if other == family else _attribute(_VIA, _FAMILY.pack(other) + packed)
        attributes += _attribute(4, struct.pack("=i", index))
        scope = SCOPE_UNIVERSE if gateway else SCOPE_LINK
        flags = _ONLINK if gateway else 0  # clouds give a /32 address and a gateway beyond it
        body = _ROUTE.pack(family, length, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, flags)
        self._request(_NEWROUTE, _ACK | _CREATE | _REPLACE, body + attributes)

    # Messages

    def _dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        return self._request(kind, _DUMP, body)

    def _request(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        self._sequence += 1
        length = _NLMSG.size + len(body)
        self._socket.send(_NLMSG.pack(length, kind, flags | _REQUEST, self._sequence, 0) + body)
        replies: list[tuple[int, bytes]] = []
        while True:
            for reply, sequence, content in _messages(self._socket.recv(RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if reply == _ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return replies
                if reply == _DONE:
                    return replies
                replies.append((reply, content))
            if replies and not flags & (_DUMP | _ACK):
                return replies


def pack_address(text: str) -> tuple[int, bytes]:
    """The family and the bytes of a literal address. Raises OSError."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _NLMSG.size <= len(data):
        length, kind, _, sequence, _ = _NLMSG.unpack_from(data, at)
        if length < _NLMSG.size:
            return
        yield kind, sequence, data[at + _NLMSG.size : at + length]
        at += (length + 3) & ~3


def _attribute(kind: int, content: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _number(attributes: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(attributes.get(kind, b""), "little" if struct.pack("=H", 1)[0] else "big")


def _text(attributes: dict[int, bytes], kind: int) -> str:
    return attributes.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _mac(attributes: dict[int, bytes], kind: int) -> str:
    return attributes.get(kind, b"").hex(":")


def _read_link(body: bytes) -> LinkState:
    _, hardware, index, flags, _ = _LINK.unpack_from(body)
    attributes = _attributes(body[_LINK.size :])
    info = _attributes(attributes.get(18, b""))
    vlan = _number(_attributes(info.get(2, b"")), 1) if _text(info, 1) == "vlan" else 0
    return LinkState(
        index,
        _text(attributes, 3),
        _mac(attributes, 1),
        _mac(attributes, 54) or _mac(attributes, 1),
        hardware,
        bool(flags & IFF_UP),
        bool(flags & IFF_LOWER_UP),
        _number(attributes, 4),
        _text(info, 1),
        _number(attributes, 5),
        _number(attributes, 10),
        vlan,
    )


def _read_address(body: bytes) -> AddressState:
    _, prefix, low_flags, scope, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    flags = _number(attributes, 8) | low_flags
    packed = attributes.get(2) or attributes.get(1) or b""
    return AddressState(
        index, _literal(packed), prefix, scope, bool(flags & IFA_F_PERMANENT), bool(flags & IFA_F_TENTATIVE)
    )


def _read_route(body: bytes) -> RouteState:
    attributes = _attributes(body[_ROUTE.size :])
    gateway = attributes.get(5) or attributes.get(_VIA, b"")[_FAMILY.size :]
    return RouteState(_number(attributes, 4), _literal(gateway), _literal(attributes.get(7, b"")))


def _literal(packed: bytes) -> str:
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(packed))
    return socket.inet_ntop(family, packed) if family else ""
