"""What this run has sent to one collector: the chain values that a later RESUME may name, the root that RECEIPT must.

Owns the comparisons that [W-36] demands, and [W-68] for another connection than that of FINISH. Memory is bounded by
the collector's credit: chunks before its last acknowledgement are forgotten, because it has promised to keep those, and
an older offset in a RESUME is simply obeyed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netdump.errors import RemoteProtocolError
from netdump.namedtuple import NamedTuple
from netdump.wire import chain_link, chain_start

if TYPE_CHECKING:
    from netdump.wire import Resume


class Boundary(NamedTuple):
    """The end of a chunk: image offset, chunks of the dump before it, chain value there."""

    offset: int
    chunks: int
    chain: bytes


class Ledger:
    """The boundaries of one dump at one collector, over all connections of a run. Not thread-safe."""

    __slots__ = ("_boundaries", "_root", "_start")

    def __init__(self, dump_id: bytes, image_bytes: int) -> None:
        self._start = Boundary(0, 0, chain_start(dump_id, image_bytes))
        self._boundaries = deque([self._start])
        self._root: bytes | None = None

    @property
    def last(self) -> Boundary:
        """Where the next chunk begins."""
        return self._boundaries[-1]

    def resume(self, resume: Resume) -> None:
        """Go on where the collector says, with its chain.

        Chunks after that offset count as never sent: the collector may not make them durable any more ([W-77]).
        Raises RemoteProtocolError (bad-root) if the chain contradicts what was sent. Spec: [W-36].
        """
        self._root = None  # FINISH did not get there, and its connection is over
        named = Boundary(resume.offset, resume.chunks, resume.chain)
        for known in (self._start, *self._boundaries):
            if known[:2] == named[:2] and known.chain != named.chain:
                raise RemoteProtocolError(
                    "bad-root", f"the chain at image offset {named.offset} is not that of the chunks sent before it"
                )
        self._boundaries = deque([named])

    def add(self, length: int, digest: bytes) -> None:
        """Note a chunk that was sent: its bytes of image and its digest."""
        before = self._boundaries[-1]
        self._boundaries.append(Boundary(before.offset + length, before.chunks + 1, chain_link(before.chain, digest)))

    def finish(self, root: bytes) -> None:
        """Note the root of FINISH: all was sent."""
        self._root = root

    def fenced(self) -> None:
        """Another sender took over from what is acknowledged, and may cut chunks elsewhere. Spec: [W-36]."""
        self._boundaries = deque([self._boundaries[0]])
        self._root = None

    @property
    def finished(self) -> bool:
        """All was sent, and nothing was heard since but, perhaps, a receipt."""
        return self._root is not None

    def check_receipt(self, root: bytes) -> None:
        """Compare the root of a RECEIPT in answer to HELLO. Raises RemoteProtocolError (bad-root). Spec: [W-68]."""
        if self._root is not None and root != self._root:
            raise RemoteProtocolError("bad-root", "the root of RECEIPT is not that of what was sent before")

    def acknowledge(self, offset: int) -> bool:
        """Forget what lies before an acknowledged offset, the end of a chunk.

        Returns whether it is further than known before.
        """
        before = len(self._boundaries)
        while self._boundaries[0].offset < offset and len(self._boundaries) > 1:
            self._boundaries.popleft()
        return len(self._boundaries) < before
