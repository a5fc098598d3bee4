"""How long to wait before the next attempt: exponential back-off with jitter.

Owns the arithmetic only. It neither sleeps nor reads a clock, and randomness is an argument.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DOUBLINGS_MAX = 32  # beyond this every delay is the ceiling anyway


def system_random() -> float:
    """Draw a number in 0 .. 1 (exclusive) from the kernel. The module `random` would be one more import."""
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)


class Backoff:
    """A growing delay for one collector. Not thread-safe.

    floor, ceiling: seconds, 0 < floor <= ceiling. random: yields numbers in 0 .. 1 (exclusive).
    """

    __slots__ = ("_ceiling", "_failures", "_floor", "_random")

    def __init__(self, floor: float, ceiling: float, random: Callable[[], float] = system_random) -> None:
        assert 0 < floor <= ceiling
        self._floor = floor
        self._ceiling = ceiling
        self._random = random
        self._failures = 0

    def next_delay(self) -> float:
        """Return the seconds to wait after one more failure: between half of the current step and all of it.

        The lower half is kept so that a collector that has just come back is not hit by a thousand clients at once,
        nor by one in a loop.
        """
        step = min(self._ceiling, self._floor * 2.0 ** min(self._failures, DOUBLINGS_MAX))
        self._failures += 1
        return step * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """Start again from the floor: something was achieved."""
        self._failures = 0
