"""Fetching a dump: compressed segments in parallel, each verified and put into the image as soon as it is there.

Owns the order of work and what an interruption may leave behind: segments and an unnamed image in FILE.netdump-partial,
never a file with its final name that is not whole. What comes quickly is written once, into the image; of such a
segment only the skeleton is kept. Running it again goes on with what is there: it is verified like what has just come,
the data of a skeleton where they stand in the image, and fetched again if it is not sound.

Another format than ELF is written from the image when it is whole, and gets the final name in its place.

Every byte of the image is covered: each chunk by its digest, the chunks of a segment by the chain values in its table,
the segments by the chain from the dump's id to the root that the plan names.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import closing, suppress
from enum import StrEnum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from netdump.errors import (
    AlreadyExistsError,
    BusyError,
    DamagedError,
    DumpNotFoundError,
    IncompleteDumpError,
    NetdumpError,
    RemoteError,
    StorageFaultError,
)
from netdump.namedtuple import NamedTuple
from netdump.remote.formats import ELF, SUFFIXES, Format, Output
from netdump.remote.incoming import Incoming, new_room
from netdump.remote.patience import LONG, Patience
from netdump.remote.staging import SKELETON_BYTES, Staging, disk_faults, refuse_existing
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.restore import INCOMPLETE, Restoration, Wanted, read_segment
from netdump.store.segment import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from mmap import mmap
    from pathlib import Path

    from netdump.index.reading import Catalog, FetchPlan, PlannedSegment
    from netdump.index.record import DumpRecord
    from netdump.remote.progress import Progress
    from netdump.store.restore import Restored

JOBS_MAX: Final = 16
JOBS_DEFAULT: Final = min(4, len(os.sched_getaffinity(0)) + 1)
"""One more than CPUs: while one thread verifies, another receives. More only get in each other's way (85 ms of 500)."""

SEGMENT_TRIES: Final = 3
"""How often a segment is fetched whole before the collector's copy is taken to be damaged."""

_LEAVE_SECONDS: Final = 1.0  # for threads to notice that they should stop; more than a piece of data takes
_HOST_CHARS_MAX: Final = 64


class Transfer(StrEnum):
    """How segments come: PLAIN as they are stored, PACKED compressed on the way, AUTO packed where that is slow."""

    AUTO = "auto"
    PLAIN = "plain"
    PACKED = "packed"


class Fetched(NamedTuple):
    """What was fetched.

    path: its name, if it got one. bytes: of the file. transferred: bytes that came now over the network, compressed or
    not.
    """

    path: Path
    plan: FetchPlan
    bytes: int
    transferred: int
    seconds: float


def default_name(record: DumpRecord, wanted: Format = Format.ELF) -> str:
    """vmcore-HOST-IDPREFIX and the format's suffix, of characters that are harmless everywhere."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", record.host).strip(".-_")[:_HOST_CHARS_MAX] or "unknown"
    return f"vmcore-{host}-{record.id[:12]}{SUFFIXES[wanted]}"


def fetch(
    catalog: Catalog,
    record: DumpRecord,
    target: Path,
    progress: Progress,
    *,
    jobs: int = JOBS_DEFAULT,
    force: bool = False,
    patience: Patience = LONG,
    output: Output = ELF,
    transfer: Transfer = Transfer.AUTO,
    deliver: Callable[[Path], None] | None = None,
) -> Fetched:
    """Fetch a dump into a sparse ELF file or another format, all of it verified.

    record: as the catalog shows it. target: in a folder that is there. An incomplete dump goes to target's name with
    `.incomplete`, replacing one that is not longer. jobs: 1 .. JOBS_MAX segments at a time. force: replace any that is
    a file. transfer: whether they are compressed on the way. deliver: gets the finished file, which then has no name.

    Raises AlreadyExistsError, IncompleteDumpError (nothing of it has arrived), BusyError (another fetch to the same
    target), DamagedError, StorageFaultError (space is checked before), UnreachableError and RemoteError after a while
    of trying again; CoreError for a core that cannot be written in that format.
    """
    started = time.monotonic()
    plan = _plan(catalog, record)
    output.refuse(catalog, record)
    final = target if plan.complete else target.with_name(target.name + INCOMPLETE)
    staging = Staging(target)
    if deliver is None:
        deliver = _placing(staging, final, plan, output, force=force)
    staging.make(plan.image_bytes)
    restoration = _begin(staging, plan)
    jobs = min(jobs, len(plan.segments))
    crew = _Crew(
        catalog,
        plan,
        staging=staging,
        restoration=restoration,
        progress=progress,
        patience=patience,
        transfer=transfer,
    )
    try:
        # While the restoration is open nobody else works in this folder, nor takes up what gets its final name.
        staging.discard_finished()
        _check_space(staging, plan, record, output, jobs)
        crew.work(jobs)
        restored = _finish(restoration, plan, staging)
        path, size = output.write(staging, restored, plan, record, progress)
        deliver(path)
        staging.clear()
    finally:
        # A thread that still writes must not find its file closed and the number given to another.
        if crew.stop():
            _end(staging, restoration)
    return Fetched(final, plan, size, crew.transferred, time.monotonic() - started)


def _plan(catalog: Catalog, record: DumpRecord) -> FetchPlan:
    plan = catalog.plan(record.id)
    if plan.id != record.id:
        raise RemoteError(f"the collector was asked for dump {record.id} and names the segments of {plan.id}")
    if not plan.segments:
        raise IncompleteDumpError(f"nothing of dump {plan.id} has arrived yet: there is nothing to fetch")
    return plan


def _placing(staging: Staging, final: Path, plan: FetchPlan, output: Output, *, force: bool) -> Callable[[Path], None]:
    """What gives a finished file its name. Raises AlreadyExistsError now, where it is known already that it would."""
    replace, spare = force or not plan.complete, not force and not plan.complete

    def place(path: Path) -> None:
        if spare:
            with disk_faults(path):
                size = path.stat().st_size
            _refuse_longer(final, plan, size)
        staging.place(path, final, replace=replace)

    refuse_existing(final, replace=replace)
    if spare and output.format is Format.ELF:
        _refuse_longer(final, plan, plan.offset)
    return place


def _refuse_longer(final: Path, plan: FetchPlan, size: int) -> None:
    """Raises AlreadyExistsError if more than size bytes are there: the collector may have lost some of that since."""
    with disk_faults(final), suppress(FileNotFoundError):
        there = final.lstat().st_size
        if there > size:
            raise AlreadyExistsError(
                f"{final} has {there:,} bytes, more than the {size:,} that come of dump {plan.id[:12]} now: choose "
                "another name with -o, or replace it with --force"
            )


def _begin(staging: Staging, plan: FetchPlan) -> Restoration:
    """The image of an earlier run is taken up if data of any segment should stand in it, and holes in it are known."""
    root = bytes.fromhex(plan.root) if plan.root is not None else None
    wanted = Wanted(bytes.fromhex(plan.id), plan.image_bytes, root)
    try:
        return Restoration.to(staging.image, wanted, again=staging.tells_holes and staging.has_skeletons())
    except BusyError:
        folder = staging.image.parent
        raise BusyError(f"another fetch is at work in {folder}: wait for it, or choose another name with -o") from None


def _end(staging: Staging, restoration: Restoration) -> None:
    """Let others in. What the next run can go on with stays."""
    if staging.has_skeletons():
        restoration.leave()
    else:
        restoration.close()
    staging.remove_if_empty()


def _check_space(staging: Staging, plan: FetchPlan, record: DumpRecord, output: Output, jobs: int) -> None:
    missing = sorted(segment.bytes - min(segment.bytes, staging.size(segment.name)) for segment in plan.segments)
    totals = record.totals if plan.complete else None
    # Of an incomplete dump it is not known how much of the image is data; it is at least what is compressed.
    segments = sum(segment.bytes for segment in plan.segments)
    image = totals.get("data", 0) + totals.get("alias", 0) if totals else segments
    written = output.estimate(image, segments)
    if not staging.has_holes:  # of the image; a file of another format has none
        image = plan.image_bytes
    # A segment lies in a file until its data are in the image, or to the end where that cannot be taken up.
    beside = sum(missing[-jobs:]) + SKELETON_BYTES * sum(segment.chunks for segment in plan.segments)
    if not staging.tells_holes:
        beside = sum(missing)
    needed = beside + image + written - min(image, staging.image_disk_bytes())
    free = staging.free_bytes()
    if needed > free:
        raise StorageFaultError(
            f"dump {plan.id} needs {needed:,} bytes more, and {free:,} are free on the file system "
            f"of {staging.image.parent.parent}: make room, or fetch to another place with -o"
        )


def _finish(restoration: Restoration, plan: FetchPlan, staging: Staging) -> Restored:
    """Everything that needs all data to be there: alias runs, in image order, and the root."""
    for segment in plan.segments:
        with staging.reader(segment.name, bytes.fromhex(plan.id)) as reader:
            restoration.write_aliases(reader)
    return restoration.finish()


def _check_planned(reader: SegmentReader, segment: PlannedSegment) -> None:
    if (reader.info.chunks, reader.info.sha256.hex()) != (segment.chunks, segment.sha256):
        text = "it is sound, but not the segment of the plan"
        raise DamageFoundError(Finding(Damage.OTHER_SEGMENT, segment.name, None, text))


class _Stopped(Exception):  # noqa: N818  # no error: somebody else had one
    """The crew stops."""


class _Crew:
    """Threads that fetch segments, verify them and write their data.

    They are daemons: a process that ends does not wait for one that hangs in the network.
    """

    def __init__(
        self,
        catalog: Catalog,
        plan: FetchPlan,
        *,
        staging: Staging,
        restoration: Restoration,
        progress: Progress,
        patience: Patience,
        transfer: Transfer,
    ) -> None:
        self._transfer: Final = transfer
        self._catalog: Final = catalog
        self._plan: Final = plan
        self._staging: Final = staging
        self._restoration: Final = restoration
        self._progress: Final = progress
        self._patience: Final = patience
        self._todo: Final = iter(plan.segments)
        self._guard: Final = threading.Lock()
        self._stopping: Final = threading.Event()
        self._ended: Final[SimpleQueue[BaseException | None]] = SimpleQueue()
        self._threads: Final[list[threading.Thread]] = []
        self.transferred = 0

    def work(self, jobs: int) -> None:
        """Fetch all segments, in as many threads as can be started up to jobs, in this one if none can.

        Raises the first error of any thread.
        """
        sizes = [(segment.bytes, self._staging.size(segment.name)) for segment in self._plan.segments]
        self._progress.begin(sum(size for size, _ in sizes), sum(min(pair) for pair in sizes))
        for number in range(jobs):
            thread = threading.Thread(target=self._run, name=f"fetch-{number}", daemon=True)
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # the limit of threads
                self._threads.pop()
                break
        if not self._threads:
            self._run()
        for _ in range(max(1, len(self._threads))):
            error = self._ended.get()
            if error is not None:
                raise error

    def stop(self) -> bool:
        """Let all threads stop. Returns whether they have."""
        self._stopping.set()
        deadline = time.monotonic() + _LEAVE_SECONDS
        try:
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        except RuntimeError:  # interrupted while that one was being started
            return False
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            room = new_room()
            while (segment := self._take()) is not None:
                self._fetch(segment, room)
        except _Stopped:
            self._ended.put(None)
        except BaseException as error:  # whatever it is, it is raised again in the thread that waits
            self._ended.put(error)
        else:
            self._ended.put(None)

    def _take(self) -> PlannedSegment | None:
        self._check_stop()
        with self._guard:
            return next(self._todo, None)

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _fetch(self, segment: PlannedSegment, room: mmap) -> None:
        """Get one segment and put its data into the image."""
        if self._is_in_image(segment):
            return
        found: DamageFoundError | None = None
        for _ in range(SEGMENT_TRIES):
            incoming = self._download(segment, room)
            try:
                self._restore(segment, incoming)
            except DamageFoundError as error:
                found = error
                self._forget(segment, incoming.size())
            except BaseException:
                incoming.spill()
                raise
            else:
                return
        assert found is not None
        raise DamagedError(
            f"a segment of dump {self._plan.id} came damaged {SEGMENT_TRIES} times: {found.finding}; "
            f"`netdump verify {self._plan.id[:12]}` tells whether it lies damaged at the collector"
        )

    def _is_in_image(self, segment: PlannedSegment) -> bool:
        """Whether an earlier run has put the data of a segment into the image, and they are still there."""
        if not self._staging.has_skeleton(segment.name):
            return False
        try:
            with self._staging.reader(segment.name, bytes.fromhex(self._plan.id)) as skeleton:
                _check_planned(skeleton, segment)
                self._restoration.check_data(skeleton)
        except DamageFoundError:
            self._forget(segment, self._staging.size(segment.name))
            return False
        return True

    def _restore(self, segment: PlannedSegment, incoming: Incoming) -> None:
        dump_id = bytes.fromhex(self._plan.id)
        with (
            SegmentReader(incoming, segment.name, dump_id)
            if incoming.is_held
            else read_segment(self._staging.segment(segment.name), segment.name, dump_id)
        ) as reader:
            _check_planned(reader, segment)
            self._restoration.write_data(reader)
            if self._staging.tells_holes:
                self._staging.keep_skeleton(reader)

    def _forget(self, segment: PlannedSegment, have: int) -> None:
        self._progress.advance(-min(segment.bytes, have))
        self._staging.discard(segment.name)

    def _download(self, segment: PlannedSegment, room: mmap) -> Incoming:
        """Get what is missing of a segment's bytes, going on after each cut."""
        if (have := self._staging.size(segment.name)) > segment.bytes:
            self._forget(segment, have)
        incoming = Incoming(self._staging, segment.name, room)
        pauses = self._patience.pauses()
        while (have := incoming.size()) < segment.bytes:
            try:
                incoming.take(self._pieces(segment, have))
                if incoming.size() == have:
                    raise self._short(segment, have)  # it was no cut: that would have raised
            except NetdumpError as error:
                if incoming.size() >= segment.bytes:
                    break  # what went wrong behind the last byte
                if isinstance(error, DumpNotFoundError):
                    raise self._missing(segment) from error
                if not error.retryable or isinstance(error, StorageFaultError):
                    raise
                if incoming.size() > have:
                    pauses = self._patience.pauses()
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._stopping.wait(pause)
                self._check_stop()
        return incoming

    def _missing(self, segment: PlannedSegment) -> NetdumpError:
        """What it means that the collector does not have a segment that it has named."""
        try:
            self._catalog.show(self._plan.id)
        except DumpNotFoundError:
            return DumpNotFoundError(
                f"dump {self._plan.id} was deleted while it was fetched; what has come of it, if anything, is in "
                f"{self._staging.image.parent}, and stays there until you remove it"
            )
        return DamagedError(
            f"the collector has lost segment {segment.name} of dump {self._plan.id}: it is damaged; "
            f"see `netdump verify {self._plan.id[:12]}`"
        )

    def _short(self, segment: PlannedSegment, have: int) -> NetdumpError:
        """What it means that nothing comes behind a position within a segment."""
        return DamagedError(
            f"segment {segment.name} of dump {self._plan.id} has {have:,} bytes at the collector and should have "
            f"{segment.bytes:,}: it is damaged; see `netdump verify {self._plan.id[:12]}`"
        )

    def _pieces(self, segment: PlannedSegment, have: int) -> Iterator[bytes]:
        """What comes of a segment from that position, counted, and never more than the plan says."""
        with closing(self._stream(segment, have)) as stream:
            for piece, came in stream:
                self._check_stop()
                wanted = piece[: segment.bytes - have]
                have += len(wanted)
                yield wanted
                with self._guard:
                    self.transferred += came
                self._progress.advance(len(wanted))
                if have == segment.bytes:
                    return

    def _stream(self, segment: PlannedSegment, have: int) -> Generator[tuple[bytes, int], None, None]:
        """(piece, bytes that came for it)."""
        if self._transfer is Transfer.PLAIN:
            for piece in self._catalog.read_segment(self._plan.id, segment.name, have):
                yield piece, len(piece)
        else:
            always = self._transfer is Transfer.PACKED
            yield from self._catalog.read_packed(self._plan.id, segment.name, have, always=always)
