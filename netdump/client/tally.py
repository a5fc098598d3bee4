"""What a run has done so far, in figures. Owns counting only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.pages import PageState

if TYPE_CHECKING:
    from netdump.client.stream import Prepared


class Tally:
    """Figures of one run, over all connections and collectors. Bytes unless the name says otherwise.

    wire_bytes: sent, TLS included. raw_bytes: data before compression. data_bytes: the same after it. resent_bytes:
    raw data that lies before the furthest image offset sent earlier, high_water. states: bytes of image by page state,
    each counted once.
    """

    __slots__ = (
        "chunks",
        "connections",
        "data_bytes",
        "high_water",
        "raw_bytes",
        "resent_bytes",
        "states",
        "wire_bytes",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.chunks = 0
        self.wire_bytes = 0
        self.raw_bytes = 0
        self.data_bytes = 0
        self.resent_bytes = 0
        self.high_water = 0
        self.states = dict.fromkeys(PageState, 0)

    def add(self, prepared: Prepared) -> None:
        """Count a chunk that was given to a connection."""
        chunk = prepared.chunk
        self.chunks += 1
        self.raw_bytes += prepared.raw_bytes
        self.data_bytes += len(chunk.data)
        position, states = chunk.offset, self.states
        for state, length, _, _ in prepared.runs:
            again = 0
            if position < self.high_water:
                again = min(length, self.high_water - position)
                if state == PageState.DATA:
                    self.resent_bytes += again
            states[state] += length - again
            position += length
        self.high_water = max(self.high_water, chunk.offset + chunk.length)

    @property
    def image_bytes(self) -> int:
        """Bytes of image that this run has sent, each counted once."""
        return sum(self.states.values())

    @property
    def ratio(self) -> float:
        """Raw data bytes for each byte of data sent; 1 when there was none."""
        return self.raw_bytes / self.data_bytes if self.data_bytes else 1.0
