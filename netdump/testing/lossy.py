"""A pipe that does what networks do: slices, delays, cuts, drops tails, leaves a dead connection standing, flips bits.

Owns the faults, drawn from a seed: the same seed gives the same run. Flipped bits are what TLS would turn into a cut;
here they reach the core, which must find them or pass them to a digest that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.namedtuple import NamedTuple
from netdump.testing.pipe import Pipe
from netdump.wire import Role

if TYPE_CHECKING:
    from random import Random

    from netdump.wire import Message


class Faults(NamedTuple):
    """How bad a link is. The probabilities, 0 to 1, are for each call of take.

    slice_bytes: most that arrives at once. delay: nothing arrives. cut: the connection ends for both; what has not
    arrived is dropped. half_open: it ends for the receiver alone, the other end learns nothing. flip: one bit of what
    arrives is wrong.
    """

    slice_bytes: int = 4096
    delay: float = 0.0
    cut: float = 0.0
    half_open: float = 0.0
    flip: float = 0.0


class LossyPipe(Pipe):
    """A pipe with faults. An end that has been cut off receives nothing, and nothing that it sends goes out."""

    def __init__(self, random: Random, faults: Faults, now: float = 0.0) -> None:
        super().__init__(now)
        self._random = random
        self._faults = faults
        self._ended: set[Role] = set()

    def ended(self, role: Role) -> bool:
        """Whether the stream has ended for that end."""
        return role in self._ended

    def post(self, sender: Role, data: bytes) -> None:
        """Put bytes on their way, unless the sender is cut off."""
        if sender not in self._ended:
            super().post(sender, data)

    def cut(self) -> None:
        """End the connection for both; what has not arrived is dropped."""
        for role in Role:
            self.hang_up(role)

    def hang_up(self, role: Role) -> None:
        """End the connection for one end. What it has sent may still arrive; what it has not received is dropped."""
        self._ended.add(role)
        self._on_the_way[role].clear()
        self.end(role).receive_eof()

    def take(self, receiver: Role, size: int | None = None) -> list[Message]:
        """What arrives now, faults included; size: at most that. Raises RemoteProtocolError."""
        if receiver in self._ended or self._random.random() < self._faults.delay:
            return []
        if self._random.random() < self._faults.cut:
            self.cut()
            return []
        if self._random.random() < self._faults.half_open:
            self.hang_up(receiver)
            return []
        most = min(self._faults.slice_bytes, len(self._on_the_way[receiver]) if size is None else size)
        arriving = self._random.randint(0, most)
        if arriving and self._random.random() < self._faults.flip:
            bit = self._random.randrange(8 * arriving)
            self._on_the_way[receiver][bit // 8] ^= 1 << bit % 8
        return super().take(receiver, arriving)
