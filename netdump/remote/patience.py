"""How long something that may succeed later is tried again: pauses that double, with jitter, up to a number of tries.

Owns the arithmetic. Must not sleep or know clocks: who waits is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.client.retry import system_random
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Patience(NamedTuple):
    """tries: in all, 1 or more. first_s: the first pause at most; longest_s: any pause at most."""

    tries: int
    first_s: float
    longest_s: float

    def pauses(self, chance: Callable[[], float] = system_random) -> Iterator[float]:
        """The pauses in seconds, one before each further try.

        chance: 0 .. 1; a pause is between half of its length and all of it, so that many clients do not come at once.
        """
        pause = self.first_s
        for _ in range(self.tries - 1):
            yield pause * (0.5 + 0.5 * chance())
            pause = min(pause * 2, self.longest_s)


BRIEF = Patience(tries=3, first_s=0.5, longest_s=1.0)
"""For a person who waits for an answer."""

LONG = Patience(tries=10, first_s=0.5, longest_s=15.0)
"""For long work that a restart of the collector must not end: about a minute without any progress."""
