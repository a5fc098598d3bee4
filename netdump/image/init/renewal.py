"""The stage that makes the lease of the address in use longer, beside the client.

Owns what follows when a server does not: without an answer the address stays in use, past the end of the lease too,
for a server that is away gives it to nobody else, and a dump under way is worth more; an address that a server takes
back is given up, and another one asked for, with which the client resumes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netdump.image.init.console import say, warn
from netdump.image.init.dhcp import LeaseLostError, renew_lease
from netdump.image.init.lease import forget, held_lease, remember
from netdump.image.init.netlink import Netlink
from netdump.image.init.network import bring_up, held

if TYPE_CHECKING:
    from netdump.image.init.lease import HeldLease
    from netdump.image.init.plan import Plan

ANSWER_SECONDS = 20.0
AGAIN_SECONDS_MIN = 60.0  # RFC 2131 section 4.4.5


def renew(plan: Plan) -> int:
    """Renew the lease in use. Returns 0 if there is one that lasts, 1 if not."""
    lease = held_lease()
    if lease is None:
        return 0
    try:
        answer = renew_lease(lease, time.monotonic() + ANSWER_SECONDS)
    except LeaseLostError:
        warn(f"{lease.interface} (dhcp): the server takes {lease.address} back; asking for another address")
        forget()
        _give_up(lease)
        return bring_up(plan)
    except OSError as error:
        warn(f"{lease.interface} (dhcp): the lease of {lease.address} cannot be renewed: {error.strerror}")
        answer = None
    now = time.monotonic()
    if answer is None:
        left = lease.ends_at - now
        warn(f"{lease.interface} (dhcp): no server renews the lease of {lease.address}; the address stays in use")
        remember(lease._replace(renew_at=now + max(AGAIN_SECONDS_MIN, left / 2)))
        return 1
    renewed = held(lease.interface, lease.mac, answer, now)
    if renewed is None:
        forget()
    else:
        remember(renewed)
    length = "ever" if answer.seconds is None else f"{answer.seconds} s"
    say(f"{lease.interface} (dhcp): the lease of {lease.address} is renewed for {length}")
    return 0


def _give_up(lease: HeldLease) -> None:
    try:
        netlink = Netlink()
        try:
            for address in netlink.addresses():
                if address.address == lease.address:
                    netlink.remove_address(address)
        finally:
            netlink.close()
    except OSError as error:  # the kernel answers nobody, or it is gone already: another one may still be had
        warn(f"cannot take {lease.address} away: {error.strerror}")
