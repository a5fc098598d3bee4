"""What the kernel knows of a connection: how fast the network takes what is sent.

Source: tcp(7) TCP_INFO, include/uapi/linux/tcp.h struct tcp_info, net/ipv4/tcp_rate.c.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Options(Protocol):
        """A socket, or what asyncio shows of one."""

        def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
            """getsockopt(2). Raises OSError."""


TCP_INFO_BYTES = 168  # up to and with tcpi_delivery_rate
DELIVERY_RATE_AT = 160
APP_LIMITED_AT = 7  # the byte whose lowest bit is tcpi_delivery_rate_app_limited


class DeliveryRate:
    """Bytes a second that the network was seen to take, read again and again.

    While less was sent than it could take the kernel's figure is a lower bound: it counts only if it is higher than
    the last one. rate: 0.0 where the kernel does not tell. sure: it is no such bound.
    """

    __slots__ = ("_socket", "rate", "sure")

    def __init__(self, connection: Options) -> None:
        self._socket = connection
        self.rate = 0.0
        self.sure = False

    def read(self) -> float:
        """Look again; returns rate."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        except OSError:
            return 0.0
        if len(info) < TCP_INFO_BYTES:  # Linux before 4.9
            return 0.0
        rate = float(int.from_bytes(info[DELIVERY_RATE_AT:TCP_INFO_BYTES], sys.byteorder))
        sure = not info[APP_LIMITED_AT] & 1
        if sure or rate > self.rate:
            self.rate, self.sure = rate, sure
        return self.rate
