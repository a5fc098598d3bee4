"""Writing one dump: chunks into segments, segments under their names, the manifest at the end (store.md 1, 4, 5).

Owns the order in which things become durable. Chunks that were appended and not published count for nothing: after a
fault, a kill or a power cut the dump goes on from the end of the last published segment, and the client sends the
rest again.

A writer that met a fault of the disk is finished: it has dropped its open segment and refuses everything but close().
Whoever opens the dump again finds out from the disk what is durable; nothing that this writer believed is carried
over ([S-04]).
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from netdump.errors import RemoteProtocolError, StorageFaultError, StoreError
from netdump.store.documents import check_receipt, read_headline
from netdump.store.durable import discard, drop, dump_faults, publish, write_durably
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import HEADLINE, MANIFEST, RECEIPT, SEGMENTS, open_segment_name
from netdump.store.manifest import Manifest
from netdump.store.recovery import Durable, open_segment
from netdump.store.segment import SegmentInfo, SegmentWriter
from netdump.store.totals import Totals
from netdump.wire import CHUNK_COST_FLOOR, HEADLINE_RAW_MAX, RECEIPT_MAX, SEGMENT_CHUNKS_MAX, root_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.store.files import File, Files, Lock
    from netdump.store.origin import Origin
    from netdump.store.recovery import Recovery
    from netdump.wire import Chunk


RESTED_S: Final = 3600.0
"""How long after a dump was first offered its earlier segments are verified once more before it is complete.

A host that crashed has not so long, and is not kept waiting for that. One that comes back with a core it has saved, or
after a night without a network, can wait, and still has what has rotted meanwhile.
"""


class _OpenSegment:
    """The segment that is being written, with what it adds to the dump once it is published."""

    __slots__ = ("cost", "file", "partial", "totals", "writer")

    def __init__(self, files: Files, origin: Origin, durable: Durable) -> None:
        self.partial: Final = f"{origin.id}/{SEGMENTS}/{open_segment_name(durable.offset)}"
        discard(files, self.partial)
        self.file: Final[File] = files.create(self.partial)
        try:
            self.writer: Final = SegmentWriter(self.file, origin.dump_id, durable.offset, durable.chunks, durable.chain)
        except BaseException:
            drop(files, self.file, self.partial)
            raise
        self.totals: Final = Totals()
        self.cost = 0


class DumpWriter:
    """The one writer of a dump; holds its lock until close(). Made by Store.open_writer().

    For one thread at a time. Every method may raise StorageFaultError; after that only close() is of use.
    """

    def __init__(
        self,
        files: Files,
        lock: Lock,
        origin: Origin,
        recovery: Recovery,
        *,
        manifest: Manifest | None,
        has_headline: bool,
        receipt: bytes | None,
        clock: Callable[[], float],
    ) -> None:
        self._files: Final = files
        self._lock: Final = lock
        self._clock: Final = clock
        self._receipt = receipt
        self._open: _OpenSegment | None = None
        self._segments: Final[list[SegmentInfo]] = [link.info for link in recovery.links]
        # Sums over segments of earlier writers need a look into each of them: only when the manifest is due.
        self._uncounted: Final = tuple(self._segments)
        self._totals: Final = Totals()
        self._unusable = ""
        self.origin: Final = origin
        self.durable = recovery.durable
        self.has_headline = has_headline
        self.manifest = manifest
        self.stored_bytes = sum(info.file_bytes for info in self._segments)
        """Of the segments that are durable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending_cost(self) -> int:
        """Cost ([W-57]) of the chunks that were appended and are not durable."""
        return 0 if self._open is None else self._open.cost

    @property
    def pending_bytes(self) -> int:
        """Bytes in the open segment."""
        return 0 if self._open is None else self._open.writer.bytes

    def put_headline(self, raw: bytes) -> None:
        """Make the raw headline document durable; it was verified.

        The first one counts: with has_headline nothing happens.
        """
        assert len(raw) <= HEADLINE_RAW_MAX
        with self._working("storing the headline of"):
            if not self.has_headline:
                write_durably(self._files, f"{self.origin.id}/{HEADLINE}", raw)
                self.has_headline = True

    def append(self, chunk: Chunk, raw_bytes: int) -> None:
        """Add a received chunk that verify_chunk() has passed; raw_bytes: of its raw data.

        Not durable before publish().

        Publishes by itself when the segment can take no more chunks. Raises StoreError for a complete dump,
        RemoteProtocolError (bad-order, bad-field) for a chunk that does not begin where the one before ended, or ends
        beyond the image.
        """
        if self.manifest is not None:
            raise StoreError(f"dump {self.origin.id} is complete, nothing can be added to it")
        if chunk.offset != (self.durable.offset if self._open is None else self._open.writer.end):
            raise RemoteProtocolError(
                "bad-order", f"a chunk at image offset {chunk.offset} does not follow the one before"
            )
        if chunk.offset + chunk.length > self.origin.image_bytes:
            raise RemoteProtocolError("bad-field", f"the chunk at image offset {chunk.offset} ends beyond the image")
        if self._open is not None and self._open.writer.chunks == SEGMENT_CHUNKS_MAX:
            self.publish()
        with self._working("storing chunks of"):
            if self._open is None:
                self._open = _OpenSegment(self._files, self.origin, self.durable)
            self._open.writer.append(chunk, raw_bytes)
            self._open.totals.add_chunk(chunk.table, len(chunk.frame))
            self._open.cost += raw_bytes + CHUNK_COST_FLOOR

    def publish(self) -> Durable:
        """Make all appended chunks durable and return up to where the dump is now.

        Without pending chunks nothing happens.
        """
        with self._working("publishing a segment of"):
            if self._open is not None:
                segment = self._open
                link = segment.writer.finish()
                publish(self._files, segment.file, segment.partial, f"{self.origin.id}/{SEGMENTS}/{link.info.name}")
                self._open = None
                self._segments.append(link.info)
                self.stored_bytes += link.info.file_bytes
                self._totals.add(segment.totals)
                self.durable = Durable(link.info.end, link.chain_after, link.first + link.info.chunks)
        return self.durable

    def finish(self, root: bytes, remark: str = "", *, on_read: Callable[[], None] = lambda: None) -> Manifest:
        """Publish the rest and, if the chunks tile the image and have that root, write the manifest: complete.

        remark: of FINISH, kept in the manifest. on_read: called after each segment that had to be read for it, when all
        of the image is durable. Of a complete dump the manifest is returned again.

        Raises RemoteProtocolError (bad-order, bad-root), and StorageFaultError also when an earlier segment has been
        damaged meanwhile: it is removed, so that the host, which still has all of it, sends it again. Spec: [S-30],
        [W-65].
        """
        if self.manifest is None:
            durable = self.publish()
            if durable.offset != self.origin.image_bytes:
                text = f"the chunks of dump {self.origin.id} end at {durable.offset} of {self.origin.image_bytes} bytes"
                raise RemoteProtocolError("bad-order", text)
            expected = root_digest(durable.chain, durable.offset, durable.chunks)
        else:
            expected = self.manifest.root
        if root != expected:
            raise RemoteProtocolError("bad-root", f"the root of dump {self.origin.id} is not that of its chunks")
        if self.manifest is None:
            with self._working("completing"):
                manifest = self._build_manifest(root, remark, on_read)
                write_durably(self._files, f"{self.origin.id}/{MANIFEST}", manifest.pack())
                self.manifest = manifest
        return self.manifest

    def put_receipt(self, document: bytes) -> None:
        """Make the signed receipt of a complete dump durable. The first one counts: with a receipt nothing happens."""
        assert self.manifest is not None, "a receipt is for a complete dump"
        assert len(document) <= RECEIPT_MAX
        check_receipt(document, self.manifest)
        with self._working("storing the receipt of"):
            if self._receipt is None:
                write_durably(self._files, f"{self.origin.id}/{RECEIPT}", document)
                self._receipt = document

    def receipt(self) -> bytes | None:
        """The receipt, if there is one."""
        return self._receipt

    def close(self) -> None:
        """Drop what is not published and give the lock back. Never raises for a fault; may be called again."""
        self._unusable = self._unusable or "the writer is closed"
        self._drop_open()
        with suppress(OSError):
            self._lock.release()

    @contextmanager
    def _working(self, doing: str) -> Iterator[None]:
        """Run the block if no fault has ended this writer; let a fault end it."""
        if self._unusable:
            raise StorageFaultError(f"{doing} dump {self.origin.id}: {self._unusable}; open the dump again")
        try:
            with dump_faults(doing, self.origin.id):
                yield
        except StorageFaultError:
            self._unusable = "an earlier fault of the disk"
            self._drop_open()
            raise

    def _drop_open(self) -> None:
        segment, self._open = self._open, None
        if segment is not None:
            drop(self._files, segment.file, segment.partial)

    def _build_manifest(self, root: bytes, remark: str, on_read: Callable[[], None]) -> Manifest:
        headline = read_headline(self._files, self.origin.id)
        return Manifest(
            id=self.origin.id,
            host=self.origin.host,
            image_bytes=self.origin.image_bytes,
            chunks=self.durable.chunks,
            root=root,
            headline=None if headline is None else hashlib.sha256(headline).digest(),
            completed=int(self._clock()),
            totals=self._count_all(on_read),
            segments=tuple(self._segments),
            remark=remark,
        )

    def _count_all(self, on_read: Callable[[], None]) -> Totals:
        """Totals over the whole dump.

        Segments that other writers published are read for that: of each frame the beginning, or, where they may have
        lain for long, all of it, and verified.
        """
        totals = Totals()
        totals.add(self._totals)
        for info in self._uncounted:
            try:
                totals.add(self._count(info))
            except DamageFoundError as error:
                # Not kept: the host still has all of it, and has not been told that the dump is complete.
                discard(self._files, f"{self.origin.id}/{SEGMENTS}/{info.name}")
                raise StorageFaultError(
                    f"completing dump {self.origin.id}: a stored segment was damaged and is removed, "
                    f"so that the host sends it again: {error.finding}"
                ) from error
            on_read()
        return totals

    def _count(self, info: SegmentInfo) -> Totals:
        """Totals of one segment. Raises DamageFoundError, OSError."""
        totals = Totals()
        rested = not 0 <= self._clock() - self.origin.created <= RESTED_S
        with open_segment(self._files, self.origin.id, info.name) as segment:
            for entry in segment.entries():
                try:
                    table = segment.chunk(entry).chunk.table if rested else segment.run_table(entry)
                    totals.add_chunk(table, entry.frame_bytes)
                except ValueError as error:
                    raise DamageFoundError(Finding(Damage.BAD_CHUNK, info.name, entry.position, str(error))) from None
        if totals.image_bytes != info.end - info.start:
            text = "its run tables do not add up to the image that it holds"
            raise DamageFoundError(Finding(Damage.BAD_CHUNK, info.name, None, text))
        return totals
