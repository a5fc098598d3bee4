"""From segments back to the image (store.md section 7).

Owns how an image is put together: raw data at its place, holes for zeros, alias runs by reading back what stands at
their source. Every chunk is verified as it is written. The image gets its name only when all of it is there; until
then it is ``NAME.partial``. Memory: one chunk and one segment table, whatever the size of the image, and twelve bytes
for each chunk with aliases. Must not know dumps' folders: it takes segments from anywhere, so it serves the collector
and the analyst alike.

Two ways:

``restore(segments, target, ...)``
    takes segments in image order, from a list or while they arrive, and does everything;
``Restoration``
    takes them in any order, from several threads: ``write_data(segment)`` for each, then ``write_aliases(segment)``
    for each in image order (cheap where there are none; the segment's skeleton must still be at hand), then
    ``finish()``. An alias says "the bytes of the image at source", and those may be an alias themselves, so aliases
    come last and in order ([W-49]). One that was left() can be taken up again: of segments whose data it has got,
    ``check_data(skeleton)`` does the work of ``write_data(segment)``.

What is not complete is restored up to where its segments reach, and is named ``NAME.incomplete`` ([S-41]).
"""

from __future__ import annotations

import hashlib
from array import array
from contextlib import contextmanager, suppress
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING, Final, Self

from netdump.errors import BusyError
from netdump.namedtuple import NamedTuple
from netdump.pages import PageState
from netdump.store.durable import discard, drop, publish, storage_faults
from netdump.store.files import LocalFiles
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import PARTIAL
from netdump.store.runtables import read_run_tables
from netdump.store.segment import SegmentReader
from netdump.wire import chain_start, chunk_digest, root_digest, unpack_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from netdump.pages import Run
    from netdump.store.files import Buffer, File, Files, Lock
    from netdump.store.segment import Entry, Link, StoredChunk

INCOMPLETE: Final = ".incomplete"
LOCK: Final = ".lock"
"""What is held behind the name of an image while it is restored."""
_BLOCK_BYTES: Final = 65536  # of an alias copied at once; a block of zeros stays a hole
_ZEROS: Final = bytes(_BLOCK_BYTES)

_DATA: Final = PageState.DATA  # there may be millions of runs, and looking a member up takes long in Python 3.11
_ALIAS: Final = PageState.ALIAS


class Restored(NamedTuple):
    """A restored image. bytes: its length, which is that of the image if it is complete."""

    path: Path
    bytes: int
    complete: bool


class Wanted(NamedTuple):
    """What is to be restored. root: that of the manifest; None: the dump is not complete, take what there is."""

    dump_id: bytes
    image_bytes: int
    root: bytes | None


def read_segment(path: Path, name: str, dump_id: bytes) -> SegmentReader:
    """Open a segment that lies anywhere.

    name: the one it has in its dump. Raises DamageFoundError, StorageFaultError.
    """
    with storage_faults(f"reading {path}"):
        return SegmentReader(LocalFiles(path.parent).open(path.name), name, dump_id)


def restore(
    segments: Iterable[SegmentReader], target: Path, wanted: Wanted, progress: Callable[[int], None] | None = None
) -> Restored:
    """Restore an image from its segments, which come in image order and stay the caller's to close.

    An older target is replaced.

    progress: called with the image offset reached after each chunk; may raise to stop. After any error the target is
    as before. Raises DamageFoundError, BusyError (another restores to the same target), StorageFaultError.
    """
    with Restoration.to(target, wanted) as restoration:
        for segment in segments:
            restoration.write(segment, progress)
        return restoration.finish()


class Restoration:
    """An image that is being restored. Leaving a with block without finish() removes what was written.

    write_data() and check_data() are safe for several threads with different segments; everything else is for one
    thread, with no other at work.
    """

    def __init__(
        self, files: Files, folder: Path, name: str, wanted: Wanted, lock: Lock, *, begun: File | None = None
    ) -> None:
        """files, name: where the image goes; folder: what files is rooted in, for Restored.path. Raises OSError.

        lock: what keeps others from restoring to the same name; released by close(), and if this raises. begun: the
        image that an earlier restoration has left, which nobody vouches for.
        """
        self._files: Final = files
        self._wanted: Final = wanted
        self._name: Final = name if wanted.root is not None else name + INCOMPLETE
        # The same whether the dump is complete or not, which it may become before this is taken up again.
        self._partial: Final = name + PARTIAL
        self._path: Final = folder / self._name
        self._lock: Final = lock
        self._links: Final[dict[int, Link]] = {}
        # By segment: which of its chunks have aliases, and a tag of the run table that was verified.
        self._aliased: Final[dict[int, tuple[array[int], array[int]]]] = {}
        self._guard: Final = ThreadLock()
        self._filled_to = 0  # aliases before this offset are written
        self._begun: Final = begun is not None
        try:
            if begun is None:
                discard(files, self._partial)
                begun = files.create(self._partial)
            self._file: Final = begun
        except BaseException:
            lock.release()
            raise

    @classmethod
    def to(cls, target: Path, wanted: Wanted, *, again: bool = False) -> Restoration:
        """A restoration to a file anywhere. again: take up what an earlier one has left, finished or not, if it has.

        Raises BusyError while another one has the same target, StorageFaultError.
        """
        files, name = LocalFiles(target.parent), target.name
        with storage_faults(f"restoring to {target}"):
            try:
                lock = files.lock(name + LOCK)
            except BlockingIOError:
                raise BusyError(f"{target} is being restored by another process") from None
            held = _LockFile(files, name + LOCK, lock)
            try:
                begun = _take_up(files, name) if again else None
            except BaseException:
                held.release()
                raise
            return cls(files, target.parent, name, wanted, held, begun=begun)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, segment: SegmentReader, progress: Callable[[int], None] | None = None) -> None:
        """Write all of the next segment in image order. Raises DamageFoundError, StorageFaultError."""
        assert segment.info.start == self._filled_to, "segments are written in image order"
        with self._working(segment):
            for stored in segment.chunks():
                self._write_runs(stored, aliases=True)
                if progress is not None:
                    progress(stored.chunk.offset + stored.chunk.length)
        self._filled_to = segment.info.end
        self._links[segment.info.start] = segment.link

    def write_data(self, segment: SegmentReader) -> None:
        """Write the raw data of a segment, in any order.

        Again is harmless. Raises DamageFoundError, StorageFaultError.
        """
        aliased, tags = array("I"), array("Q")
        with self._working(segment):
            for number, stored in enumerate(segment.chunks()):
                if self._write_runs(stored, aliases=False):
                    aliased.append(number)
                    tags.append(_tag(stored.chunk.table))
        self._remember(segment, aliased, tags)

    def check_data(self, segment: SegmentReader) -> None:
        """As write_data(), of a segment whose data the image has got already: they are verified where they are.

        segment: its skeleton will do. Raises DamageFoundError, StorageFaultError.
        """
        aliased, tags = array("I"), array("Q")
        with self._working(segment):
            tables = (each.table for each in read_run_tables(segment))
            for number, (entry, table) in enumerate(zip(segment.entries(), tables, strict=True)):
                if self._check_runs(segment, entry, table):
                    aliased.append(number)
                    tags.append(_tag(table))
        self._remember(segment, aliased, tags)

    def write_aliases(self, segment: SegmentReader) -> None:
        """Write the alias runs of a segment: once all data is written, segment by segment in image order.

        Raises DamageFoundError, StorageFaultError.
        """
        info = segment.info
        assert self._links.get(info.start) == segment.link, "its data was not written"
        assert info.start == self._filled_to, "aliases are written in image order"
        if info.start in self._aliased:
            with self._working(segment):
                entries = list(segment.entries())
                for number, tag in zip(*self._aliased[info.start], strict=True):
                    self._write_chunk_aliases(segment, entries[number], tag)
        self._filled_to = info.end

    def _write_chunk_aliases(self, segment: SegmentReader, entry: Entry, tag: int) -> None:
        table = segment.run_table(entry)
        if _tag(table) != tag:
            text = f"the run table of the chunk at image offset {entry.offset} has changed since it was verified"
            raise DamageFoundError(Finding(Damage.BAD_DIGEST, segment.name, entry.position, text))
        place = entry.offset
        for run in unpack_runs(table, entry.offset, entry.length):
            if run.state is _ALIAS:
                self._copy(run.source, place, run.length)
            place += run.length

    def finish(self) -> Restored:
        """Check that the segments are the dump, make the image durable and give it its name.

        Raises DamageFoundError (missing, bad-root), StorageFaultError: then nothing can be taken up again.
        """
        end = self._check_run()
        with storage_faults(f"restoring to {self._path}"):
            self._file.resize(end)
            try:
                publish(self._files, self._file, self._partial, self._name)
            except OSError:
                # What a failed sync has left in doubt reads back well until the machine needs the memory, [S-04].
                drop(self._files, self._file, self._partial)
                raise
        return Restored(self._path, end, self._wanted.root is not None)

    def close(self) -> None:
        """Drop what is not finished and let others restore to the same name.

        Never raises for a fault; may be called again.
        """
        drop(self._files, self._file, self._partial)
        with suppress(OSError):
            self._lock.release()

    def leave(self) -> None:
        """As close(), but what is not finished stays, to be taken up again."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._lock.release()

    @contextmanager
    def _working(self, segment: SegmentReader) -> Iterator[None]:
        """Let faults and damage of the block say where. What lies beyond the image is refused unwritten."""
        wanted = self._wanted
        if segment.info.end > wanted.image_bytes:
            text = f"it ends at {segment.info.end}, beyond the image of {wanted.image_bytes} bytes"
            raise DamageFoundError(Finding(Damage.OTHER_SEGMENT, segment.name, None, text), wanted.dump_id.hex())
        try:
            with storage_faults(f"restoring to {self._path}"):
                yield
        except DamageFoundError as error:
            raise DamageFoundError(error.finding, wanted.dump_id.hex()) from None

    def _remember(self, segment: SegmentReader, aliased: array[int], tags: array[int]) -> None:
        with self._guard:
            self._links[segment.info.start] = segment.link
            if aliased:
                self._aliased[segment.info.start] = aliased, tags

    def _write_runs(self, stored: StoredChunk, *, aliases: bool) -> bool:
        """Write a chunk, with or without its aliases. Returns whether it has any."""
        found = False
        for run, place, raw in placed_runs(stored):
            if run.state is _DATA:
                self._file.write_at(place, raw)
                continue
            if self._begun:
                self._clear(place, run.length)
            if run.state is _ALIAS:
                found = True
                if aliases:
                    self._copy(run.source, place, run.length)
        return found

    def _check_runs(self, segment: SegmentReader, entry: Entry, table: bytes) -> bool:
        """Verify a chunk whose data are in the image. Returns whether it has aliases."""
        aliases, place, data = False, entry.offset, []
        for run in unpack_runs(table, entry.offset, entry.length):
            aliases = aliases or run.state is _ALIAS
            if run.state is _DATA:
                data.append(self._file.read(place, run.length))
            elif self._begun:
                self._clear(place, run.length)
            place += run.length
        if chunk_digest(entry.offset, entry.length, table, data) != entry.digest:
            text = f"the image does not hold the data of the chunk at image offset {entry.offset}"
            raise DamageFoundError(Finding(Damage.BAD_DIGEST, segment.name, entry.position, text))
        return aliases

    def _clear(self, place: int, length: int) -> None:
        """Let a stretch read as zeros, whatever an earlier restoration has left there."""
        end = place + length
        while (place := self._file.next_data(place)) < end:
            block = self._file.read(place, min(_BLOCK_BYTES, end - place))
            if block != _ZEROS[: len(block)]:
                self._file.write_at(place, _ZEROS[: len(block)])
            if not block:
                return  # the file ends before
            place += len(block)

    def _copy(self, source: int, place: int, length: int) -> None:
        """Copy within the image. source + length <= place. What lies beyond the end of the file so far is zeros."""
        for done in range(0, length, _BLOCK_BYTES):
            block = self._file.read(source + done, min(_BLOCK_BYTES, length - done))
            if block != _ZEROS[: len(block)]:
                self._file.write_at(place + done, block)

    def _check_run(self) -> int:
        """The image offset that the segments reach. Raises DamageFoundError unless they are what is wanted."""
        wanted = self._wanted
        end, chunks, chain = 0, 0, chain_start(wanted.dump_id, wanted.image_bytes)
        for start in sorted(self._links):
            link = self._links[start]
            if (link.info.start, link.first, link.chain_before) != (end, chunks, chain):
                text = f"it does not continue the segments before it, which end at image offset {end}"
                raise DamageFoundError(Finding(Damage.BAD_ROOT, link.info.name, None, text), wanted.dump_id.hex())
            end, chunks, chain = link.info.end, chunks + link.info.chunks, link.chain_after
        assert self._filled_to == end, "aliases of the last segments were not written"
        if wanted.root is not None and end != wanted.image_bytes:
            text = f"the segments end at image offset {end}, the image at {wanted.image_bytes}"
            raise DamageFoundError(Finding(Damage.MISSING, self._name, end, text), wanted.dump_id.hex())
        if wanted.root is not None and root_digest(chain, wanted.image_bytes, chunks) != wanted.root:
            text = f"its {chunks} chunks do not have the root of the dump"
            raise DamageFoundError(Finding(Damage.BAD_ROOT, self._name, None, text), wanted.dump_id.hex())
        return end


def _take_up(files: LocalFiles, name: str) -> File | None:
    """The image that is there, under the name that one has which is not finished; None if there is none."""
    for finished in (name, name + INCOMPLETE):
        if files.status(name + PARTIAL) is None:
            with suppress(FileNotFoundError):
                files.rename(finished, name + PARTIAL)
    try:
        return files.update(name + PARTIAL)
    except FileNotFoundError:
        return None


class _LockFile:
    """A lock whose file is of no use to anybody once the lock is given back."""

    __slots__ = ("_files", "_lock", "_name")

    def __init__(self, files: Files, name: str, lock: Lock) -> None:
        self._files: Final = files
        self._name: Final = name
        self._lock: Lock | None = lock

    def release(self) -> None:
        """Remove the file while the lock is held, so that who opened it meanwhile finds it gone; then release."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                self._files.unlink(self._name)
            lock.release()


def _tag(table: bytes) -> int:
    """Eight bytes by which a run table that was verified is known again."""
    return int.from_bytes(hashlib.sha256(table).digest()[:8], "big")


def placed_runs(stored: StoredChunk) -> Iterator[tuple[Run, int, Buffer]]:
    """(run, its image offset, its raw data or nothing) of a verified chunk, in order.

    The data are views into stored.raw.
    """
    chunk = stored.chunk
    raw = memoryview(stored.raw)
    place, taken, nothing = chunk.offset, 0, raw[:0]
    for run in unpack_runs(chunk.table, chunk.offset, chunk.length):
        length = run.length
        if run.state is _DATA:
            yield run, place, raw[taken : taken + length]
            taken += length
        else:
            yield run, place, nothing
        place += length
