"""manifest.json: the commit point of a dump (store.md section 5).

Owns the document and what its members must be to each other. Must not read or write files, or look into segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netdump.errors import StoreError
from netdump.pages import ExcludeClass
from netdump.store.layout import MANIFEST
from netdump.store.origin import HOST_MAX
from netdump.store.sealed import FORMAT, Members, seal_long, unseal_long
from netdump.store.segment import SegmentInfo
from netdump.store.totals import Totals
from netdump.wire import IMAGE_BYTES_MAX, SEGMENT_CHUNKS_MAX, TEXT_MAX, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST_FORMAT: Final = "netdump-manifest/1"
MANIFEST_BYTES_MAX: Final = 256 << 20
"""Over a million segments, which of an image that may need so many hold 16 MiB of raw data by default."""

_DIGEST_BYTES: Final = 32
REMARK: Final = "remark"
_SEGMENTS: Final = "segments"
_TOTALS: Final = ("data", "zero", "alias", "excluded", "lost", "stored")
_CLASSES: Final = {member.name.lower(): member for member in ExcludeClass if member is not ExcludeClass.NONE}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete dump. root: 32 bytes. headline: SHA-256 of the file headline, None: the dump has none.

    completed: seconds since 1970 by the collector's clock. totals: not to be changed. segments: they tile the image.
    remark: of FINISH, empty if it had none.
    """

    id: str
    host: str
    image_bytes: int
    chunks: int
    root: bytes
    headline: bytes | None
    completed: int
    totals: Totals
    segments: tuple[SegmentInfo, ...]
    remark: str = ""

    def pack(self) -> bytes:
        """The sealed file. Raises StoreError for one that no reader would take."""
        totals: dict[str, object] = {name: getattr(self.totals, name) for name in _TOTALS}
        excluded: dict[str, object] = {reason.name.lower(): size for reason, size in self.totals.excluded_by.items()}
        sealed = seal_long(
            {
                FORMAT: MANIFEST_FORMAT,
                "id": self.id,
                "host": self.host,
                "image_bytes": self.image_bytes,
                "chunks": self.chunks,
                "root": self.root.hex(),
                "headline": None if self.headline is None else self.headline.hex(),
                "completed": self.completed,
                "totals": totals,
                "excluded": excluded,
                **({REMARK: self.remark} if self.remark else {}),
            },
            _SEGMENTS,
            (
                {
                    "name": segment.name,
                    "start": segment.start,
                    "end": segment.end,
                    "chunks": segment.chunks,
                    "bytes": segment.file_bytes,
                    "sha256": segment.sha256.hex(),
                }
                for segment in self.segments
            ),
        )
        if len(sealed) > MANIFEST_BYTES_MAX:
            raise StoreError(
                f"the manifest of dump {self.id} would have {len(sealed)} bytes, allowed are {MANIFEST_BYTES_MAX}: it "
                f"came in {len(self.segments)} segments; it stays incomplete, and `netdump fetch` restores all of it. "
                "Raise credit_bytes and publish_bytes in the settings of the collector"
            )
        return sealed

    @classmethod
    def parse(cls, data: bytes, dump_id: str) -> Manifest:
        """Read a sealed file back; dump_id: that of the folder it is in.

        Raises DamageFoundError, also when segments, chunks or totals do not add up to the image. Spec: [S-30].
        """
        members, items = unseal_long(data, MANIFEST_FORMAT, MANIFEST, _SEGMENTS)
        if members.text("id") != dump_id:
            raise members.wrong("it is of another dump")
        manifest = cls(
            id=dump_id,
            host=members.text("host", HOST_MAX),
            image_bytes=members.number("image_bytes", 1, IMAGE_BYTES_MAX),
            chunks=members.number("chunks", 1),
            root=members.octets("root", _DIGEST_BYTES),
            headline=members.optional_octets("headline", _DIGEST_BYTES),
            completed=members.number("completed"),
            totals=_parse_totals(members),
            segments=_parse_segments(members, items),
            remark=members.text(REMARK, TEXT_MAX) if REMARK in members.names() else "",
        )
        if manifest.totals.image_bytes != manifest.image_bytes:
            raise members.wrong("the totals do not add up to the image")
        if sum(manifest.totals.excluded_by.values()) != manifest.totals.excluded:
            raise members.wrong("the classes do not add up to what is excluded")
        if sum(segment.chunks for segment in manifest.segments) != manifest.chunks:
            raise members.wrong("the chunks of the segments do not add up")
        if manifest.remark != printable(manifest.remark):
            raise members.wrong("the remark has characters that no text has")
        if manifest.segments[-1].end != manifest.image_bytes:
            raise members.wrong("the segments do not end where the image does")
        return manifest


def _parse_totals(members: Members) -> Totals:
    sums, classes = members.child("totals"), members.child("excluded")
    unknown = [name for name in classes.names() if name not in _CLASSES]
    if unknown:  # no chunk can hold such a class, [W-50]
        raise members.wrong(f"unknown exclude class {unknown[0]!r}")
    return Totals(
        data=sums.number("data"),
        zero=sums.number("zero"),
        alias=sums.number("alias"),
        excluded=sums.number("excluded"),
        lost=sums.number("lost"),
        stored=sums.number("stored"),
        excluded_by={_CLASSES[name]: classes.number(name, 1) for name in classes.names()},
    )


def _parse_segments(members: Members, items: Iterable[Members]) -> tuple[SegmentInfo, ...]:
    segments: list[SegmentInfo] = []
    end = 0
    for item in items:
        segment = SegmentInfo(
            start=item.number("start"),
            end=item.number("end", 1, IMAGE_BYTES_MAX),
            chunks=item.number("chunks", 1, SEGMENT_CHUNKS_MAX),
            file_bytes=item.number("bytes", 1),
            sha256=item.octets("sha256", _DIGEST_BYTES),
        )
        if item.text("name") != segment.name:
            raise item.wrong(f"the segment that begins at {segment.start} has another name")
        if segment.start != end or segment.end <= segment.start:
            raise item.wrong(f"the segment {segment.name} does not begin where the one before ends")
        end = segment.end
        segments.append(segment)
    if not segments:
        raise members.wrong("it names no segments")
    return tuple(segments)
