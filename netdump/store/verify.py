"""Checking a dump as it lies on the disk: everything that [S-20], [S-21], [S-31] and [S-40] promise.

Owns the report. Reads only, takes no lock. Damage is never raised: it becomes a finding, and the check goes on behind
it.

What cannot be found, because nothing is kept that would prove it: damage to the headline of a dump that is not
complete, as long as it stays a headline document; and bits of a stored frame that mean nothing, such as *critical* of
a known field ([W-11]) or spare bits of a zstd header. The image restored from such a frame is the same.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager, suppress
from threading import Event
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
from netdump.store.findings import Damage, DamageFoundError, Finding, Report
from netdump.store.layout import HEADLINE, MANIFEST, ORIGIN, RECEIPT, VMCORE
from netdump.store.recovery import follow_manifest, open_segment, recover
from netdump.store.restore import placed_runs
from netdump.store.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor, Future

    from netdump.pages import Run
    from netdump.store.files import File, Files
    from netdump.store.manifest import Manifest
    from netdump.store.origin import Origin
    from netdump.store.segment import SegmentInfo, StoredChunk

FINDINGS_MAX: Final = 1000
"""Findings that a report keeps; the others are only counted."""

_BLOCK_BYTES: Final = 1 << 20

_DATA: Final = PageState.DATA  # there may be millions of runs, and looking a member up takes long in Python 3.11
_ALIAS: Final = PageState.ALIAS
_WITH_BYTES: Final = frozenset((_DATA, _ALIAS))


def verify_dump(
    files: Files, dump_id: str, progress: Callable[[int], None] | None = None, since: int = 0, threads: int = 1
) -> Report:
    """Check a dump. progress: called in this thread with the image offset reached after each chunk; may raise to stop.

    since: chunks of segments that end before that image offset are not looked at; all else is. threads: that check
    segments, each with a chunk in memory; with more than one, progress is called after each segment.
    Raises nothing for damage and nothing for a disk that does not give something back.
    """
    return _Check(files, dump_id, progress, since, threads).run()


class _StoppedError(Exception):
    """Nobody wants the rest any more."""


class _Notes:
    """What was found of a dump, or of a part of it, in the order of the image."""

    def __init__(self) -> None:
        self.findings: Final[list[Finding]] = []
        self.more = 0
        self.view: Finding | None = None
        self.segments = 0
        self.chunks = 0
        self.totals: Final = Totals()

    def found(self, finding: Finding) -> None:
        """One more."""
        if finding.file == VMCORE:
            self.view = self.view or finding
        elif len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)
        else:
            self.more += 1

    def add(self, other: _Notes) -> None:
        """All that was found behind it."""
        for finding in (*other.findings, *([other.view] if other.view is not None else [])):
            self.found(finding)
        self.more += other.more
        self.segments += other.segments
        self.chunks += other.chunks
        self.totals.add(other.totals)

    @contextmanager
    def noting(self, file: str, position: int | None = None) -> Iterator[None]:
        """Turn damage and faults of the block into findings. file, position: what is read there."""
        try:
            yield
        except DamageFoundError as error:
            self.found(error.finding)
        except DumpNotFoundError as error:
            self.found(Finding(Damage.MISSING, file, position, str(error)))
        except OSError as error:
            self.found(Finding(Damage.UNREADABLE, file, position, error.strerror or str(error)))


class _Check:
    """One check at work. progress: called in the thread of `run`."""

    def __init__(
        self, files: Files, dump_id: str, progress: Callable[[int], None] | None, since: int, threads: int
    ) -> None:
        self._since: Final = since
        self._files: Final = files
        self._id: Final = dump_id
        self._progress: Final = progress or (lambda _offset: None)
        self._threads: Final = threads
        self._stop: Final = Event()
        self._notes: Final = _Notes()
        self._vmcore: File | None = None

    def run(self) -> Report:
        """Do it, once."""
        notes = self._notes
        complete = False
        origin: Origin | None = None
        manifest: Manifest | None = None
        with notes.noting(ORIGIN):
            origin = read_origin(self._files, self._id)
        with notes.noting(MANIFEST):
            complete = self._files.status(f"{self._id}/{MANIFEST}") is not None
            manifest = read_manifest(self._files, self._id, origin)
        with notes.noting(HEADLINE):
            self._check_headline(manifest)
        with notes.noting(RECEIPT):
            self._check_receipt(complete, manifest)
        image_bytes = manifest.image_bytes if manifest is not None else origin.image_bytes if origin is not None else 0
        try:
            with notes.noting(VMCORE):
                self._open_vmcore(image_bytes)
            self._check_segments(manifest, image_bytes)
        finally:
            with notes.noting(VMCORE):
                if self._vmcore is not None:
                    self._vmcore.close()
        if manifest is not None and not self._since and not notes.findings and notes.totals != manifest.totals:
            notes.found(Finding(Damage.CONTENT, MANIFEST, None, "its totals are not those of the segments"))
        return Report(
            self._id,
            complete,
            notes.segments,
            notes.chunks,
            notes.totals.image_bytes,
            tuple(notes.findings),
            notes.more,
            notes.view,
            origin=origin,
        )

    def _check_headline(self, manifest: Manifest | None) -> None:
        raw = read_headline(self._files, self._id)
        if raw is not None:
            parse_headline(raw, manifest)
        elif manifest is not None and manifest.headline is not None:
            self._notes.found(
                Finding(Damage.MISSING, HEADLINE, None, "the manifest names a headline, which is not there")
            )

    def _check_receipt(self, complete: bool, manifest: Manifest | None) -> None:
        receipt = read_receipt(self._files, self._id)
        if receipt is None:
            return
        if not complete:
            self._notes.found(Finding(Damage.CONTENT, RECEIPT, None, "there is a receipt, but no manifest"))
        check_receipt(receipt, manifest)

    def _open_vmcore(self, image_bytes: int) -> None:
        with suppress(FileNotFoundError):
            self._vmcore = self._files.open(f"{self._id}/{VMCORE}")
            size = self._vmcore.size()
            if size != image_bytes:
                text = f"it has {size} bytes instead of {image_bytes}"
                self._notes.found(Finding(Damage.VMCORE, VMCORE, None, text))

    def _check_segments(self, manifest: Manifest | None, image_bytes: int) -> None:
        if manifest is not None:
            recovery = follow_manifest(self._files, manifest, tolerant=True)
        else:
            recovery = recover(self._files, self._id, image_bytes, tolerant=True)
        for finding in recovery.findings:
            self._notes.found(finding)
        infos = [link.info for link in recovery.links if link.info.end > self._since]
        if self._threads == 1:
            for info in infos:
                self._notes.add(self._check_segment(info, self._progress))
            return
        from netdump.threads import Threads  # noqa: PLC0415 - brings logging; few commands verify

        with Threads(self._threads, "check") as pool:
            try:
                self._gather(pool, infos)
            finally:
                self._stop.set()

    def _gather(self, pool: Executor, infos: list[SegmentInfo]) -> None:
        """Check segments in threads, one for each ahead of the one that is waited for, and note in their order."""
        under_way: deque[tuple[SegmentInfo, Future[_Notes]]] = deque()
        for info in infos:
            under_way.append((info, pool.submit(self._check_segment, info, self._until_stop)))
            if len(under_way) > self._threads:
                self._take(*under_way.popleft())
        while under_way:
            self._take(*under_way.popleft())

    def _take(self, info: SegmentInfo, notes: Future[_Notes]) -> None:
        self._notes.add(notes.result())
        self._progress(info.end)

    def _until_stop(self, _offset: int) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _check_segment(self, info: SegmentInfo, progress: Callable[[int], None]) -> _Notes:
        """From any thread."""
        notes = _Notes()
        with notes.noting(info.name), open_segment(self._files, self._id, info.name) as segment:
            for entry in segment.entries():
                with notes.noting(segment.name, entry.position):
                    stored = segment.chunk(entry)
                    notes.chunks += 1
                    notes.totals.add_chunk(stored.chunk.table, entry.frame_bytes)
                    with notes.noting(VMCORE, entry.offset):
                        self._compare(stored, notes)
                progress(entry.offset + entry.length)
            notes.segments = int(not notes.findings)
        return notes

    def _compare(self, stored: StoredChunk, notes: _Notes) -> None:
        """Hold a verified chunk against the restored image, if there is one that was right so far."""
        image = self._vmcore
        if image is None or self._notes.view is not None or notes.view is not None:
            return
        hole_end = 0  # of the hole in the image that was found last
        for run, place, raw in placed_runs(stored):
            end = place + run.length
            if run.state not in _WITH_BYTES:
                if end > hole_end:
                    hole_end = image.next_data(place)
                if end <= hole_end:
                    continue
            for done, size in _blocks(image, run, place):
                if run.state is _DATA:
                    expected = bytes(raw[done : done + size])
                elif run.state is _ALIAS:
                    expected = image.read(run.source + done, size)
                else:
                    expected = bytes(size)
                if image.read(place + done, size) != expected:
                    text = f"the {run.state.name.lower()} run at image offset {place} is not what the segments hold"
                    raise DamageFoundError(Finding(Damage.VMCORE, VMCORE, place + done, text))


def _blocks(image: File, run: Run, place: int) -> Iterator[tuple[int, int]]:
    """What is to be read of a run, as (position in it, bytes): all of it, but no holes where zeros are expected."""
    zeros = run.state not in _WITH_BYTES
    done = 0
    while done < run.length:
        if zeros:
            done = image.next_data(place + done) - place
        size = min(_BLOCK_BYTES, run.length - done)
        if size > 0:
            yield done, size
        done += _BLOCK_BYTES
