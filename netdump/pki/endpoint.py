"""Where a collector's HTTPS API is, as a URL that people write."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from netdump.errors import BadNameError, ConfigError
from netdump.namedtuple import NamedTuple
from netdump.pki.names import parse_collector_name, printable
from netdump.wire import PORT_API

SCHEME = "https://"

_URL = re.compile(
    r"(?:https://)?(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:/?#@]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)
_LINK_LOCAL = re.compile(r"fe[89ab][0-9a-f]:", re.IGNORECASE)  # RFC 4291 2.5.6; a zone may follow


class Endpoint(NamedTuple):
    """A collector's API. host: domain name in lower case, or IP address without brackets. port: 1 to 65,535."""

    host: str
    port: int = PORT_API

    @property
    def bracketed(self) -> str:
        """The host as it stands before a colon: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        """The URL of the API, without a path."""
        return f"{SCHEME}{self.bracketed}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `https://HOST[:PORT]`, also without the scheme; the port defaults to port_api (7462).

        Raises ConfigError.
        """
        match = _URL.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                f"'{printable(text, 300)}' is not a collector's API: write {SCHEME}HOST:PORT without a path"
            )
        port = PORT_API if match["port"] is None else int(match["port"])
        if _LINK_LOCAL.match(match["bracketed"] or ""):
            raise ConfigError(
                f"'{printable(text, 300)}' is an address of one link only: use a name of the collector, or an address "
                "that is routed"
            )
        try:
            host = parse_collector_name(match["bracketed"] or match["plain"])
        except BadNameError as error:
            raise ConfigError(f"'{printable(text, 300)}' is not a collector's API: {error}") from error
        if isinstance(host, IPv6Address) != (match["bracketed"] is not None) or not 1 <= port <= 65535:
            raise ConfigError(
                f"'{printable(text, 300)}' is not a collector's API: ports are 1 to 65535, and an IPv6 address, "
                "nothing else, stands in brackets"
            )
        return cls(str(host), port)
