"""The lease of the address in use, as the stages of the init tell it to each other.

Owns one file: the stage that was granted a lease writes it, process 1 looks when it wants renewing, the stage `renew`
does that. Times are of time.monotonic, which all processes share. Imports next to nothing: process 1 reads this.
"""

from __future__ import annotations

import os
from contextlib import suppress

from netdump.namedtuple import NamedTuple

LEASE_PATH = "/run/netdump-lease"
NEVER = float("inf")


class HeldLease(NamedTuple):
    """A lease with an end. server: its address. renew_at, ends_at: seconds of time.monotonic."""

    interface: str
    mac: str
    address: str
    server: str
    renew_at: float
    ends_at: float


def remember(lease: HeldLease, path: str = LEASE_PATH) -> None:
    """Write down the lease in use. Without memory for that it is not renewed, as if nobody had known of renewing."""
    with suppress(OSError):
        partial = f"{path}.partial"
        with open(partial, "w", encoding="ascii") as file:
            file.write(" ".join(map(str, lease)))
        os.rename(partial, path)


def forget(path: str = LEASE_PATH) -> None:
    """The address in use is not leased, or for ever."""
    with suppress(OSError):  # there is none
        os.unlink(path)


def held_lease(path: str = LEASE_PATH) -> HeldLease | None:
    """The lease in use; None if there is none that ends."""
    try:
        with open(path, encoding="ascii") as file:
            interface, mac, address, server, renew_at, ends_at = file.read().split()
        return HeldLease(interface, mac, address, server, float(renew_at), float(ends_at))
    except (OSError, ValueError):
        return None


def renewal_time(path: str = LEASE_PATH) -> float:
    """When the lease in use wants renewing, NEVER if it does not."""
    lease = held_lease(path)
    return lease.renew_at if lease else NEVER
