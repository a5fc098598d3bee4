"""Names to addresses, within a time limit, and what a run has seen of these addresses.

getaddrinfo has no timeout of its own and may hang as long as its servers do, so it runs in a daemon thread that is
left behind when time is up. Owns those threads: never more than one per name, because a hanging one is waited for
again instead of being joined by another. Where no thread can be started, the name is looked up without a limit but
the watchdog's: a dump that comes late is better than none.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from netdump.errors import UnreachableError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from netdump.client.address import Address

ENDPOINTS_MAX = 8  # addresses of one name that are tried
KNOWN_SECONDS = 2.0  # for a name whose addresses are known: they are likely to be the same still


class Endpoint(NamedTuple):
    """One socket address. family: AF_INET or AF_INET6. address: as socket.connect takes it."""

    family: int
    address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

    def __str__(self) -> str:
        return str(self.address[0])


class _Lookup:
    """One getaddrinfo in its thread. Written by the thread before `done` is set, read after."""

    __slots__ = ("done", "endpoints", "error")

    def __init__(self, address: Address) -> None:
        self.done = threading.Event()
        self.endpoints: list[Endpoint] = []
        self.error: OSError | None = None
        try:
            threading.Thread(target=self._run, args=(address,), daemon=True, name="resolve").start()
        except RuntimeError:
            self._run(address)

    def _run(self, address: Address) -> None:
        try:
            self.endpoints = _getaddrinfo(address, 0)
        except OSError as error:
            self.error = error
        finally:
            self.done.set()


class Resolver:
    """Looks names up for all attempts of one run and remembers the last good answer of each. For one thread."""

    __slots__ = ("_failures", "_known", "_narrow", "_pending")

    def __init__(self) -> None:
        self._known: dict[Address, list[Endpoint]] = {}
        self._pending: dict[Address, _Lookup] = {}
        self._failures: dict[Endpoint, int] = {}
        self._narrow: set[Endpoint] = set()

    def lookup(self, address: Address, timeout: float) -> list[Endpoint]:
        """Return the endpoints of address, at least one: who failed less often first, else in the system's order.

        timeout: seconds. If the name service fails now, the endpoints found earlier in this run are used again. Raises
        UnreachableError.
        """
        return sorted(self._lookup(address, timeout), key=lambda endpoint: self._failures.get(endpoint, 0))

    def blame(self, endpoint: Endpoint, *, silent: bool = False) -> None:
        """A connection to endpoint got nothing done. silent: it was made, but nothing came through."""
        self._failures[endpoint] = self._failures.get(endpoint, 0) + 1
        if silent:
            self._narrow ^= {endpoint}

    def has_failed(self, endpoint: Endpoint) -> bool:
        """Whether anything was said against endpoint in this run."""
        return endpoint in self._failures

    def is_narrow(self, endpoint: Endpoint) -> bool:
        """Whether the next connection should keep its segments small: the last one was silent, and was not small."""
        return endpoint in self._narrow

    def _lookup(self, address: Address, timeout: float) -> list[Endpoint]:
        try:
            return _getaddrinfo(address, socket.AI_NUMERICHOST)
        except OSError:
            pass  # a name, not a number
        lookup = self._pending.get(address) or _Lookup(address)
        self._pending[address] = lookup
        if address in self._known:
            timeout = min(timeout, KNOWN_SECONDS)
        if not lookup.done.wait(timeout):
            problem = f"no answer within {timeout:g} s"
        else:
            del self._pending[address]
            if lookup.endpoints:
                self._known[address] = lookup.endpoints
                return lookup.endpoints
            problem = (lookup.error and lookup.error.strerror) or "no address"
        if address in self._known:
            return self._known[address]
        raise UnreachableError(
            f"{address}: the name cannot be looked up ({problem}): check the name and the name servers"
        )


def _getaddrinfo(address: Address, flags: int) -> list[Endpoint]:
    # bytes, because a str would load the tables of the idna codec
    found = socket.getaddrinfo(address.host.encode("ascii"), address.port, type=socket.SOCK_STREAM, flags=flags)
    return [Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found[:ENDPOINTS_MAX]]
