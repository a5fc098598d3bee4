"""Hears UDP on an interface that has no address yet.

Owns one packet socket, and the headers before what it hears. The kernel gives a UDP socket only what is sent to all, or
to an address that this machine has; there are DHCP servers and relays that send to the address they offer, whatever
they are asked for. Looks at no checksum: virtual cables leave it to be filled in by a device that there is not. Source:
packet(7), RFC 791, RFC 768.
"""

from __future__ import annotations

import socket
from typing import Self

ETH_P_IP = 0x0800
HEADERS_BYTES_MAX = 60 + 8  # of IPv4 and UDP
_UDP = 17
_PART = 0x3FFF  # more fragments follow, or others came before


class Ear:
    """Opened by the constructor, which raises OSError, as do the others. port: that others send to."""

    def __init__(self, interface: str, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        try:
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
