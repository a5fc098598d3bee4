"""What can be wrong with stored data: one finding, the error that carries it, and the report of a check.

Owns the words for damage. Must not read files.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from netdump.errors import DamagedError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from netdump.store.origin import Origin


class Damage(StrEnum):
    """The class of a finding. Stands in reports and in their JSON form."""

    MISSING = "missing"  # a file that must be there is not
    UNREADABLE = "unreadable"  # the disk does not give it back
    NOT_SEALED = "not-sealed"  # not sealed JSON, [S-11]
    FORMAT = "format"  # a sealed file of an unknown format, [S-12]
    CONTENT = "content"  # a sealed file whose members contradict the law, each other or another file
    NOT_SOUND = "not-sound"  # a segment that breaks [S-20]
    OTHER_SEGMENT = "other-segment"  # a sound segment that is not the one of the manifest, [S-31]
    BAD_CHUNK = "bad-chunk"  # a stored frame that is no CHUNK message, or not the one of its table entry
    BAD_CODEC = "bad-codec"  # chunk data that does not decode, [W-51]
    BAD_DIGEST = "bad-digest"  # a chunk or headline whose digest differs, [S-21]
    BAD_ROOT = "bad-root"  # segments that are sound but not the dump that the manifest names, [S-31]
    BAD_HEADLINE = "bad-headline"  # a headline that is no headline document, [W-41]
    VMCORE = "vmcore"  # the restored image differs from the segments; it can be made again, [S-40]


class Finding(NamedTuple):
    """One piece of damage.

    file: name in the dump's folder. position: byte in that file, or None when it is the file as such.
    """

    damage: Damage
    file: str
    position: int | None
    text: str

    def as_json(self) -> dict[str, object]:
        """For JSON output."""
        return {"damage": str(self.damage), "file": self.file, "position": self.position, "text": self.text}

    def __str__(self) -> str:
        place = self.file if self.position is None else f"{self.file}, byte {self.position}"
        return f"{place}: {self.text} ({self.damage})"


class Report(NamedTuple):
    """What a check found.

    segments, chunks: verified ones. image_bytes: covered by them. more: findings beyond FINDINGS_MAX. view: what is
    wrong with ``vmcore``, which is no damage of the dump: it can be made again, and remade says that it was. origin:
    whose dump was checked; None where that could not be read, or another machine has checked it.
    """

    id: str
    complete: bool
    segments: int
    chunks: int
    image_bytes: int
    findings: tuple[Finding, ...]
    more: int = 0
    view: Finding | None = None
    remade: bool = False
    origin: Origin | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged that could not be made again."""
        return not self.findings

    def as_json(self) -> dict[str, object]:
        """For JSON output."""
        return {
            "id": self.id,
            "ok": self.ok,
            "complete": self.complete,
            "segments": self.segments,
            "chunks": self.chunks,
            "image_bytes": self.image_bytes,
            "findings": [found.as_json() for found in self.findings],
            "more": self.more,
            "vmcore": None if self.view is None else {**self.view.as_json(), "remade": self.remade},
        }


class DamageFoundError(DamagedError):
    """Stored data is damaged; finding says where and how."""

    def __init__(self, finding: Finding, dump_id: str = "") -> None:
        of = f" of dump {dump_id}" if dump_id else ""
        super().__init__(
            f"stored data{of} is damaged: {finding}; keep a copy of the folder and have the dump sent again"
        )
        self.finding = finding
