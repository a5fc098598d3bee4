"""Hears UDP on an interface that has no address yet.

Owns one packet socket, and the headers before what it hears. The kernel gives a UDP socket only what is sent to all, or
to an address that this machine has; there are DHCP servers and relays that send to the address they offer, whatever
they are asked for. Has the kernel pass over all else that still comes for the dead system, or answers would have no
room beside it. Looks at no checksum: virtual cables leave it to be filled in by a device that there is not. Source:
packet(7), RFC 791, RFC 768, Linux Documentation/networking/filter.rst.
"""

from __future__ import annotations

import socket
import struct
from typing import Self

from netdump.image.init.kernelcalls import attach_filter

ETH_P_IP = 0x0800
HEADERS_BYTES_MAX = 60 + 8  # of IPv4 and UDP
_UDP = 17
_PART = 0x3FFF  # more fragments follow, or others came before


class RawUdp:
    """Opened by the constructor, which raises OSError, as do the others. port: that others send to."""

    def __init__(self, interface: str, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        try:
            attach_filter(self._socket, _program(port))
            self._socket.bind((interface, ETH_P_IP))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def settimeout(self, seconds: float) -> None:
        """For the next recv."""
        self._socket.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """The next datagram, of at most size bytes; empty if it was none for the port. Raises TimeoutError."""
        return udp_content(self._socket.recv(size + HEADERS_BYTES_MAX), self._port)


def udp_content(packet: bytes, port: int) -> bytes:
    """What an IPv4 packet carries to a UDP port; empty if nothing does, or not all of it."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _UDP or int.from_bytes(packet[6:8], "big") & _PART:
        return b""
    datagram = packet[4 * max(5, packet[0] & 15) : int.from_bytes(packet[2:4], "big")]
    if len(datagram) < 8 or int.from_bytes(datagram[2:4], "big") != port:
        return b""
    return datagram[8 : int.from_bytes(datagram[4:6], "big")]


def _program(port: int) -> bytes:
    """As udp_content, for the kernel. Of each step: what, how many steps it passes over if so, if not, a number."""
    steps = (
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 6, _UDP),  # equal?
        (0x28, 0, 0, 6),  # of fragments
        (0x45, 4, 0, _PART),  # any bit?
        (0xB1, 0, 0, 0),  # behind the header
        (0x48, 0, 0, 2),  # the port
        (0x15, 0, 1, port),  # equal?
        (0x06, 0, 0, 0xFFFF),  # all of it
        (0x06, 0, 0, 0),  # none of it
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
