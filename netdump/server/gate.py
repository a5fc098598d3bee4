"""How many may be connected, and in their handshakes: counted before TLS, in total and of one source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How many connections, and handshakes among them, in total and of one source. Those of peers who have proved who
    they are count in the total alone: hundreds of hosts may be behind one address.
    """

    connections: int
    connections_per_source: int
    handshakes: int
    handshakes_per_source: int


class Gate:
    """Counts connections and handshakes. A source is what `source_of` makes of a peer's address."""

    def __init__(self, limits: GateLimits) -> None:
        self._limits = limits
        self._strangers: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()
        self._known = 0

    def enter(self, source: str) -> str | None:
        """Count a new connection, in its handshake. Returns why it is one too many (and is not counted), or None."""
        limits = self._limits
        if self._strangers.total() + self._known >= limits.connections:
            return "connections"
        if self._strangers[source] >= limits.connections_per_source:
            return "connections-per-source"
        if self._handshakes[source] >= limits.handshakes_per_source:
            return "handshakes-per-source"
        if self._handshakes.total() >= limits.handshakes:  # the last one: then one that gives way is of use
            return "handshakes"
        self._strangers[source] += 1
        self._handshakes[source] += 1
        return None

    def shaken(self, source: str) -> None:
        """The handshake of a connection is over, well or not."""
        _count_down(self._handshakes, source)

    def vouch(self, source: str) -> None:
        """The peer of a connection that entered is known."""
        _count_down(self._strangers, source)
        self._known += 1

    def leave(self, source: str | None) -> None:
        """A connection that entered is gone. None: of a known peer."""
        if source is not None:
            _count_down(self._strangers, source)
        else:
            assert self._known > 0
            self._known -= 1


def _count_down(counter: Counter[str], source: str) -> None:
    assert counter[source] > 0
    counter[source] -= 1
    if not counter[source]:
        del counter[source]  # memory follows the connections that exist
