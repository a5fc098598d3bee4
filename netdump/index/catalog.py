"""The catalog of a collector's folder: what the server's API and the commands with --root read dumps through.

Owns how index and store are held together: the store decides which dumps there are and how far they have come, the
index makes lists cheap. Works beside a running collector and without one. Methods may be called from several threads.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeGuard, TypeVar

from netdump.errors import (
    BusyError,
    DumpNotFoundError,
    IndexFaultError,
    NotACollectorError,
    StorageFaultError,
    StoreError,
)
from netdump.index.gather import REMARK_CHARS_MAX, gather, gather_anyway, is_held
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.reading import FetchPlan, PlannedSegment, Query
from netdump.index.record import DumpRecord, State, was_unreadable
from netdump.index.rows import order
from netdump.store.files import LocalFiles
from netdump.store.layout import MANIFEST, SEGMENTS, VMCORE, segment_range
from netdump.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path
    from types import TracebackType

    from netdump.store.dump import Dump
    from netdump.store.files import LocalFile
    from netdump.store.findings import Report
    from netdump.store.runtables import RunTable

STORE_NAME: Final = "dumps"

PREFIX_DIGITS_MIN: Final = 4
"""How short an id may be."""

_PAGE: Final = 200
_PIECE_BYTES: Final = 1 << 20
Result = TypeVar("Result")

_UNSETTLED: Final = frozenset({State.ARRIVING, State.INTERRUPTED})


class LocalCatalog:
    """Implements Catalog over DIR. A context manager."""

    __slots__ = ("_adding", "_directory", "_index", "_mending", "_on_mended", "_store")

    def __init__(self, directory: Path, on_mended: Callable[[str, str], None] = lambda _reason, _done: None) -> None:
        """directory: the collector's. Raises NotACollectorError, and what Index.open raises.

        on_mended: told what was wrong with the index and what was done about it, in the thread that found it. Of a
        folder that can only be read (a snapshot, a backup) the index is copied into memory.
        """
        if not os.path.isdir(directory / STORE_NAME):  # which raises nothing
            raise NotACollectorError(
                f"{directory} is not a collector's folder (no {STORE_NAME}/): make one with `netdump init`"
            )
        self._directory: Final = directory
        self._store: Final = Store(directory / STORE_NAME)
        open_index = Index.open if _is_writable(directory) else Index.in_memory
        self._index: Final = open_index(directory / NAME)
        self._on_mended: Final = on_mended
        self._mending: Final = threading.Lock()
        self._adding: Final = threading.Lock()

    def close(self) -> None:
        """Give the index back."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def index(self) -> Index:
        """The index behind it, for who also writes: the server."""
        return self._index

    def mend(self, reason: str) -> None:
        """The index was found damaged: take out what is, and fill that in from the store. Raises what Index.mend does.

        Lost are only times of checks, and verdicts of damage. The collector's scrub sees that, and checks again.
        """
        with self._mending:
            done = self._index.mend()
            self._add_missing()
        self._on_mended(reason, done)

    def _mended(self, work: Callable[[], Result]) -> Result:
        """Do something with the index; if it is found damaged, mend it and do that again."""
        try:
            return work()
        except IndexFaultError as error:
            if not error.damaged:
                raise
            self.mend(str(error))
        return work()

    def list(self, query: Query) -> list[DumpRecord]:
        """Implements Catalog.list. What the index does not know is added to it, and what is gone is forgotten."""

        def work() -> list[DumpRecord]:
            moved = set[str]()
            listed = [*islice(self._walk(query, moved), query.limit)]
            return [*islice(self._walk(query, set()), query.limit)] if moved else listed

        return self._mended(work)

    def _walk(self, query: Query, moved: set[str]) -> Iterator[DumpRecord]:
        """The dumps that a query asks for, whatever its limit.

        moved: gets the ids of those that are left out because they have another place now: of a dump that could not be
        read when its row was made nobody knew when it came.
        """
        # What is new stands on the first page; a later one need not look for it.
        unlisted = self._add_missing() if query.before is None else set[str]()
        if query != Query(limit=query.limit):
            unlisted = set()  # which is megabytes, for as long as a list is made
        behind: DumpRecord | None = None
        while True:
            also = _UNSETTLED if query.state is not None else frozenset[State]()
            before = query.before if behind is None else None  # which somebody may have deleted since the first page
            page = self._index.list(query._replace(before=before, limit=_PAGE), also, behind)
            unlisted.difference_update(row.id for row in page)
            for row in page:
                if not self._store.holds(row.id):
                    # Whoever deleted it was killed before it said so here, and it counts against its host's quota.
                    self._forget(row.id)
                    continue
                record = self._reconciled(row)
                if record is not None and order(record) != order(row):
                    moved.add(row.id)
                elif record is not None and query.state in {None, record.state}:
                    yield record
            if len(page) < _PAGE:
                if query == Query(limit=query.limit):
                    self._index.assert_unknown(unlisted)
                return
            behind = page[-1]

    def refresh(self, keep_on: Callable[[], None] = lambda: None) -> None:
        """Bring the index up to what the store holds: for the start of a collector.

        Adds dumps it does not know, forgets those that are gone, settles what an earlier collector left as arriving.
        Reads every row, so that damage in the index is found now. With many dumps it takes long, seconds for ten
        thousand, minutes if the index is to be made anew: keep_on is called for each, and may raise to stop.
        """
        self._index.check()
        self._add_missing(keep_on)
        for dump_id in self._index.ids():
            keep_on()
            if not self._store.holds(dump_id):
                self._index.remove(dump_id)
        for _ in self._walk(Query(), set()):
            keep_on()

    def show(self, dump_id: str) -> DumpRecord:
        """Implements Catalog.show."""
        record = gather(self._store, self._resolve(dump_id))
        return self._mended(lambda: self._settled(record))

    def _settled(self, record: DumpRecord) -> DumpRecord:
        """What was gathered of a dump, with what only the index knows; the index learns of the rest."""
        row = self._index.get(record.id)
        record = replace(record, checked=None if row is None else row.checked)
        settled = record.state in {State.COMPLETE, State.INTERRUPTED}
        if _is_verdict(row) and settled and row.first_seen == record.first_seen:
            # Verification has found what a look at the documents does not show. See Index.renew.
            record = replace(record, state=State.DAMAGED, remark=row.remark)
        if record.state not in _UNSETTLED and record != row:
            self._index.renew(record)
        return record

    def log(self, dump_id: str) -> bytes:
        """Implements Catalog.log."""
        return self._store.dump(self._resolve(dump_id)).read_log()

    def headline(self, dump_id: str) -> bytes | None:
        """Implements Catalog.headline."""
        return self._store.dump(self._resolve(dump_id)).headline_bytes

    def run_tables(self, dump_id: str) -> Generator[RunTable, None, None]:
        """Implements Catalog.run_tables."""
        return self._store.dump(self._resolve(dump_id)).run_tables()

    def receipt(self, dump_id: str) -> bytes | None:
        """Implements Catalog.receipt."""
        return self._store.dump(self._resolve(dump_id)).receipt

    def plan(self, dump_id: str) -> FetchPlan:
        """Implements Catalog.plan. A dump whose manifest is damaged is not proven to be complete."""
        dump = self._store.dump(self._resolve(dump_id))
        manifest = dump.believed_manifest()
        segments = tuple(
            PlannedSegment(info.name, info.start, info.end, info.chunks, info.file_bytes, info.sha256.hex())
            for info in (dump.segments() if manifest is None else manifest.segments)
        )
        return FetchPlan(
            id=dump.id,
            complete=manifest is not None,
            image_bytes=dump.origin.image_bytes,
            offset=segments[-1].end if segments else 0,
            chunks=sum(segment.chunks for segment in segments),
            root=None if manifest is None else manifest.root.hex(),
            segments=segments,
        )

    def open_segment(self, dump_id: str, name: str) -> LocalFile:
        """A segment file for handing on, as it is; closed by the caller. It is checked by who fetches it.

        Raises DumpNotFoundError, also for a segment that is not there or a name that is none.
        """
        whole = self._resolve(dump_id)
        if segment_range(name) is None:
            raise DumpNotFoundError(f"{name!r} is not the name of a segment")
        try:
            return LocalFiles(self._store.root).open(f"{whole}/{SEGMENTS}/{name}")
        except FileNotFoundError:
            raise DumpNotFoundError(f"dump {whole} has no segment {name}; ask for its plan again") from None
        except OSError as error:
            raise StorageFaultError(f"segment {name} of dump {whole} cannot be read: {error.strerror}") from error

    def read_packed(self, dump_id: str, name: str, offset: int, *, always: bool) -> Iterator[tuple[bytes, int]]:  # noqa: ARG002
        """Implements Catalog.read_packed: nothing is gained by packing what lies here."""
        for piece in self.read_segment(dump_id, name, offset):
            yield piece, len(piece)

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        """Implements Catalog.read_segment."""
        file = self.open_segment(dump_id, name)
        try:
            while piece := file.read(offset, _PIECE_BYTES):
                yield piece
                offset += len(piece)
        except OSError as error:
            raise StorageFaultError(f"segment {name} of dump {dump_id} cannot be read: {error.strerror}") from error
        finally:
            file.close()

    def verify(self, dump_id: str, progress: Callable[[int], None] | None = None) -> Report:
        """Implements Catalog.verify. The index learns of what is found; a damaged vmcore is made again.

        progress: called in this thread with the image offset reached, and again from 0 on while a vmcore is made; may
        raise a StoreError to stop.
        """
        whole = self._resolve(dump_id)
        dump = self._store.dump(whole)
        report = dump.verify(progress, threads=os.cpu_count() or 1)
        if not report.ok and dump.has_replaced(report):
            raise BusyError(f"dump {whole} was deleted and sent again while it was read: verify it once more")
        if not report.ok and not report.complete:
            # What was found bad may be gone by now: its host has come back, and sends that again.
            if is_held(self._store.root / whole):
                raise BusyError(f"dump {whole} arrives, and what is bad of it may come again: verify it after that")
            if dump.believed_manifest() is not None:
                report = dump.verify(progress, threads=os.cpu_count() or 1)
        return self._mended(lambda: self._verified(whole, dump, report, progress))

    def _verified(self, whole: str, dump: Dump, report: Report, progress: Callable[[int], None] | None) -> Report:
        """What comes of a report."""
        if report.view is not None and report.ok and report.complete:
            report = report._replace(remade=_remake(dump, progress))
        row = self._index.get(whole)
        if not report.ok:
            self._index.add([gather(self._store, whole)])
            self._index.set_state(whole, State.DAMAGED, str(report.findings[0])[:REMARK_CHARS_MAX])
        elif row is not None and row.state is State.DAMAGED:
            self._index.put(gather(self._store, whole))  # put right since, from a copy for instance
        return report

    def delete(self, dump_id: str) -> None:
        """Implements Catalog.delete."""
        whole = self._resolve(dump_id)
        try:
            self._store.delete(whole)
        finally:  # it is gone also if something of it could not be removed
            if not self._store.holds(whole):
                with suppress(BusyError, StorageFaultError):  # the next list forgets it
                    self._mended(lambda: self._forget(whole))

    def _forget(self, dump_id: str) -> None:
        """Of a dump that was deleted; should it have come again by now its row may have gone, too."""
        self._index.remove(dump_id)
        if self._store.holds(dump_id):
            with suppress(DumpNotFoundError):
                self._index.add([gather_anyway(self._store, dump_id)])

    def _resolve(self, dump_id: str) -> str:
        if len(dump_id) < PREFIX_DIGITS_MIN:
            raise DumpNotFoundError(f"{dump_id!r} is too short: give at least {PREFIX_DIGITS_MIN} digits of the id")
        return self._store.resolve(dump_id)

    def _add_missing(self, keep_on: Callable[[], None] = lambda: None) -> set[str]:
        """Add the dumps that the index does not know. Returns those that have a row now.

        By one thread at a time: others would take as many megabytes, and do the same work.
        """
        with self._adding:
            return self._added(keep_on)

    def _added(self, keep_on: Callable[[], None]) -> set[str]:
        present = set(self._store.candidates())
        records: list[DumpRecord] = []
        for dump_id in sorted(present.difference(self._index.ids())):
            keep_on()
            try:
                records.append(gather_anyway(self._store, dump_id))
            except DumpNotFoundError:
                present.discard(dump_id)  # no dump yet, or deleted since it was listed
            if len(records) >= _PAGE:
                self._index.add(records)
                records.clear()
        if records:
            self._index.add(records)
        return present

    def _reconciled(self, row: DumpRecord) -> DumpRecord | None:
        """What a row must say now; None if the dump went away meanwhile. Writes only what nobody else will."""
        folder = self._store.root / row.id
        # A complete dump without manifest: the store was put back from a backup that is older than the index.
        if (row.state is State.COMPLETE and os.path.lexists(folder / MANIFEST)) or _is_verdict(row):
            return replace(row, vmcore=os.path.lexists(folder / VMCORE))
        if row.state in _UNSETTLED and (held := _look(row, folder)) is not None:
            return held
        # The collector that wrote this row did not live to write the next; or the dump could not be read then.
        try:
            record = gather_anyway(self._store, row.id)
        except DumpNotFoundError:
            return None
        if record.state is State.DAMAGED and was_unreadable(record.remark):
            return replace(row, state=State.DAMAGED, remark=record.remark)
        self._index.renew(record)
        return replace(record, checked=row.checked)


def _is_writable(directory: Path) -> bool:
    """Whether an index can be kept there. What cannot be read either is for the index to complain of."""
    return os.access(directory, os.W_OK) or not os.access(directory / STORE_NAME, os.R_OK | os.X_OK)


def _remake(dump: Dump, progress: Callable[[int], None] | None) -> bool:
    """Make the vmcore of a sound dump again. Returns whether that worked; what was there is gone in any case.

    progress: see Dump.reassemble; a StoreError of it stops the work.
    """
    try:
        dump.drop_vmcore()
        dump.reassemble(progress=progress)
    except StoreError:
        return False  # no room, somebody else is at it, or a collector stops
    return True


def _look(row: DumpRecord, folder: Path) -> DumpRecord | None:
    """What becomes of the row of an unsettled dump without a look at its documents; None: look at them."""
    try:
        if is_held(folder):
            return replace(row, state=State.ARRIVING)
    except StorageFaultError:
        return None  # they will say what is wrong
    return row if row.state is State.INTERRUPTED and not os.path.lexists(folder / MANIFEST) else None


def _is_verdict(row: DumpRecord | None) -> TypeGuard[DumpRecord]:
    """Whether a row says that what is stored is bad. Only verification takes that back."""
    return row is not None and row.state is State.DAMAGED and not was_unreadable(row.remark)
