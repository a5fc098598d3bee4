"""From segments back to the image (store.md section 7).

Owns how an image is put together: raw data at its place, holes for zeros, alias runs by reading back what stands at
their source. Every chunk is verified as it is written. The image gets its name only when all of it is there; until
then it is ``NAME.partial``. Memory: one chunk and one segment table, whatever the size of the image, and four bytes
for each chunk with aliases. Must not know dumps' folders: it takes segments from anywhere, so it serves the collector
and the analyst alike.

Two ways:

``restore(segments, target, ...)``
    takes segments in image order, from a list or while they arrive, and does everything;
``Restoration``
    takes them in any order, from several threads: ``write_data(segment)`` for each, then ``write_aliases(segment)``
    for each in image order (cheap where there are none; the segment must still be at hand), then ``finish()``. An
    alias says "the bytes of the image at source", and those may be an alias themselves, so aliases come last and in
    order ([W-49]).

What is not complete is restored up to where its segments reach, and is named ``NAME.incomplete`` ([S-41]).
"""

from __future__ import annotations

from array import array
from contextlib import contextmanager, suppress
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from netdump.errors import BusyError
from netdump.pages import PageState
from netdump.store.durable import discard, drop, publish, storage_faults
from netdump.store.files import LocalFiles
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import PARTIAL
from netdump.store.segment import SegmentReader
from netdump.wire import chain_start, root_digest, unpack_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from netdump.pages import Run
    from netdump.store.files import Buffer, Files, Lock
    from netdump.store.segment import Link, StoredChunk

INCOMPLETE: Final = ".incomplete"
_LOCK: Final = ".lock"
_BLOCK_BYTES: Final = 65536  # of an alias copied at once; a block of zeros stays a hole


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

    write_data() is safe for several threads with different segments; everything else is for one thread, with no other
    at work.
    """

    def __init__(self, files: Files, folder: Path, name: str, wanted: Wanted, lock: Lock) -> None:
        """files, name: where the image goes; folder: what files is rooted in, for Restored.path. Raises OSError.

        lock: what keeps others from restoring to the same name; released by close(), and if this raises.
        """
        self._files: Final = files
        self._wanted: Final = wanted
        self._name: Final = name if wanted.root is not None else name + INCOMPLETE
        self._path: Final = folder / self._name
        self._lock: Final = lock
        self._links: Final[dict[int, Link]] = {}
        self._aliased: Final[dict[int, array[int]]] = {}  # by segment: which of its chunks have aliases
        self._guard: Final = ThreadLock()
        self._filled_to = 0  # aliases before this offset are written
        try:
            discard(files, self._name + PARTIAL)
            self._file: Final = files.create(self._name + PARTIAL)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def to(cls, target: Path, wanted: Wanted) -> Restoration:
        """A restoration to a file anywhere.

        Raises BusyError while another one has the same target, StorageFaultError.
        """
        files, name = LocalFiles(target.parent), target.name
        with storage_faults(f"restoring to {target}"):
            try:
                lock = files.lock(name + _LOCK)
            except BlockingIOError:
                raise BusyError(f"{target} is being restored by another process") from None
            return cls(files, target.parent, name, wanted, _LockFile(files, name + _LOCK, lock))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, segment: SegmentReader, progress: Callable[[int], None] | None = None) -> None:
        """Write all of the next segment in image order. Raises DamageFoundError, StorageFaultError."""
        assert segment.info.start == self._filled_to, "segments are written in image order"
        with self._working(segment):
            for stored in segment.chunks():
                self._write_runs(stored, {PageState.DATA, PageState.ALIAS})
                if progress is not None:
                    progress(stored.chunk.offset + stored.chunk.length)
        self._filled_to = segment.info.end
        self._remember(segment)

    def write_data(self, segment: SegmentReader) -> None:
        """Write the raw data of a segment, in any order.

        Again is harmless. Raises DamageFoundError, StorageFaultError.
        """
        aliased = array("I")
        with self._working(segment):
            for number, stored in enumerate(segment.chunks()):
                if self._write_runs(stored, {PageState.DATA}):
                    aliased.append(number)
        if aliased:
            with self._guard:
                self._aliased[segment.info.start] = aliased
        self._remember(segment)

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
                for number in self._aliased[info.start]:
                    self._write_runs(segment.chunk(entries[number]), {PageState.ALIAS})
        self._filled_to = info.end

    def finish(self) -> Restored:
        """Check that the segments are the dump, make the image durable and give it its name.

        Raises DamageFoundError (missing, bad-root), StorageFaultError.
        """
        end = self._check_run()
        with storage_faults(f"restoring to {self._path}"):
            self._file.resize(end)
            publish(self._files, self._file, self._name + PARTIAL, self._name)
        return Restored(self._path, end, self._wanted.root is not None)

    def close(self) -> None:
        """Drop what is not finished and let others restore to the same name.

        Never raises for a fault; may be called again.
        """
        drop(self._files, self._file, self._name + PARTIAL)
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

    def _remember(self, segment: SegmentReader) -> None:
        with self._guard:
            self._links[segment.info.start] = segment.link

    def _write_runs(self, stored: StoredChunk, states: set[PageState]) -> bool:
        """Write the runs of a chunk that are in these states. Returns whether it has aliases."""
        aliases = False
        for run, place, raw in placed_runs(stored):
            aliases = aliases or run.state is PageState.ALIAS
            if run.state not in states:
                continue
            if run.state is PageState.DATA:
                self._file.write_at(place, raw)
            else:
                self._copy(run.source, place, run.length)
        return aliases

    def _copy(self, source: int, place: int, length: int) -> None:
        """Copy within the image. source + length <= place. What lies beyond the end of the file so far is zeros."""
        for done in range(0, length, _BLOCK_BYTES):
            block = self._file.read(source + done, min(_BLOCK_BYTES, length - done))
            if block != bytes(len(block)):
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


def placed_runs(stored: StoredChunk) -> Iterator[tuple[Run, int, Buffer]]:
    """(run, its image offset, its raw data or nothing) of a verified chunk, in order.

    The data are views into stored.raw.
    """
    chunk = stored.chunk
    raw = memoryview(stored.raw)
    place, taken = chunk.offset, 0
    for run in unpack_runs(chunk.table, chunk.offset, chunk.length):
        data = raw[taken : taken + run.length] if run.state is PageState.DATA else raw[:0]
        yield run, place, data
        place += run.length
        taken += len(data)
