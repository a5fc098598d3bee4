"""The chunks of one connection: their order, what is acknowledged, and the credit ([W-45], [W-56], [W-57], [W-65]).

Owns the account that both ends keep: the client of what it sent, the collector of what it received. Must not look into
chunks. Every method checks before it changes anything, and raises RemoteProtocolError as if the other side were at
fault; the connection knows better when it is this side.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netdump.errors import RemoteProtocolError
from netdump.wire._registry import CHUNK_COST_FLOOR

if TYPE_CHECKING:
    from netdump.wire._messages import Ack, Chunk, Finish, Resume


class Stream:
    """The account from RESUME on. Offsets are image offsets; cost: bytes, from the first chunk of the connection."""

    __slots__ = (
        "_edge",
        "_image_bytes",
        "_unacked",
        "acked_cost",
        "acked_offset",
        "chunks",
        "cost",
        "credit",
        "offset",
    )

    def __init__(self, resume: Resume, image_bytes: int) -> None:
        self._image_bytes = image_bytes
        self.offset = self.acked_offset = resume.offset
        self.chunks = resume.chunks
        self.credit = resume.credit
        self.cost = self.acked_cost = 0
        self._unacked: deque[tuple[int, int]] = deque()  # of each chunk: image offset and cost at its end
        self._edge = resume.credit

    def may_send(self, raw_bytes: int) -> bool:
        """Whether the credit has room for a chunk with that much raw data. The client's view. Spec: [W-57]."""
        return self.cost + raw_bytes + CHUNK_COST_FLOOR <= self.acked_cost + self.credit

    def may_receive(self, raw_bytes: int) -> bool:
        """Whether a client that keeps the rules can have sent a chunk with that much raw data. The collector's view.

        The cost up to which the client may send is acked_cost + credit of the newest ACK it knows. Which one that is
        the collector cannot know, only that it may be any so far: so the limit never recedes when the credit is
        lowered, and a chunk beyond it is a breach whichever ACK has arrived. Spec: [W-57].
        """
        return self.cost + raw_bytes + CHUNK_COST_FLOOR <= self._edge

    def check_chunk(self, chunk: Chunk) -> None:
        """Raises bad-order or bad-field. Spec: [W-45]."""
        if chunk.offset != self.offset:
            raise RemoteProtocolError("bad-order", f"a chunk at image offset {chunk.offset}, due is {self.offset}")
        if chunk.offset + chunk.length > self._image_bytes:
            raise RemoteProtocolError("bad-field", f"a chunk beyond the {self._image_bytes} bytes of the image")

    def add(self, chunk: Chunk, raw_bytes: int) -> None:
        """Count a chunk that was checked and has room."""
        self.offset += chunk.length
        self.chunks += 1
        self.cost += raw_bytes + CHUNK_COST_FLOOR
        self._unacked.append((self.offset, self.cost))

    def acknowledge(self, ack: Ack) -> None:
        """Take an ACK: what it acknowledges, and its credit. Raises bad-ack. Spec: [W-56], [W-57]."""
        if ack.offset != self.acked_offset and not self._is_end(ack.offset):
            raise RemoteProtocolError("bad-ack", f"image offset {ack.offset} is not the end of an unacknowledged chunk")
        while self._unacked and self._unacked[0][0] <= ack.offset:
            self.acked_offset, self.acked_cost = self._unacked.popleft()
        if ack.credit is not None:
            self.credit = ack.credit
        self._edge = max(self._edge, self.acked_cost + self.credit)

    def _is_end(self, offset: int) -> bool:
        """Whether an unacknowledged chunk ends there. Looks no further than that: an ACK costs what it releases."""
        for end, _ in self._unacked:
            if end >= offset:
                return end == offset
        return False

    def check_finish(self, finish: Finish) -> None:
        """Raises bad-order if chunks are missing, bad-root if the numbers are others. Spec: [W-65]."""
        if self.offset != self._image_bytes:
            raise RemoteProtocolError("bad-order", f"FINISH at image offset {self.offset} of {self._image_bytes}")
        if (finish.image_bytes, finish.chunks) != (self._image_bytes, self.chunks):
            raise RemoteProtocolError(
                "bad-root",
                f"FINISH of {finish.chunks} chunks and {finish.image_bytes} bytes, "
                f"counted were {self.chunks} and {self._image_bytes}",
            )
