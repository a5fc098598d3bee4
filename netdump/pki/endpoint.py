"""Where a collector's HTTPS API is, as a URL that people write."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from netdump.errors import BadNameError, ConfigError
from netdump.pki.names import parse_collector_name, printable
from netdump.wire import PORT_API

SCHEME = "https://"


@dataclass(frozen=True, slots=True)
class Endpoint:
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
        shown = printable(text, 300)
        rest = text.strip().removesuffix("/")
        if "://" in rest:
            if not rest.lower().startswith(SCHEME):
                raise ConfigError(f"'{shown}' is not a collector's API: its URL begins with {SCHEME}")
            rest = rest[len(SCHEME) :]
        if rest.startswith("["):
            host, _, port = rest[1:].partition("]")
        else:
            host, colon, port = rest.partition(":")
            port = colon + port
        number = port.removeprefix(":") if port else str(PORT_API)
        if (port and not port.startswith(":")) or not (
            number.isascii() and number.isdigit() and 1 <= int(number[:6]) <= 65535
        ):
            raise ConfigError(f"'{shown}' is not a collector's API: write {SCHEME}HOST:PORT without a path")
        try:
            name = parse_collector_name(host)
        except BadNameError as error:
            raise ConfigError(f"'{shown}' is not a collector's API: {error}") from error
        if isinstance(name, IPv6Address) != rest.startswith("["):
            raise ConfigError(
                f"'{shown}' is not a collector's API: put an IPv6 address, and nothing else, into brackets"
            )
        return cls(str(name), int(number))
