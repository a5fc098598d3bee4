"""How often something may happen, in total and per source address.

Time is an argument; memory is bounded whoever calls.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

SOURCES_MAX = 4096


def source_of(address: str) -> str:
    """The part of a peer's address that one party holds: an IPv4 address, the /64 of an IPv6 one, or the text."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Bucket:
    """Tokens that come back steadily: so many of them in a window, and as many at most."""

    __slots__ = ("_stamp", "_tokens", "_tokens_most", "_window_s")

    def __init__(self, tokens: int, now: float, window_s: float = 60.0) -> None:
        self._tokens_most = float(tokens)
        self._window_s = window_s
        self._tokens = self._tokens_most
        self._stamp = now

    def level(self, now: float) -> float:
        """Tokens there at now, seconds of any steady clock."""
        grown = self._tokens + max(0.0, now - self._stamp) * self._tokens_most / self._window_s
        self._tokens, self._stamp = min(self._tokens_most, grown), now
        return self._tokens

    def take(self, now: float) -> None:
        """Use one token up."""
        self._tokens = self.level(now) - 1


class RateLimit:
    """A bucket for all together and one for each source; beyond SOURCES_MAX those seen longest ago are forgotten."""

    def __init__(self, total: int, per_source: int, now: float, window_s: float = 60.0) -> None:
        self._total = Bucket(total, now, window_s)
        self._per_source = per_source
        self._window_s = window_s
        self._sources: OrderedDict[str, Bucket] = OrderedDict()

    def allow(self, address: str, now: float) -> bool:
        """May a peer at this address do it once more, now?

        A refusal costs nothing, so that one source cannot use up what is left for the others.
        """
        source = source_of(address)
        bucket = self._sources.pop(source, None) or Bucket(self._per_source, now, self._window_s)
        self._sources[source] = bucket
        if len(self._sources) > SOURCES_MAX:
            self._sources.popitem(last=False)
        if bucket.level(now) < 1 or self._total.level(now) < 1:
            return False
        bucket.take(now)
        self._total.take(now)
        return True
