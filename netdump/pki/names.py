"""Which names may stand in a certificate, and how a stranger's text is shown.

Owns the syntax of names. A name that passes here goes into certificates, JSON and terminals as it is; it never becomes
part of a path. Knows nothing of X.509.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from netdump.errors import BadNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_MAX = 253  # characters; the longest domain name (RFC 1035 section 2.3.4, without the final dot)
LABEL_MAX = 63
COLLECTOR_NAMES_MAX = 32  # so that a receipt, which holds the certificate, stays below receipt_max
TEXT_SHOWN_MAX = 1024  # characters of a stranger's text that are shown

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")

CollectorName = str | IPv4Address | IPv6Address


def printable(text: str, limit: int = TEXT_SHOWN_MAX) -> str:
    """Return text fit for a terminal or a log line: invisible characters escaped, cut after limit characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown if len(text) <= limit else shown + "…"


def check_name(name: str) -> str:
    """Return the name of a host, analyst or operator unchanged, or raise BadNameError.

    1 to 253 letters, digits, `-`, `.` and `_` (ASCII), beginning and ending with a letter, digit or `_`, no two dots in
    a row. Case counts.
    """
    if len(name) <= NAME_MAX and _NAME.fullmatch(name) and ".." not in name:
        return name
    raise BadNameError(
        f"'{printable(name, NAME_MAX)}' cannot be a name in a certificate: use 1 to {NAME_MAX} letters, digits, "
        "'-', '.' and '_', beginning and ending with a letter or digit"
    )


def parse_collector_name(text: str) -> CollectorName:
    """Return what a collector is dialled by: a domain name in lower case, or an IPv4 or IPv6 address.

    Raises BadNameError for anything else: wildcards, ports, zones (`%eth0`), brackets, addresses nobody can dial
    (0.0.0.0, multicast).
    """
    shown = printable(text, NAME_MAX)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _domain_name(text, shown)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise BadNameError(
            f"the address '{shown}' has a zone, which means nothing to another machine: leave out the part after '%'"
        )
    if address.is_unspecified or address.is_multicast:
        raise BadNameError(f"nobody can dial the address '{shown}': name one that clients use")
    return address


def parse_collector_names(texts: Sequence[str]) -> tuple[CollectorName, ...]:
    """Return 1 to 32 different collector names in the order given; the first is the one the collector calls itself.

    Raises BadNameError.
    """
    names = tuple(dict.fromkeys(parse_collector_name(text) for text in texts))
    if not names:
        raise BadNameError("a collector needs at least one name or address under which clients dial it")
    if len(names) > COLLECTOR_NAMES_MAX:
        raise BadNameError(f"a collector can have {COLLECTOR_NAMES_MAX} names, not {len(names)}")
    return names


def _domain_name(text: str, shown: str) -> str:
    name = text.lower()
    labels = name.split(".")
    fits = len(name) <= NAME_MAX and all(len(label) <= LABEL_MAX and _LABEL.fullmatch(label) for label in labels)
    # A last label of digits alone makes an address to every resolver, and a wrong one at that (RFC 3696 section 2).
    if fits and not labels[-1].isdigit():
        return name
    hint = (
        "write international names in their xn-- form"
        if not text.isascii()
        else "no port, brackets, wildcard or final dot"
    )
    raise BadNameError(f"'{shown}' is neither a domain name nor an IP address ({hint})")
