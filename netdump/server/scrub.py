"""Reads what is stored, little by little, to find what has rotted while a copy may still be had.

Each dump is checked as `netdump verify` does, at a pace at which all of them are read in half of `pass_days`; the one
whose last check is longest ago comes next, once that is half of `pass_days` ago. So none goes unchecked for longer than
`pass_days`, unless `rate_bytes` is too little for what is stored, which the log says.

That something was found bad is known to the index only, whose rows, or all of it, may be lost and made anew. So dumps
that the index called damaged, and does not any more, are read again before all others, as fast as `rate_bytes` allows.

`scrub.json` beside the index remembers when each dump was checked, how far the one at hand, and which were damaged. It
is written at every rest and when the collector stops; one that is killed loses some seconds of reading, or, with tens
of thousands of dumps, some minutes. It is a view: without it everything is checked anew.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from netdump.errors import DamagedError, DumpNotFoundError, NetdumpError, StorageFaultError, StoreError
from netdump.index.catalog import STORE_NAME
from netdump.index.gather import is_held
from netdump.pki import durable
from netdump.server.config import DAY_S
from netdump.server.recorder import CHECKS_AT_ONCE
from netdump.store.sealed import seal, unseal
from netdump.store.store import Store
from netdump.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.server.audit import Audit
    from netdump.server.config import Scrub
    from netdump.server.recorder import Recorder
    from netdump.store.files import Buffer, Files, ReadableFile
    from netdump.store.findings import Report

NAME: Final = "scrub.json"
FORMAT: Final = "netdump-scrub/1"
STATE_BYTES_MAX: Final = 1 << 30
RATE_MIN: Final = 256 * 1024  # bytes a second: little stores are through in no time, and idle then
SAVE_S: Final = 30.0
SAVE_RATE: Final = 10_000  # bytes of `scrub.json` a second: with 50,000 dumps it has 3 MB, and nobody else may wait
REST_S: Final = 300.0  # before looking again when nothing is due, or something went wrong
BREATH_S: Final = 0.1  # of an index that is told much: who waits in another process looks again as often
MEASURE_S: Final = 3600.0  # between two looks at how much is stored, which asks for the size of every file
FINDINGS_LOGGED: Final = 10
_VERDICTS: Final = ("damaged", "lost")


class _StoppedError(Exception):
    """The collector stops."""


class PacedFiles:
    """Files whose reading takes its time: take(bytes) is called after each read. Only what a verification uses."""

    def __init__(self, inner: Files, take: Callable[[int], None]) -> None:
        self._inner: Final = inner
        self._take: Final = take
        self.names: Final = inner.names
        self.status: Final = inner.status

    def open(self, name: str) -> ReadableFile:
        """See Files."""
        return _PacedFile(self._inner.open(name), self._take)


class _PacedFile:
    def __init__(self, inner: ReadableFile, take: Callable[[int], None]) -> None:
        self._inner: Final = inner
        self._take: Final = take
        self.size: Final = inner.size
        self.next_data: Final = inner.next_data
        self.close: Final = inner.close

    def read(self, position: int, length: int) -> Buffer:
        data = self._inner.read(position, length)
        self._take(len(data))
        return data


@dataclass(slots=True)
class Memory:
    """What is remembered.

    checked: when each dump was, seconds since 1970. dump, offset: the one at hand ("": none). damaged: those that the
    index called damaged when it was last asked. lost: those that it does not call so any more, though nobody may have
    found them sound: to be read again.
    """

    checked: dict[str, int] = field(default_factory=dict)
    dump: str = ""
    offset: int = 0
    damaged: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def pack(self) -> bytes:
        """The sealed file."""
        checked = [{"id": dump_id, "time": when} for dump_id, when in sorted(self.checked.items())]
        verdicts = {name: [{"id": dump_id} for dump_id in sorted(getattr(self, name))] for name in _VERDICTS}
        return seal({"format": FORMAT, "checked": checked, "dump": self.dump, "offset": self.offset, **verdicts})

    @classmethod
    def load(cls, path: Path) -> Memory:
        """Read it back; what is missing or damaged is forgotten."""
        try:
            members = unseal(durable.read(path, STATE_BYTES_MAX), FORMAT, path.name)
            checked = {item.text("id"): item.number("time") for item in members.children("checked")}
            verdicts = {name: {item.text("id") for item in members.children(name)} for name in _VERDICTS}
            return cls(checked, members.text("dump"), members.number("offset"), **verdicts)
        except (OSError, NetdumpError):
            return cls()


class Scrubber:
    """The one of a collector. start() and close() belong to the event loop; the work is done in a thread.

    store: only read. restore(id): called in the thread for a sound dump that may lack its vmcore: a damaged one is
    gone, or of a damaged dump none was made. clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        files: Files,
        settings: Scrub,
        *,
        recorder: Recorder,
        restore: Callable[[str], None],
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path: Final = directory / NAME
        self._root: Final = directory / STORE_NAME
        self._plain: Final = Store(self._root, files, clock)
        self._paced: Final = Store(self._root, PacedFiles(files, self._take), clock)  # type: ignore[arg-type]
        self._settings: Final = settings
        self._recorder: Final = recorder
        self._restore: Final = restore
        self._audit: Final = audit
        self._clock: Final = clock
        self._stop: Final = threading.Event()
        self._thread: Final = Threads(1, "scrub")
        self._memory: Final = Memory.load(self._path)
        self._rate = RATE_MIN
        self._next_read = 0.0  # of time.monotonic
        self._next_save = 0.0
        self._saved = b""
        self._next_measure = 0.0
        self._late = False
        self._new: Final[dict[str, int]] = {}  # when dumps that were never checked were new
        self._due: list[str] = []  # the first last
        self._next_look = 0.0  # at all dumps, for those that are due
        self._failed: Final[set[str]] = set()  # dumps that cannot be looked at, which is said once
        self._stumbled_at: Final[set[str]] = set()  # dumps whose check raised something: all others come first
        # Dumps that are damaged no more, and when that was found, of which the index is to be told; said once if it
        # cannot be.
        self._untold: Final[dict[str, tuple[Report, int]]] = {}
        self._is_mute = False

    def start(self) -> None:
        """Begin."""
        self._thread.submit(self._run)

    @property
    def late(self) -> bool:
        """Whether more is stored than `rate_bytes` lets be read in `pass_days`, as of the last look at that."""
        return self._late

    async def close(self) -> None:
        """Stop within a read's time."""
        self._stop.set()
        await asyncio.to_thread(self._thread.shutdown)

    def _run(self) -> None:
        has_told = False
        while True:
            try:
                if not has_told:
                    self._tell_checks()
                    has_told = True
                dump_id = self.next_due()
                if dump_id is None:
                    self._save()
                    self._stop.wait(REST_S)
                else:
                    self._stumbled_at.add(dump_id)
                    self.check(dump_id)
                    self._stumbled_at.discard(dump_id)
            except _StoppedError:
                break
            except Exception as error:  # a mistake, or a disk that fails: the collector is not to pay for it
                self._audit("scrub-failed", reason=f"{type(error).__name__}: {error}")
                self._stop.wait(REST_S)
            if self._stop.is_set():
                break
        self._save()

    def _tell_checks(self) -> None:
        """Tell an index that was made anew. Some at a time: there may be thousands, and hosts ask it, too."""
        try:
            untold = iter(self._recorder.untold(self._memory.checked).items())
            while not self._stop.is_set() and (some := dict(islice(untold, CHECKS_AT_ONCE))):
                self._recorder.checked(some).result()
                self._stop.wait(BREATH_S)
        except StoreError as error:
            self._audit("index-failed", reason=str(error))

    def next_due(self) -> str | None:
        """The dump to check now; None: none is due. Raises StoreError. Blocks."""
        self._recorder.settle()
        self._tell_sound()
        lost = set(self._memory.lost)
        self._look_for_lost()
        if self._memory.lost - lost or time.monotonic() >= self._next_look:
            self._due.clear()
        if (dump_id := self._first_due()) is None:
            self._due = self._all_due()
            self._next_look = time.monotonic() + REST_S
            dump_id = self._first_due()
        return dump_id

    def _first_due(self) -> str | None:
        """The first of those that were due which is so still, and at rest. Those before it are passed over."""
        while self._due:
            dump_id = self._due[-1]
            try:
                if self._plain.holds(dump_id) and self._is_due(dump_id) and not self._is_busy(dump_id):
                    self._failed.discard(dump_id)
                    return dump_id
            except DumpNotFoundError:
                pass  # deleted this moment
            except StorageFaultError as error:  # the others are to be checked all the same
                self._cannot_look(dump_id, error)
            self._due.pop()
        return None

    def _all_due(self) -> list[str]:
        """Those that are due, the first last. What is known of dumps that are gone is forgotten."""
        memory, ids = self._memory, self._plain.ids()
        for known in (memory.checked, self._new, self._untold):
            for gone in known.keys() - ids:
                del known[gone]
        self._failed.intersection_update(ids)
        self._stumbled_at.intersection_update(ids)
        memory.lost.intersection_update(ids)
        if memory.dump not in ids:
            memory.dump, memory.offset = "", 0
        if time.monotonic() >= self._next_measure:
            self._next_measure = time.monotonic() + MEASURE_S
            self._set_rate(ids)
        due = []
        for dump_id in ids:
            try:
                if self._is_due(dump_id):
                    waits = dump_id in self._stumbled_at, dump_id != memory.dump, dump_id not in memory.lost
                    due.append((waits, self._since(dump_id), dump_id))
            except DumpNotFoundError:
                continue  # deleted since it was listed
            except StorageFaultError as error:
                self._cannot_look(dump_id, error)
        return [dump_id for *_, dump_id in sorted(due, reverse=True)]

    def _is_due(self, dump_id: str) -> bool:
        """Whether it is to be read again. Raises DumpNotFoundError, StorageFaultError."""
        if dump_id in self._untold:
            return False
        now, since = self._clock(), self._since(dump_id)
        # A check in the future is none: the clock was wrong then, or is now.
        return since > now or since + self._settings.pass_days * DAY_S / 2 <= now or dump_id in self._memory.lost

    def _cannot_look(self, dump_id: str, error: StorageFaultError) -> None:
        if dump_id not in self._failed:
            self._audit("scrub-failed", dump=dump_id, reason=str(error))
        self._failed.add(dump_id)

    def _look_for_lost(self) -> None:
        """A row that rotted is made anew from the store, and a whole index is; neither knows what was found damaged."""
        try:
            damaged = self._recorder.found_damaged()
        except StoreError as error:
            self._audit("index-failed", reason=str(error))
            return  # it is asked again soon
        self._memory.lost |= self._memory.damaged - damaged
        self._memory.damaged = damaged

    def check(self, dump_id: str) -> Report:
        """Check a dump, from where the last check of it was cut short. Raises StoreError. Blocks for long."""
        memory = self._memory
        since = memory.offset if memory.dump == dump_id else 0
        was_damaged = dump_id in memory.damaged
        memory.dump, memory.offset = dump_id, since

        def note(offset: int) -> None:
            memory.offset = max(memory.offset, offset)
            if time.monotonic() >= self._next_save:
                self._look_for_lost()
                self._save()

        report = self._paced.dump(dump_id).verify(note, since)
        memory.dump, memory.offset = "", 0
        if not report.ok and self._has_changed(report):
            return report
        when = int(self._clock())
        if not since and report.ok and was_damaged:
            self._untold[dump_id] = report, when
            self._tell_sound()
        else:
            self._settle(report, when, is_whole=not since)
        return report

    def _has_changed(self, report: Report) -> bool:
        """Whether what could not be read may be gone for a reason: it was deleted, or its host has come back."""
        try:
            dump = self._plain.dump(report.id)
            if dump.has_replaced(report):
                return True
            return not report.complete and (self._is_busy(report.id) or dump.believed_manifest() is not None)
        except DumpNotFoundError:
            return True
        except (DamagedError, StorageFaultError):
            return False  # what the disk does not give back is what was found

    def _tell_sound(self) -> None:
        """Dumps that were damaged are not any more: somebody had copies, or the disk gives them back again.

        What the index cannot be told now it is told later, without reading the dump again.
        """
        for dump_id, (report, when) in list(self._untold.items()):
            try:
                del self._untold[dump_id]
                if not self._plain.holds(dump_id):
                    continue  # deleted since
                self._recorder.sound(dump_id).result()  # before the index is asked which are damaged
            except (DamagedError, DumpNotFoundError):
                continue  # it has changed since: it is read again
            except StoreError as error:
                self._untold[dump_id] = report, when  # behind the others: it may be its own disk that fails
                if not self._is_mute:
                    self._audit("index-failed", dump=dump_id, reason=str(error))
                self._is_mute = True
                return
            self._is_mute = False
            self._memory.damaged.discard(dump_id)
            self._audit("dump-sound", dump=dump_id, by="scrub", reason="it was damaged, and is not any more")
            self._restore(dump_id)
            self._settle(report, when, is_whole=True)

    def _settle(self, report: Report, when: int, *, is_whole: bool) -> None:
        """A dump is checked. is_whole: from its beginning."""
        self._memory.checked[report.id] = when
        if is_whole:
            self._memory.lost.discard(report.id)
        self._new.pop(report.id, None)
        if time.monotonic() >= self._next_save:
            self._save()
        self._tell(report)

    def _tell(self, report: Report) -> None:
        for finding in report.findings[:FINDINGS_LOGGED]:
            self._audit("dump-damaged", dump=report.id, by="scrub", reason=str(finding))
        if report.findings:
            self._recorder.damaged(report.id, str(report.findings[0]))
        elif report.view is not None:
            self._audit("vmcore-damaged", dump=report.id, by="scrub", reason=str(report.view))
            self._plain.dump(report.id).drop_vmcore()
            self._restore(report.id)
        self._audit("dump-checked", dump=report.id, by="scrub", sound=report.ok, chunks=report.chunks)
        # Awaited: hosts that ask the index wait for all that it has still to be told.
        self._recorder.checked({report.id: self._memory.checked[report.id]}).result()

    def _since(self, dump_id: str) -> int:
        """When a dump was last checked, or was new: it was verified as it arrived. Raises StorageFaultError."""
        if dump_id in self._memory.checked:
            return self._memory.checked[dump_id]
        if dump_id not in self._new:
            try:
                self._new[dump_id] = self._plain.dump(dump_id).origin.created
            except DamagedError:
                return 0
        return self._new[dump_id]

    def _is_busy(self, dump_id: str) -> bool:
        return is_held(self._root / dump_id)

    def _set_rate(self, ids: list[str]) -> None:
        """As fast as all that is stored can be read in half of the time."""
        stored = sum(self._size_of(dump_id) for dump_id in ids)
        wanted = 2 * stored // (self._settings.pass_days * DAY_S)
        self._rate = min(max(RATE_MIN, wanted), self._settings.rate_bytes)
        late, self._late = self._late, wanted > 2 * self._settings.rate_bytes
        if self._late and not late:
            self._audit("scrub-late", bytes=stored, rate_bytes=self._rate, pass_days=self._settings.pass_days)

    def _size_of(self, dump_id: str) -> int:
        """What a dump takes up; nothing, if it is gone or cannot be looked at. Raises _StoppedError."""
        if self._stop.is_set():
            raise _StoppedError
        try:
            return self._plain.dump(dump_id).size_on_disk
        except DumpNotFoundError:
            return 0
        except StorageFaultError as error:
            self._cannot_look(dump_id, error)
            return 0

    def _take(self, size: int) -> None:
        """So many bytes were read: wait until more may be. Raises _StoppedError."""
        now = time.monotonic()
        rate = self._settings.rate_bytes if self._memory.lost else self._rate
        self._next_read = max(self._next_read, now) + size / rate
        if self._stop.wait(self._next_read - now):
            raise _StoppedError

    def _save(self) -> None:
        packed = self._memory.pack()
        self._next_save = time.monotonic() + max(SAVE_S, len(packed) / SAVE_RATE)
        if packed == self._saved:
            return
        try:
            durable.write(self._path, packed)
            self._saved = packed
        except NetdumpError as error:
            self._audit("scrub-not-saved", reason=str(error))
