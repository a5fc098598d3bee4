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
IFA_F_NODAD, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x02, 0x40, 0x80
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
_TABLE_MAIN, _UNICAST, _ONLINK, _FIB_MATCH = 254, 1, 4, 0x2000
_PROTOCOL_BOOT, _PROTOCOL_ADVERTISED = 3, 9  # RTPROT_BOOT, RTPROT_RA

# Attributes, by the kernel's names: of links, of what is in their IFLA_LINKINFO, of addresses, of routes.
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_PERM_ADDRESS = (
    1, 3, 4, 5, 10, 18, 54,
)  # fmt: skip
_INFO_KIND, _INFO_DATA, _VLAN_ID = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_VIA = 1, 4, 5, 7, 18


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
            body = _ROUTE.pack(*question, flags) + _attribute(_RTA_DST, packed)
            body += _attribute(_RTA_OIF, struct.pack("=i", index)) if index else b""
            replies += [reply for kind, reply in self._request(_GETROUTE, 0, body) if kind == _NEWROUTE][:1]
        if not replies:
            raise OSError(101, os.strerror(101))
        _, bits, _, _, _, protocol, *_ = _ROUTE.unpack_from(replies[-1])
        return _read_route(replies[0])._replace(by_default=bits == 0, advertised=protocol == _PROTOCOL_ADVERTISED)

    # Changing

    def set_up(self, index: int, *, up: bool = True, mtu: int = 0) -> None:
        """Take an interface up or down. mtu: bytes, 0 leaves it."""
        body = _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP)
        self._request(_NEWLINK, _ACK, body + (_attribute(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""))

    def add_link(self, name: str, kind: str, *, lower: int = 0, vlan: int = 0) -> None:
        """Make a virtual interface. kind: vlan (with lower and vlan) or bond."""
        data = _attribute(_INFO_DATA | _NESTED, _attribute(_VLAN_ID, struct.pack("=H", vlan))) if vlan else b""
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        body += _attribute(_IFLA_LINK, struct.pack("=I", lower)) if lower else b""
        body += _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, kind.encode() + b"\0") + data)
        self._request(_NEWLINK, _ACK | _CREATE | _EXCL, body)

    def set_master(self, index: int, master: int) -> None:
        """Put an interface, which must be down, under another one."""
        body = _LINK.pack(0, 0, index, 0, 0) + _attribute(_IFLA_MASTER, struct.pack("=I", master))
        self._request(_NEWLINK, _ACK, body)

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an address, without duplicate address detection: the dead system had it."""
        family, packed = pack_address(address)
        flags = IFA_F_NODAD if family == socket.AF_INET6 else 0
        body = _ADDRESS.pack(family, prefix, flags, SCOPE_UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._request(_NEWADDR, _ACK | _CREATE | _REPLACE, body)

    def remove_address(self, state: AddressState) -> None:
        """Take an address away."""
        family, packed = pack_address(state.address)
        body = _ADDRESS.pack(family, state.prefix, 0, 0, state.ifindex) + _attribute(_IFA_LOCAL, packed)
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
            attributes += _attribute(_RTA_DST, packed)
        if gateway:
            other, packed = pack_address(gateway)
            if other == family:
                attributes += _attribute(_RTA_GATEWAY, packed)
            else:
                attributes += _attribute(_RTA_VIA, _FAMILY.pack(other) + packed)
        attributes += _attribute(_RTA_OIF, struct.pack("=i", index))
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
    info = _attributes(attributes.get(_IFLA_LINKINFO, b""))
    kind, mac = _text(info, _INFO_KIND), _mac(attributes, _IFLA_ADDRESS)
    return LinkState(
        ifindex=index,
        name=_text(attributes, _IFLA_IFNAME),
        mac=mac,
        permanent_mac=_mac(attributes, _IFLA_PERM_ADDRESS) or mac,
        hardware=hardware,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        mtu=_number(attributes, _IFLA_MTU),
        kind=kind,
        lower=_number(attributes, _IFLA_LINK),
        master=_number(attributes, _IFLA_MASTER),
        vlan=_number(_attributes(info.get(_INFO_DATA, b"")), _VLAN_ID) if kind == "vlan" else 0,
    )


def _read_address(body: bytes) -> AddressState:
    _, prefix, low_flags, scope, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    flags = _number(attributes, _IFA_FLAGS) | low_flags
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
    return AddressState(
        ifindex=index,
        address=_literal(packed),
        prefix=prefix,
        scope=scope,
        permanent=bool(flags & IFA_F_PERMANENT),
        tentative=bool(flags & IFA_F_TENTATIVE),
    )


def _read_route(body: bytes) -> RouteState:
    attributes = _attributes(body[_ROUTE.size :])
    gateway = attributes.get(_RTA_GATEWAY) or attributes.get(_RTA_VIA, b"")[_FAMILY.size :]
    return RouteState(
        ifindex=_number(attributes, _RTA_OIF),
        gateway=_literal(gateway),
        source=_literal(attributes.get(_RTA_PREFSRC, b"")),
    )


def _literal(packed: bytes) -> str:
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(packed))
    return socket.inet_ntop(family, packed) if family else ""
