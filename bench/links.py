"""A link of a given rate: two network namespaces joined by a veth pair, limited in both directions by tc's tbf.

The limit is all there is: no delay, no loss. Segmentation offload is off, because tbf counts packets as the driver
gets them and a real link carries frames.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.process import BenchError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

FAR_ADDRESS: Final = "10.77.0.1"
NEAR_ADDRESS: Final = "10.77.0.2"
RATES: Final = {"1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}

_BURST: Final = {"1gbit": "256k", "100mbit": "32k"}  # about 2 ms of the rate, and never less than a timer tick needs
_QUEUE_MS: Final = 20


class Link(NamedTuple):
    """Names of the namespaces at the two ends."""

    near: str
    far: str

    def limit(self, rate: str) -> None:
        """Set the rate of both directions, one of RATES; empty: none."""
        for end in self:
            if rate:
                shape = ["tbf", "rate", rate, "burst", _BURST[rate], "latency", f"{_QUEUE_MS}ms"]
                run(["tc", "-n", end, "qdisc", "replace", "dev", "wire", "root", *shape])
            else:
                with suppress(BenchError):  # there was none
                    run(["tc", "-n", end, "qdisc", "del", "dev", "wire", "root"])


def can_make_links() -> bool:
    """Whether this process may make namespaces."""
    return os.geteuid() == 0


@contextmanager
def link() -> Iterator[Link]:
    """A link for as long as the block runs. Raises BenchError."""
    ends = Link(f"netdump-near-{os.getpid()}", f"netdump-far-{os.getpid()}")
    made: list[str] = []
    try:
        for end in ends:
            run(["ip", "netns", "add", end])
            made.append(end)
        run(["ip", "-n", ends.near, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", ends.far])
        for end, address in zip(ends, (NEAR_ADDRESS, FAR_ADDRESS), strict=True):
            run(["ip", "-n", end, "address", "add", f"{address}/24", "dev", "wire"])
            run(["ip", "netns", "exec", end, "ethtool", "-K", "wire", "tso", "off", "gso", "off", "gro", "off"])
            for device in ("lo", "wire"):
                run(["ip", "-n", end, "link", "set", device, "up"])
        yield ends
    finally:
        for end in made:
            run(["ip", "netns", "delete", end])
