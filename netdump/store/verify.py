"""Checking a dump as it lies on the disk: everything that [S-20], [S-21], [S-31] and [S-40] promise.

Owns the report. Reads only, takes no lock. Damage is never raised: it becomes a finding, and the check goes on behind
it.

What cannot be found, because nothing is kept that would prove it: damage to the headline of a dump that is not
complete, as long as it stays a headline document; and bits of a stored frame that mean nothing, such as *critical* of
a known field ([W-11]) or spare bits of a zstd header. The image restored from such a frame is the same.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netdump.errors import DumpNotFoundError
from netdump.pages import PageState
from netdump.store.documents import (
    check_receipt,
    parse_headline,
    read_headline,
    read_manifest,
    read_origin,
    read_receipt,
)
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import HEADLINE, MANIFEST, ORIGIN, RECEIPT, VMCORE
from netdump.store.recovery import follow_manifest, open_segment, recover
from netdump.store.restore import placed_runs
from netdump.store.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.pages import Run
    from netdump.store.files import File, Files
    from netdump.store.manifest import Manifest
    from netdump.store.origin import Origin
    from netdump.store.segment import SegmentReader, StoredChunk

FINDINGS_MAX: Final = 1000
"""Findings that a report keeps; the others are only counted."""

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    segments, chunks: verified ones. image_bytes: covered by them. more: findings beyond FINDINGS_MAX. view: what is
    wrong with ``vmcore``, which is no damage of the dump: it can be made again, and remade says that it was.
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
            "findings": [_finding_json(found) for found in self.findings],
            "more": self.more,
            "vmcore": None if self.view is None else {**_finding_json(self.view), "remade": self.remade},
        }


def _finding_json(found: Finding) -> dict[str, object]:
    return {"damage": str(found.damage), "file": found.file, "position": found.position, "text": found.text}


def verify_dump(files: Files, dump_id: str, progress: Callable[[int], None] | None = None, since: int = 0) -> Report:
    """Check a dump. progress: called with the image offset reached after each chunk; may raise to stop.

    since: chunks of segments that end before that image offset are not looked at; all else is.
    Raises nothing for damage and nothing for a disk that does not give something back.
    """
    return _Check(files, dump_id, progress, since).run()


class _Check:
    """One check at work."""

    def __init__(self, files: Files, dump_id: str, progress: Callable[[int], None] | None, since: int) -> None:
        self._since: Final = since
        self._files: Final = files
        self._id: Final = dump_id
        self._progress: Final = progress
        self._findings: Final[list[Finding]] = []
        self._more = 0
        self._segments = 0
        self._chunks = 0
        self._totals: Final = Totals()
        self._vmcore: File | None = None
        self._view: Finding | None = None

    def run(self) -> Report:
        """Do it, once."""
        complete = False
        origin: Origin | None = None
        manifest: Manifest | None = None
        with self._noting(ORIGIN):
            origin = read_origin(self._files, self._id)
        with self._noting(MANIFEST):
            complete = self._files.status(f"{self._id}/{MANIFEST}") is not None
            manifest = read_manifest(self._files, self._id, origin)
        with self._noting(HEADLINE):
            self._check_headline(manifest)
        with self._noting(RECEIPT):
            self._check_receipt(complete, manifest)
        image_bytes = manifest.image_bytes if manifest is not None else origin.image_bytes if origin is not None else 0
        try:
            with self._noting(VMCORE):
                self._open_vmcore(image_bytes)
            self._check_segments(manifest, image_bytes)
        finally:
            with self._noting(VMCORE):
                if self._vmcore is not None:
                    self._vmcore.close()
        if manifest is not None and not self._since and not self._findings and self._totals != manifest.totals:
            self._found(Finding(Damage.CONTENT, MANIFEST, None, "its totals are not those of the segments"))
        return Report(
            self._id,
            complete,
            self._segments,
            self._chunks,
            self._totals.image_bytes,
            tuple(self._findings),
            self._more,
            self._view,
        )

    def _found(self, finding: Finding) -> None:
        if finding.file == VMCORE:
            self._view = self._view or finding
        elif len(self._findings) < FINDINGS_MAX:
            self._findings.append(finding)
        else:
            self._more += 1

    @contextmanager
    def _noting(self, file: str, position: int | None = None) -> Iterator[None]:
        """Turn damage and faults of the block into findings. file, position: what is read there."""
        try:
            yield
        except DamageFoundError as error:
            self._found(error.finding)
        except DumpNotFoundError as error:
            self._found(Finding(Damage.MISSING, file, position, str(error)))
        except OSError as error:
            self._found(Finding(Damage.UNREADABLE, file, position, error.strerror or str(error)))

    def _check_headline(self, manifest: Manifest | None) -> None:
        raw = read_headline(self._files, self._id)
        if raw is not None:
            parse_headline(raw, manifest)
        elif manifest is not None and manifest.headline is not None:
            self._found(Finding(Damage.MISSING, HEADLINE, None, "the manifest names a headline, which is not there"))

    def _check_receipt(self, complete: bool, manifest: Manifest | None) -> None:
        receipt = read_receipt(self._files, self._id)
        if receipt is None:
            return
        if not complete:
            self._found(Finding(Damage.CONTENT, RECEIPT, None, "there is a receipt, but no manifest"))
        check_receipt(receipt, manifest)

    def _open_vmcore(self, image_bytes: int) -> None:
        with suppress(FileNotFoundError):
            self._vmcore = self._files.open(f"{self._id}/{VMCORE}")
            size = self._vmcore.size()
            if size != image_bytes:
                self._found(Finding(Damage.VMCORE, VMCORE, None, f"it has {size} bytes instead of {image_bytes}"))

    def _check_segments(self, manifest: Manifest | None, image_bytes: int) -> None:
        if manifest is not None:
            recovery = follow_manifest(self._files, manifest, tolerant=True)
        else:
            recovery = recover(self._files, self._id, image_bytes, tolerant=True)
        for finding in recovery.findings:
            self._found(finding)
        for link in recovery.links:
            if link.info.end <= self._since:
                continue
            with self._noting(link.info.name), open_segment(self._files, self._id, link.info.name) as segment:
                self._check_chunks(segment)

    def _check_chunks(self, segment: SegmentReader) -> None:
        known = len(self._findings) + self._more
        for entry in segment.entries():
            with self._noting(segment.name, entry.position):
                stored = segment.chunk(entry)
                self._chunks += 1
                self._totals.add_chunk(stored.chunk.table, entry.frame_bytes)
                with self._noting(VMCORE, entry.offset):
                    self._compare(stored)
            if self._progress is not None:
                self._progress(entry.offset + entry.length)
        if len(self._findings) + self._more == known:
            self._segments += 1

    def _compare(self, stored: StoredChunk) -> None:
        """Hold a verified chunk against the restored image, if there is one that was right so far."""
        image = self._vmcore
        if image is None or self._view is not None:
            return
        for run, place, raw in placed_runs(stored):
            for done, size in _blocks(image, run, place):
                if run.state is PageState.DATA:
                    expected = bytes(raw[done : done + size])
                elif run.state is PageState.ALIAS:
                    expected = image.read(run.source + done, size)
                else:
                    expected = bytes(size)
                if image.read(place + done, size) != expected:
                    text = f"the {run.state.name.lower()} run at image offset {place} is not what the segments hold"
                    raise DamageFoundError(Finding(Damage.VMCORE, VMCORE, place + done, text))


def _blocks(image: File, run: Run, place: int) -> Iterator[tuple[int, int]]:
    """What is to be read of a run, as (position in it, bytes): all of it, but no holes where zeros are expected."""
    zeros = run.state not in {PageState.DATA, PageState.ALIAS}
    done = 0
    while done < run.length:
        if zeros:
            done = image.next_data(place + done) - place
        size = min(_BLOCK_BYTES, run.length - done)
        if size > 0:
            yield done, size
        done += _BLOCK_BYTES
