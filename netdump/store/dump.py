"""Reading one dump, complete or not (store.md).

Owns what a reader may believe. Takes the lock only to make or drop the dump's ``vmcore``.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError, DamagedError, DumpNotFoundError, IncompleteDumpError, StoreError
from netdump.store.documents import parse_headline, read_headline, read_manifest, read_origin, read_receipt
from netdump.store.durable import discard, dump_faults
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import HEADLINE, LOCK, SEGMENTS, VMCORE
from netdump.store.recovery import follow_manifest, open_segment, recover, segment_names
from netdump.store.restore import Restoration, Restored, Wanted, restore
from netdump.store.runtables import read_run_tables
from netdump.store.verify import verify_dump

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from netdump.store.files import Files
    from netdump.store.findings import Report
    from netdump.store.manifest import Manifest
    from netdump.store.origin import Origin
    from netdump.store.recovery import Durable, Recovery
    from netdump.store.runtables import RunTable
    from netdump.store.segment import SegmentInfo, SegmentReader
    from netdump.wire import HeadlineDocument


class Dump:
    """A dump as it stands on the disk now. Safe for several threads.

    Every call and property looks again, except for origin and manifest, which do not change. Made by Store.dump().
    Everything may raise DamagedError and StorageFaultError.
    """

    def __init__(self, files: Files, root: Path, dump_id: str) -> None:
        self._files: Final = files
        self._root: Final = root
        self._origin: Origin | None = None
        self._manifest: Manifest | None = None
        self.id: Final = dump_id

    @property
    def origin(self) -> Origin:
        """Whose dump it is. Raises DumpNotFoundError when the folder has no origin (yet)."""
        if self._origin is None:
            with self._reading():
                self._origin = read_origin(self._files, self.id)
        return self._origin

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of a complete dump, else None. What its segments are worth by now is for verify() to say."""
        if self._manifest is None:
            with self._reading():
                self._manifest = read_manifest(self._files, self.id, self.origin)
        return self._manifest

    def believed_manifest(self) -> Manifest | None:
        """The manifest of a complete dump; None also if it is damaged: then nothing proves the dump to be whole."""
        try:
            return self.manifest
        except DamagedError:
            return None

    @property
    def complete(self) -> bool:
        """Whether there is a manifest."""
        return self.manifest is not None

    @property
    def receipt(self) -> bytes | None:
        """The signed receipt as it stands, if there is one."""
        with self._reading():
            return read_receipt(self._files, self.id)

    @property
    def has_headline(self) -> bool:
        """Whether there is a headline; it is not read."""
        with self._reading():
            return self._files.status(f"{self.id}/{HEADLINE}") is not None

    @property
    def has_segments(self) -> bool:
        """Whether there is a segment, sound or not; none is read."""
        with self._reading():
            return bool(segment_names(self._files, self.id))

    @property
    def headline_bytes(self) -> bytes | None:
        """The raw headline document, if there is one."""
        with self._reading():
            return read_headline(self._files, self.id)

    def headline(self) -> HeadlineDocument | None:
        """The headline document, if there is one; checked against the manifest if there is a sound one."""
        raw, manifest = self.headline_bytes, self.believed_manifest()
        with self._reading():
            return None if raw is None else parse_headline(raw, manifest)

    def read_log(self) -> bytes:
        """The kernel log of the headline; empty if there is none."""
        headline = self.headline()
        return b"" if headline is None or headline.log is None else headline.log

    def segments(self) -> list[SegmentInfo]:
        """The segments that count, in order: those of the manifest, else the longest durable run ([S-23]).

        Where the manifest is damaged it is that run as well: what can still be had. Every call reads all segment tables
        then, and of a dump that is not complete.
        """
        manifest = self.believed_manifest()
        if manifest is not None:
            return list(manifest.segments)
        with self._reading():
            return [link.info for link in recover(self._files, self.id, self.origin.image_bytes).links]

    @property
    def durable(self) -> Durable:
        """Up to where the dump is durable.

        Reads all segment tables. Of a damaged complete dump: raises DamagedError.
        """
        recovery = self._recovery()
        if self.complete and recovery.findings:
            raise DamageFoundError(recovery.findings[0], self.id)
        return recovery.durable

    @property
    def size_on_disk(self) -> int:
        """Bytes that the dump occupies, ``vmcore`` with its holes and unfinished files included."""
        with self._reading():
            total = 0
            for folder in (self.id, f"{self.id}/{SEGMENTS}"):
                for name in self._files.names(folder):
                    status = self._files.status(f"{folder}/{name}")
                    total += 0 if status is None or status.is_folder else status.disk_bytes
            return total

    @property
    def vmcore_path(self) -> Path | None:
        """Where the restored image is, if it was made."""
        with self._reading():
            found = self._files.status(f"{self.id}/{VMCORE}")
        return None if found is None else self._root / self.id / VMCORE

    def open_segment(self, name: str) -> SegmentReader:
        """One of segments() by its name, found sound; to be closed by the caller.

        Raises StoreError for any other name.
        """
        for info in self.segments():
            if info.name == name:
                return self._open(info)
        raise StoreError(f"dump {self.id} has no segment {name!r}")

    def run_tables(self) -> Generator[RunTable, None, None]:
        """The run tables of all chunks in image order, from 0 to where the dump reaches. Nothing is decompressed.

        Raises DamagedError while it goes on, when it comes to what is not sound.
        """
        for segment in self._open_all(self.segments()):
            with self._reading():
                yield from read_run_tables(segment)

    def reassemble(self, target: Path | None = None, progress: Callable[[int], None] | None = None) -> Restored:
        """Restore the image, every digest verified. Spec: store.md 7.

        target: a file to make or replace; None: ``vmcore`` in the dump's folder (takes the lock: BusyError), for
        complete dumps only (IncompleteDumpError). Of an incomplete dump what is durable is restored, under target's
        name and ``.incomplete``. progress: called in this thread with the image offset reached, after each chunk; may
        raise to stop.
        """
        manifest, segments = self.manifest, self.segments()
        wanted = Wanted(self.origin.dump_id, self.origin.image_bytes, None if manifest is None else manifest.root)
        if not segments:
            raise IncompleteDumpError(f"nothing of the image of dump {self.id} has arrived yet")
        if target is not None:
            with closing(self._open_all(segments)) as opened:
                return restore(opened, target, wanted, progress)
        if manifest is None:
            raise IncompleteDumpError(f"dump {self.id} is not complete: it can only be restored to a file elsewhere")
        with self._reading():
            try:
                lock = self._files.lock(f"{self.id}/{LOCK}")
            except BlockingIOError:
                raise BusyError(f"dump {self.id} is being written, restored or deleted; try again later") from None
            except FileNotFoundError:
                raise DumpNotFoundError(f"there is no dump {self.id} any more") from None
            with (
                Restoration(self._files, self._root, f"{self.id}/{VMCORE}", wanted, lock) as restoration,
                closing(self._open_all(segments)) as opened,
            ):
                for segment in opened:
                    restoration.write(segment, progress)
                return restoration.finish()

    def drop_vmcore(self) -> None:
        """Remove ``vmcore`` if it is there: it can be made again at any time ([S-03])."""
        with self._reading():
            discard(self._files, f"{self.id}/{VMCORE}")

    def verify(self, progress: Callable[[int], None] | None = None, since: int = 0, threads: int = 1) -> Report:
        """Check everything there is, ``vmcore`` included; of segments that end before image offset since the tables.

        Damage ends up in the report and is never raised. Spec: [S-31].
        """
        return verify_dump(self._files, self.id, progress, since, threads)

    def has_replaced(self, report: Report) -> bool:
        """Whether this is another dump than the one that was checked: that was deleted, and sent again.

        Raises DumpNotFoundError if there is none.
        """
        return report.origin is not None and report.origin != self.origin

    def _recovery(self) -> Recovery:
        manifest = self.manifest
        with self._reading():
            if manifest is None:
                return recover(self._files, self.id, self.origin.image_bytes)
            return follow_manifest(self._files, manifest)

    def _open_all(self, segments: list[SegmentInfo]) -> Generator[SegmentReader, None, None]:
        for info in segments:
            with self._open(info) as segment:
                yield segment

    def _open(self, info: SegmentInfo) -> SegmentReader:
        with self._reading():
            segment = open_segment(self._files, self.id, info.name)
        if segment.info != info:
            segment.close()
            text = "it is sound, but not the segment that the manifest names"
            raise DamageFoundError(Finding(Damage.OTHER_SEGMENT, info.name, None, text), self.id)
        return segment

    def _reading(self) -> AbstractContextManager[None]:
        return dump_faults("reading", self.id)
