"""What of a dump is durable: the longest run of sound segments [S-23], or exactly those of the manifest [S-31].

Owns the choice of the segments that count. Reads, never writes; needs no lock, because segments under their final
names do not change ([S-03]). Must not look into frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import MANIFEST, SEGMENTS, segment_range
from netdump.store.segment import SegmentReader
from netdump.wire import chain_start, root_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netdump.store.files import Files
    from netdump.store.manifest import Manifest
    from netdump.store.segment import Link

Place = tuple[int, int, bytes]
"""Where a segment may begin: image offset, chunks before it, chain value there."""


@dataclass(frozen=True, slots=True)
class Durable:
    """Up to where a dump is durable and verified. chain: the chain value at offset; chunks: before it. Spec: [W-35]."""

    offset: int
    chain: bytes
    chunks: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """The segments of a dump that count, in order, and what was found wrong with others."""

    durable: Durable
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]


def open_segment(files: Files, dump_id: str, name: str) -> SegmentReader:
    """Open one segment of a dump by its file name. Raises DamageFoundError (missing, not-sound), OSError."""
    try:
        file = files.open(f"{dump_id}/{SEGMENTS}/{name}")
    except FileNotFoundError:
        raise DamageFoundError(Finding(Damage.MISSING, name, None, "the segment is not there")) from None
    return SegmentReader(file, name, bytes.fromhex(dump_id))


def recover(files: Files, dump_id: str, image_bytes: int, *, tolerant: bool = False) -> Recovery:
    """The durable run of a dump without manifest. Reads header, table and trailer of every segment. Spec: [S-23].

    tolerant: what the disk does not give back is a finding; else OSError, because it may come back.
    """
    links: list[Link] = []
    findings: list[Finding] = []
    start = _start(dump_id, image_bytes)
    for name in _listed(files, dump_id, findings if tolerant else None):
        try:
            with open_segment(files, dump_id, name) as segment:
                links.append(segment.link)
        except DamageFoundError as error:
            # Missing: the holder of the lock removed it after we had listed it.
            if error.finding.damage is not Damage.MISSING:
                findings.append(error.finding)
        except OSError as error:
            if not tolerant:
                raise
            findings.append(_unreadable(name, error))
    run = longest_run(links, start, image_bytes)
    return Recovery(_durable(_end(run[-1]) if run else start), tuple(run), tuple(findings))


def follow_manifest(files: Files, manifest: Manifest, *, tolerant: bool = False) -> Recovery:
    """The segments of a complete dump, each checked against the manifest, and the root.

    Damage is not raised. Spec: [S-31].

    The durable offset is the end of the image if there are no findings, else 0. tolerant: as for recover().
    """
    links: list[Link] = []
    findings: list[Finding] = []
    start = place = _start(manifest.id, manifest.image_bytes)
    for info in manifest.segments:
        try:
            with open_segment(files, manifest.id, info.name) as segment:
                link = segment.link
        except DamageFoundError as error:
            findings.append(error.finding)
            continue
        except OSError as error:
            if not tolerant:
                raise
            findings.append(_unreadable(info.name, error))
            continue
        if link.info != info:
            text = "it is sound, but not the segment that the manifest names"
            findings.append(Finding(Damage.OTHER_SEGMENT, info.name, None, text))
        elif not findings and _begin(link) != place:
            findings.append(Finding(Damage.BAD_ROOT, info.name, None, "it does not continue the segment before it"))
        else:
            links.append(link)
            place = _end(link)
    if not findings and root_digest(place[2], manifest.image_bytes, place[1]) != manifest.root:
        findings.append(Finding(Damage.BAD_ROOT, MANIFEST, None, "the segments do not have the root that it names"))
    return Recovery(_durable(start if findings else place), tuple(links), tuple(findings))


def sound_part(
    files: Files, dump_id: str, image_bytes: int, recovery: Recovery, keep_on: Callable[[], None]
) -> Recovery:
    """The same up to its first segment that has a damaged chunk. Reads and checks every chunk up to there.

    keep_on: called before each segment, may raise to stop. Raises OSError.
    """
    links: list[Link] = []
    findings = recovery.findings
    for link in recovery.links:
        keep_on()
        try:
            with open_segment(files, dump_id, link.info.name) as segment:
                for _ in segment.chunks():
                    pass
        except DamageFoundError as error:
            findings += (error.finding,)
            break
        links.append(link)
    place = _end(links[-1]) if links else _start(dump_id, image_bytes)
    return Recovery(_durable(place), tuple(links), findings)


def longest_run(links: Iterable[Link], start: Place, image_bytes: int) -> list[Link]:
    """The run of links from start that reaches furthest; where two reach as far, the one with the longer link earlier.

    A continuation begins at a higher offset, or at the same one behind more chunks: so going through the links from the
    last down sees each before what it continues. Spec: [S-23].
    """
    best: dict[Place, Link] = {}  # where a run begins: its best first link
    reach: dict[Place, int] = {}  # where a run begins: the image offset its best run ends at
    for link in sorted(links, key=lambda link: (-link.info.start, -link.first, link.info.end)):
        if link.info.end > image_bytes:
            continue
        begin, end = _begin(link), _end(link)
        reached = reach.get(end, link.info.end)
        # Ties go to the longer link, which comes later in this order.
        if begin not in best or reached >= reach[begin]:
            best[begin], reach[begin] = link, reached
    run: list[Link] = []
    place = start
    while place in best:
        run.append(best[place])
        place = _end(best[place])
    return run


def _listed(files: Files, dump_id: str, findings: list[Finding] | None) -> list[str]:
    """The names of all segments. findings: gets one if they cannot be listed; None: OSError is raised."""
    try:
        return segment_names(files, dump_id)
    except OSError as error:
        if findings is None:
            raise
        findings.append(_unreadable(SEGMENTS, error))
        return []


def segment_names(files: Files, dump_id: str) -> list[str]:
    """The names of all segments, sound or not. Raises OSError."""
    try:
        names = files.names(f"{dump_id}/{SEGMENTS}")
    except FileNotFoundError:
        return []
    return [name for name in names if segment_range(name) is not None]


def _begin(link: Link) -> Place:
    return link.info.start, link.first, link.chain_before


def _end(link: Link) -> Place:
    return link.info.end, link.first + link.info.chunks, link.chain_after


def _start(dump_id: str, image_bytes: int) -> Place:
    return 0, 0, chain_start(bytes.fromhex(dump_id), image_bytes)


def _durable(place: Place) -> Durable:
    offset, chunks, chain = place
    return Durable(offset, chain, chunks)


def _unreadable(name: str, error: OSError) -> Finding:
    return Finding(Damage.UNREADABLE, name, None, error.strerror or str(error))
