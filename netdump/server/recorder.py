"""Keeps the index up to date while dumps arrive, in a thread of its own and in the order in which things happened.

The index is a view that can be made again from the store: trouble with it is logged and never stops a dump.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from netdump.errors import DumpNotFoundError, IndexFaultError, StorageFaultError, StoreError
from netdump.index.gather import gather, gather_anyway
from netdump.index.reading import LIST_LIMIT_MAX, Query, every
from netdump.index.record import State, was_unreadable
from netdump.namedtuple import NamedTuple
from netdump.server.admission import Usage
from netdump.server.config import DAY_S
from netdump.store.layout import VMCORE
from netdump.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from netdump.index.index import Index, Share
    from netdump.server.audit import Audit
    from netdump.store.recovery import Durable
    from netdump.store.store import Store

Result = TypeVar("Result")
Waiting = TypeVar("Waiting")

ANSWER_S: Final = 2.0  # two questions are asked before a host has its answer, for which there are 8 seconds
PROGRESS_S: Final = 2.0  # between two updates of a dump that arrives
CLOSING_S: Final = 2.0  # for what the index has still to be told when the collector stops
CHECKS_AT_ONCE: Final = 100  # that the index is told of in one step: others wait for some milliseconds
WAITING_MAX: Final = 10_000  # of each kind that wait for an index; the scrub, and lists, find the rest again


class _Progress(NamedTuple):
    """Of a dump. when: seconds since 1970."""

    durable: Durable
    stored_bytes: int
    when: int


class Recorder:
    """The collector's hand on the index. Methods may be called from any thread unless they say otherwise."""

    def __init__(
        self,
        opened: Callable[[], Index],
        store: Store,
        audit: Audit,
        mend: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """opened: the index; raises BusyError while it is not there.

        mend: called, in the thread that found it, with what is wrong with a damaged index, to be used again then.
        """
        self._opened = opened
        self._store = store
        self._audit = audit
        self._mend = mend
        self._pool = Threads(1, "index")
        self._guard = threading.Lock()
        self._refreshes: dict[str, Future[None]] = {}  # that have not begun
        self._progress: dict[str, _Progress] = {}  # that is not written yet
        # What is not written yet, by dump: what is bad (None: nothing any more), when all of it was read, and rows that
        # are to be written anew.
        self._damage: dict[str, str | None] = {}
        self._checks: dict[str, int] = {}
        self._rows: dict[str, None] = {}
        self._probe: Future[None] | None = None  # is done when an index that did not answer does so again
        self._until = math.inf

    @property
    def _index(self) -> Index:
        return self._opened()

    def usage(self, host: str, now: int, quota_bytes: int) -> Usage:
        """What a host has here. Blocks. now: seconds since 1970. quota_bytes: what its dumps may take up.

        Without an index nothing is known, and the host comes in: a quota is not worth a lost dump.
        """
        return self._ask(lambda: self._usage(host, now, quota_bytes), Usage(0, 0, known=False))

    def _usage(self, host: str, now: int, quota_bytes: int) -> Usage:
        """A host in a crash loop has thousands of dumps, and to look at each row would take longer than is waited."""
        recent = every(self._index.list, Query(host=host, since=max(0, now - DAY_S + 1), limit=LIST_LIMIT_MAX))
        # Not those that are to come: what a collector has is not today's because its clock fell back to 1970.
        today = sum(record.first_seen - now < DAY_S for record in recent)
        stored = self._index.stored_bytes(host)
        if stored >= quota_bytes:  # no host is turned away because of a row that has rotted: that is found here
            stored = sum(record.stored_bytes for record in every(self._index.list, Query(host=host)))
        return Usage(today, stored)

    def complete(self, *, restored: bool) -> list[str]:
        """The dumps that are complete as far as the index knows, and have a vmcore, or have none, oldest first.

        Blocks. Raises StoreError.
        """
        root = os.fspath(self._store.root)
        ids = self._on_index(lambda: self._index.ids_in(State.COMPLETE))
        return [each for each in ids if os.path.lexists(f"{root}/{each}/{VMCORE}") == restored]

    def census(self) -> dict[State, Share]:
        """See Index.census. Blocks. Raises StoreError."""
        return self._on_index(self._index.census)

    def found_damaged(self) -> set[str]:
        """The dumps of which something was found bad, as far as the index knows. Blocks. Raises StoreError."""
        query = Query(state=State.DAMAGED, limit=LIST_LIMIT_MAX)
        with self._guard:  # before the index is asked, in which it may stand a moment later
            waiting = dict(self._damage)
        damaged = self._on_index(lambda: [*every(self._index.list, query)])
        remarks = {**{record.id: record.remark for record in damaged}, **waiting}
        return {dump_id for dump_id, remark in remarks.items() if remark is not None and not was_unreadable(remark)}

    def is_complete(self, dump_id: str) -> bool:
        """Whether a dump is complete, and not damaged, as far as the index knows. Blocks. Raises StoreError."""
        if self._damage.get(dump_id) is not None:
            return False
        record = self._on_index(lambda: self._index.get(dump_id))
        return record is not None and record.state is State.COMPLETE

    def refresh(self, dump_id: str) -> Future[None]:
        """Write a dump's row anew from the store. Asked for again before it has begun, it is done once.

        While the index cannot be written, that waits until it can be.
        """

        def begin() -> None:
            with self._guard:
                self._refreshes.pop(dump_id, None)
                self._progress.pop(dump_id, None)  # the store says that, or what is newer
            self._keep(self._rows, dump_id, None)

        with self._guard:
            if dump_id not in self._refreshes:
                self._refreshes[dump_id] = self._submit(lambda: None, begin, settled_later=True)
            return self._refreshes[dump_id]

    def damaged(self, dump_id: str, remark: str) -> Future[None]:
        """A dump was found damaged. While the index cannot be written, that waits until it can be."""
        return self._submit(lambda: None, lambda: self._keep(self._damage, dump_id, remark[:500]))

    def sound(self, dump_id: str) -> Future[None]:
        """All of a dump was read and found sound: if it was damaged before, somebody has put it right.

        The future raises StoreError if the index cannot be told.
        """

        def work() -> None:
            self._write_waiting()
            row = self._index.get(dump_id)
            if row is not None and row.state is State.DAMAGED:
                self._index.put(gather(self._store, dump_id))

        return self._pool.submit(self._on_index, work)

    def mended(self, dump_id: str) -> None:
        """What was bad of a dump is given up, and its host sends that again. Waits as damaged does."""
        self._submit(lambda: None, lambda: self._keep(self._damage, dump_id, None))

    def checked(self, checks: Mapping[str, int]) -> Future[None]:
        """All of each of these dumps was read and checked, when: seconds since 1970. Waits as damaged does."""

        def keep() -> None:
            for dump_id, when in checks.items():
                self._keep(self._checks, dump_id, when)

        return self._submit(lambda: None, keep)

    def untold(self, checks: Mapping[str, int]) -> dict[str, int]:
        """Those checks, by dump, of which the index does not know. Blocks. Raises StoreError."""
        known = self._on_index(self._index.checks)
        return {dump_id: when for dump_id, when in checks.items() if known.get(dump_id, when) != when}

    def settle(self) -> None:
        """Write what waits, if the index can be written again: whatever else is written does so, too."""
        if self._damage or self._checks or self._rows:
            self._submit(lambda: None)

    def advance(self, dump_id: str, durable: Durable, stored_bytes: int) -> None:
        """More of a dump is durable. stored_bytes: of all its segments. Only the latest is written.

        While the index cannot be written it is forgotten, without a line in the log: there is more to tell every few
        seconds, of each dump, until the row is written anew.
        """
        latest: _Progress | None = None

        def begin() -> None:
            nonlocal latest
            with self._guard:
                latest = self._progress.pop(dump_id, None)

        def work() -> None:
            if latest is not None:
                self._index.advance(
                    dump_id,
                    durable_bytes=latest.durable.offset,
                    stored_bytes=latest.stored_bytes,
                    chunks=latest.durable.chunks,
                    updated=latest.when,
                )

        with self._guard:
            waits = dump_id in self._progress
            self._progress[dump_id] = _Progress(durable, stored_bytes, int(time.time()))
            if not waits:
                self._submit(work, begin, settled_later=True, is_told=False)

    def is_damaged(self, dump_id: str) -> bool | None:
        """Whether what is stored of a dump was found bad, as far as the index knows; None: it does not say. Blocks.

        Who reads all of it takes that back. A dump that merely could not be read is not bad: who reads it will see.
        """

        def waiting() -> tuple[str | None] | None:
            """What is bad (None: nothing), if the index has still to be told."""
            with self._guard:
                return (self._damage[dump_id],) if dump_id in self._damage else None

        def found() -> tuple[str | None]:
            """In the thread in which verdicts are written."""
            record = None if (verdict := waiting()) is not None else self._index.get(dump_id)
            return verdict or (record.remark if record is not None and record.state is State.DAMAGED else None,)

        verdict = self._ask(found, waiting())
        if verdict is None:
            return None
        (remark,) = verdict
        return remark is not None and not was_unreadable(remark)

    def journal(self, dump_id: str, stored_bytes: int) -> DumpJournal:
        """The journal of a dump that goes on arriving, with stored_bytes in segments. On the event loop."""
        return DumpJournal(self, dump_id, stored_bytes)

    def note(self, event: str, dump_id: str) -> None:
        """Something for the log only."""
        self._audit(event, dump=dump_id)

    def close(self) -> None:
        """Finish what was asked for, as far as CLOSING_S go: the next start settles the rest. Blocks."""
        self._until = time.monotonic() + CLOSING_S
        self.settle()
        self._pool.shutdown()

    def _ask(self, work: Callable[[], Result], otherwise: Result) -> Result:
        """What the index says, once everything noted before is in it; otherwise, if it does not say so soon.

        Who asks holds a thread that dumps are written with. So when the index has not answered nobody waits for it
        again before it has done what it was asked for until then.
        """
        if self._probe is not None and not self._probe.done():
            return otherwise
        question = self._pool.submit(self._on_index, work)
        try:
            return question.result(ANSWER_S)
        except StoreError as error:
            self._audit("index-failed", reason=str(error))
        except TimeoutError:
            question.cancel()
            self._probe = self._pool.submit(lambda: None)
            self._audit("index-failed", reason="the index does not answer: another process has it locked, or the disk")
        return otherwise

    def _on_index(self, work: Callable[[], Result]) -> Result:
        """Do something with the index; if that finds it damaged, have it mended and do it again. Raises StoreError."""
        try:
            return work()
        except IndexFaultError as error:
            if not error.damaged:
                raise
            self._mend(str(error))
        return work()

    def _submit(
        self,
        work: Callable[[], None],
        first: Callable[[], None] = lambda: None,
        *,
        settled_later: bool = False,
        is_told: bool = True,
    ) -> Future[None]:
        """Write something, behind what waits: in the order in which things were found.

        first: is done in the thread, whatever the index is like. settled_later: the store says the same at the next
        start, so a collector that stops need not wait for it. is_told: the log has a line if the index fails.
        """

        def guarded() -> None:
            if settled_later and time.monotonic() > self._until:
                return
            first()
            try:
                self._on_index(self._write_waiting)
                self._on_index(work)
            except StoreError as error:
                if is_told:
                    self._audit("index-failed", reason=str(error))

        return self._pool.submit(guarded)

    def _keep(self, waiting: dict[str, Waiting], dump_id: str, what: Waiting) -> None:
        with self._guard:
            if dump_id in waiting or len(waiting) < WAITING_MAX:
                waiting[dump_id] = what

    def _write_waiting(self) -> None:
        """Raises StoreError; what is not written by then goes on waiting."""
        index = self._index
        for dump_id, remark in list(self._damage.items()):
            with self._writing(self._damage, dump_id):
                self._write_verdict(index, dump_id, remark)
        while checks := dict(islice(self._checks.items(), CHECKS_AT_ONCE)):
            index.set_checked(checks)
            for dump_id in checks:
                del self._checks[dump_id]
        for dump_id in list(self._rows):
            if time.monotonic() <= self._until:
                with self._writing(self._rows, dump_id):
                    self._write_row(index, dump_id)

    @contextmanager
    def _writing(self, waiting: dict[str, Waiting], dump_id: str) -> Iterator[None]:
        """Write one of those that wait, which waits no longer then, unless the block raises a StoreError."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # a mistake of ours with one dump is not for all that wait behind it to pay
            self._audit("index-failed", dump=dump_id, reason=f"{type(error).__name__}: {error}")
        with self._guard:
            del waiting[dump_id]

    def _write_verdict(self, index: Index, dump_id: str, remark: str | None) -> None:
        """remark: what is bad of a dump; None: what was bad is not any more. Raises StoreError."""
        row = index.get(dump_id)
        with suppress(DumpNotFoundError):
            if row is None:  # it came while the index could not be told
                index.add([gather_anyway(self._store, dump_id)])
            elif remark is None and row.state is State.DAMAGED:
                index.put(gather_anyway(self._store, dump_id))
        if remark is not None:
            index.set_state(dump_id, State.DAMAGED, remark)

    def _write_row(self, index: Index, dump_id: str) -> None:
        """Raises StoreError of the index; a dump that cannot be read leaves its row as it is."""
        try:
            record = gather(self._store, dump_id)
        except DumpNotFoundError:
            index.remove(dump_id)
        except StorageFaultError as error:
            self._audit("index-failed", dump=dump_id, reason=str(error))
        else:
            index.renew(record)


class DumpJournal:
    """What the index is told of one arrival, not more often than it is of use. Belongs to the event loop."""

    def __init__(self, recorder: Recorder, dump_id: str, stored_bytes: int) -> None:
        self._recorder = recorder
        self._dump_id = dump_id
        self._before_bytes = stored_bytes
        self._latest: tuple[Durable, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._recorder.refresh(dump_id)

    def headline_stored(self) -> None:
        """The headline is durable: the row can say what crashed."""
        self._recorder.refresh(self._dump_id)

    def progressed(self, durable: Durable, stored_bytes: int) -> None:
        """More is durable. stored_bytes: in segments, since this arrival began."""
        self._latest = durable, stored_bytes
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PROGRESS_S, self._flush)

    def waits(self) -> None:
        """There is no room to go on."""
        self._recorder.note("dump-waits", self._dump_id)

    def ended(self) -> None:
        """The writer is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._recorder.refresh(self._dump_id)

    def _flush(self) -> None:
        self._timer = None
        if self._latest is not None:
            durable, stored_bytes = self._latest
            self._recorder.advance(self._dump_id, durable, self._before_bytes + stored_bytes)
