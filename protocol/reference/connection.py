"""One connection as a referee sees it: the states of wire.md section 5, and the rules that join its messages.

The referee reads what both sides send, in the order in which it was received, and says who has to fail the connection
and with which code. It reads no clock, the time is told to it; and it keeps no dump ([W-31], [W-32], [W-77]).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import digests
from chunks import Outline, check_within, read_contents, read_headline, read_outline
from frames import (
    FENCED,
    HEADER_BYTES,
    IMAGE_MAX,
    Header,
    Message,
    WireError,
    check_resume,
    read_header,
    read_message,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

COST_FLOOR = 4_096
OPENING_SECONDS = 10

# (state, sender, message) -> next state. Two rows of the page are not here: RESUME has two, ERROR fits any state.
TABLE: Mapping[tuple[str, str, str], str] = {
    ("OPENING", "client", "HELLO"): "OPENED",
    ("OPENED", "collector", "RESUME"): "HEADLINE or STREAMING",
    ("OPENED", "collector", "DEFER"): "CLOSED",
    ("OPENED", "collector", "DECLINE"): "CLOSED",
    ("OPENED", "collector", "RECEIPT"): "CLOSED",
    ("HEADLINE", "client", "HEADLINE"): "STREAMING",
    ("HEADLINE", "client", "KEEPALIVE"): "HEADLINE",
    ("HEADLINE", "collector", "KEEPALIVE"): "HEADLINE",
    ("STREAMING", "client", "CHUNK"): "STREAMING",
    ("STREAMING", "client", "KEEPALIVE"): "STREAMING",
    ("STREAMING", "client", "FINISH"): "FINISHING",
    ("STREAMING", "collector", "ACK"): "STREAMING",
    ("STREAMING", "collector", "DEFER"): "CLOSED",
    ("STREAMING", "collector", "KEEPALIVE"): "STREAMING",
    ("FINISHING", "client", "KEEPALIVE"): "FINISHING",
    ("FINISHING", "collector", "ACK"): "FINISHING",
    ("FINISHING", "collector", "KEEPALIVE"): "FINISHING",
    ("FINISHING", "collector", "RECEIPT"): "CLOSED",
}


# By image offset and number of chunks before it, every chain value that the client knows for that place [W-36].
Chains = dict[tuple[int, int], set[bytes]]


class Connection:
    """The state that both peers share, fed with the bytes of either."""

    def __init__(self, chains: Chains | None = None) -> None:
        """chains: what this client knows from earlier connections [W-36]; what it learns here is added."""
        self.state = "OPENING"
        self.chains = chains if chains is not None else {}
        self.seconds = 0  # since the TLS handshake; only ever set to more
        self.messages: list[tuple[str, Message]] = []
        self._pending = {"client": b"", "collector": b""}
        self._headers: dict[str, Header | None] = {"client": None, "collector": None}
        self._heard = {"client": 0, "collector": 0}  # when something of this peer came last
        self._hello_at = self._resume_at = 0
        self._keepalive = self._idle = 0
        self._dump_id = b""
        self._image_bytes = IMAGE_MAX  # until HELLO tells
        self._place = (0, 0)  # image offset and chunks, so far
        self._chain = b""
        self._root: bytes | None = None
        self._credit = 0
        self._acked = 0
        self._cost = self._acked_cost = 0  # of the chunks of this connection: sent, and acknowledged
        self._cost_limit = 0  # the largest sum of acked cost and credit so far
        self._unacked: deque[tuple[int, int]] = deque()  # end and cost of each chunk

    def receive(self, sender: str, octets: bytes) -> None:
        """Take bytes from sender. Raises WireError, with the code that the other peer reports; then all is over."""
        self._pending[sender] += octets
        self._heard[sender] = self.seconds
        try:
            while self.state != "CLOSED" and self._receive_one(sender):
                pass
        except WireError:
            self.state = "CLOSED"
            raise

    def between_frames(self, sender: str) -> bool:
        """Whether nothing of a frame of sender is left to be read."""
        return not self._pending[sender] and self._headers[sender] is None

    def end(self) -> bool:
        """The stream ends: say whether that is a cut [W-76]."""
        return self.state != "CLOSED"

    def timer(self, peer: str) -> str:
        """What peer has to do now: nothing, keepalive [W-60], or to fail with idle-timeout [W-61] [W-75]."""
        other = "client" if peer == "collector" else "collector"
        if self.state == "CLOSED":
            return "nothing"
        if self.state in {"OPENING", "OPENED"}:
            # Only who waits has a deadline: the collector for HELLO, the client for its answer.
            waits = (self.state == "OPENING") == (peer == "collector")
            return "idle-timeout" if waits and self.seconds - self._hello_at >= OPENING_SECONDS else "nothing"
        if self.seconds - max(self._heard[other], self._resume_at) >= self._idle:
            return "idle-timeout"
        return "keepalive" if self.seconds - self._heard[peer] >= self._keepalive else "nothing"

    def _receive_one(self, sender: str) -> bool:
        """Take one header or one payload of sender, if it is there; the order of checks is that of [W-20]."""
        pending, header = self._pending[sender], self._headers[sender]
        if header is None:
            if len(pending) < HEADER_BYTES:
                return False
            header = read_header(pending[:HEADER_BYTES])
            self._check_state(sender, header)
            self._headers[sender], self._pending[sender] = header, pending[HEADER_BYTES:]
            return True
        if len(pending) < header.length:
            return False
        self._headers[sender], self._pending[sender] = None, pending[header.length :]
        if header.kind is not None:
            # The other side may have moved the state while the payload was on its way.
            self._check_state(sender, header)
            self._accept(sender, read_message(header.kind, pending[: header.length], self._image_bytes))
        return True

    def _check_state(self, sender: str, header: Header) -> None:
        """A message without a row is refused at its header; an unknown one, to be skipped, fits any state [W-18]."""
        if header.kind is None or header.kind.name == "ERROR":
            return
        if (self.state, sender, header.kind.name) not in TABLE:
            raise WireError("unexpected-message", "section 5", f"{header.kind.name} of the {sender} in {self.state}")

    def _accept(self, sender: str, message: Message) -> None:
        """Hold a message against those before it, and go to the next state."""
        name = message.kind.name
        rule = {
            "HELLO": self._hello, "RESUME": self._resume, "HEADLINE": self._headline, "CHUNK": self._chunk,
            "ACK": self._ack, "FINISH": self._finish, "RECEIPT": self._receipt,
        }.get(name)  # fmt: skip
        if rule is not None:
            rule(message)
        if name == "ERROR":
            self.state = "CLOSED"
            if sender == "collector" and message.number("code") == FENCED:
                self._forget()
        elif name == "RESUME":
            self.state = "STREAMING" if message.number("headline") else "HEADLINE"
        else:
            self.state = TABLE[self.state, sender, name]
        self.messages.append((sender, message))

    def _hello(self, message: Message) -> None:
        self._dump_id, self._image_bytes = message.octets("dump_id"), message.number("image_bytes")
        self._hello_at = self.seconds
        start = {digests.chain_start(self._dump_id, self._image_bytes)}
        if self.chains.get((0, 0)) != start:  # another dump: what is known is not of it
            self.chains.clear()
            self.chains[0, 0] = start

    def _resume(self, message: Message) -> None:
        check_resume(message)
        self._place = self._acked, _ = message.number("offset"), message.number("chunks")
        self._chain = message.octets("chain")
        self._credit = self._cost_limit = message.number("credit")
        self._keepalive, self._idle = message.number("keepalive"), message.number("idle")
        self._resume_at = self.seconds
        if self._chain not in self.chains.setdefault(self._place, {self._chain}):
            raise WireError("bad-root", "W-36", f"another chain value at {self._place}")

    def _forget(self) -> None:
        """Another sender may cut chunks elsewhere from what is acknowledged on [W-36]."""
        for place in [place for place in self.chains if place[0] > self._acked]:
            del self.chains[place]

    def _headline(self, message: Message) -> None:
        read_headline(message)

    def _chunk(self, message: Message) -> None:
        outline, (offset, chunks) = read_outline(message), self._place
        if outline.offset != offset:
            raise WireError("bad-order", "W-45", f"a chunk at {outline.offset}, not at {offset}")
        check_within(outline, self._image_bytes)
        cost = cost_of(outline)
        self._cost += cost
        if self._cost > self._cost_limit:
            raise WireError("credit-exceeded", "W-57", f"the chunk at {offset}")
        chunk = read_contents(message, outline)
        self._place = end, _ = offset + chunk.length, chunks + 1
        self._chain = digests.chain_link(self._chain, chunk.digest)
        self.chains.setdefault(self._place, set()).add(self._chain)
        self._unacked.append((end, cost))

    def _ack(self, message: Message) -> None:
        offset = message.number("offset")
        if offset != self._acked and offset not in {end for end, _ in self._unacked}:
            raise WireError("bad-ack", "W-56", f"{offset} is not the end of a chunk after {self._acked}")
        self._acked = offset
        while self._unacked and self._unacked[0][0] <= offset:
            self._acked_cost += self._unacked.popleft()[1]
        if "credit" in message.values:
            self._credit = message.number("credit")
        # The client may have acted on any ACK before this one: lowering takes back nothing that was granted [W-57].
        self._cost_limit = max(self._cost_limit, self._acked_cost + self._credit)

    def _finish(self, message: Message) -> None:
        offset, chunks = self._place
        if offset != self._image_bytes:
            raise WireError("bad-order", "W-65", f"FINISH at {offset} of {self._image_bytes}")
        self._root = digests.root_of(self._chain, self._image_bytes, chunks)
        told = (message.number("image_bytes"), message.number("chunks"), message.octets("root"))
        if told != (self._image_bytes, chunks, self._root):
            raise WireError("bad-root", "W-65", "FINISH is not about what was received")

    def _receipt(self, message: Message) -> None:
        if self._root is not None and message.octets("root") != self._root:
            raise WireError("bad-root", "W-68", "the collector computed another root")


def cost_of(outline: Outline) -> int:
    """Cost of a chunk against the credit, in bytes [W-57]."""
    return outline.raw_bytes + COST_FLOOR
