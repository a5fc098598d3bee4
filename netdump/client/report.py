"""The end of a run, for people and for programs.

Owns the wording of the last line and the members of the JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.client.progress import mebibytes
from netdump.namedtuple import NamedTuple
from netdump.pages import PageState

if TYPE_CHECKING:
    from netdump.client.delivery import Outcome
    from netdump.client.image import Image
    from netdump.client.tally import Tally


class Report(NamedTuple):
    """A delivered dump. host: name of this host, may be empty. seconds: from the start of the process's work."""

    image: Image
    host: str
    outcome: Outcome
    tally: Tally
    seconds: float

    def line(self) -> str:
        """The last line."""
        tally = self.tally
        of_host = f" of {self.host}" if self.host else ""
        head = f"dump {self.image.name}{of_host} is complete at {self.outcome.address}"
        root = f"root {self.outcome.root.hex()}"
        if not tally.chunks:
            return f"{head}: it was already, nothing was sent; {root}"
        lost = tally.states[PageState.LOST]
        sent, size = tally.image_bytes, self.image.size
        what = str(size) if sent == size else f"{sent} of {size}"
        parts = [
            f"{what} bytes sent as {tally.wire_bytes} (pages compressed {tally.ratio:.2f} to 1)",
            f"{self.seconds:.1f} s ({mebibytes(sent / max(self.seconds, 0.001))}/s)",
            f"{tally.resent_bytes} bytes sent again",
            *([f"{lost} bytes could not be read and are marked lost"] if lost else []),
            root,
        ]
        return f"{head}: {', '.join(parts)}"

    def members(self) -> dict[str, object]:
        """The JSON object. Sizes in bytes."""
        tally = self.tally
        return {
            "id": self.image.dump_id.hex(),
            "host": self.host,
            "collector": str(self.outcome.address),
            "state": "complete",
            "level": self.image.level,
            "unfiltered": self.image.unfiltered,
            "image_bytes": self.image.size,
            "sent_bytes": tally.image_bytes,
            "raw_bytes": tally.raw_bytes,
            "data_bytes": tally.data_bytes,
            "wire_bytes": tally.wire_bytes,
            "resent_bytes": tally.resent_bytes,
            "excluded_bytes": tally.states[PageState.EXCLUDED],
            "lost_bytes": tally.states[PageState.LOST],
            "chunks": tally.chunks,
            "connections": tally.connections,
            "ratio": round(tally.ratio, 3),
            "seconds": round(self.seconds, 3),
            "root": self.outcome.root.hex(),
        }
