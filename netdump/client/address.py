"""Where a collector listens, as an administrator writes it.

Owns the text form of HOST:PORT. Resolving a name is netdump.client.resolve's.
"""

from __future__ import annotations

from netdump.errors import ConfigError
from netdump.namedtuple import NamedTuple
from netdump.wire import PORT_INGEST

HOST_CHARS_MAX = 253  # RFC 1035 2.3.4, without the closing dot
_HOST_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_V6_CHARS = frozenset("0123456789abcdefABCDEF:.")


class Address(NamedTuple):
    """One collector. host: a name or a literal IP address, ASCII, without brackets. port: 1 .. 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``; the port defaults to port_ingest. Raises ConfigError.

    Names must be ASCII (write an international name in its xn-- form): the tables for others cost a megabyte of memory.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        sound = bool(closed) and bool(host) and set(host.partition("%")[0]) <= _V6_CHARS and rest[:1] in {"", ":"}
        port = rest[1:] if rest else str(PORT_INGEST)
    else:
        host, colon, port = text.partition(":")
        sound = bool(host) and set(host) <= _HOST_CHARS
        port = port if colon else str(PORT_INGEST)
    sound = sound and len(host) <= HOST_CHARS_MAX and host.isascii() and host.isprintable()
    if not sound or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        raise ConfigError(f"{text!r} is not a collector's address: write HOST:PORT, or [ADDRESS]:PORT for IPv6")
    return Address(host, int(port))
