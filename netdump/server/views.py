"""The `vmcore` files, as what is given up first when space runs short: they can be made again [S-03], dumps cannot.

Owns which of them goes next. Makes none: restorer.py does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from netdump.errors import DumpNotFoundError, StoreError
from netdump.server.space import Room, SpaceWatch
from netdump.store.layout import VMCORE

if TYPE_CHECKING:
    from netdump.server.audit import Audit
    from netdump.server.recorder import Recorder
    from netdump.store.store import Store

AGAIN_S: Final = 30.0  # before an index that could not say which there are is asked again
LIST_S: Final = 300.0  # between two lists: damaged dumps are put right, other commands make views
SHOW_S: Final = 2.0  # that a file system has to show the room it was given: XFS takes it behind unlink's back
SHOW_PAUSE_S: Final = 0.01


class Views:
    """All vmcore files of a store. Methods may be called from any thread; they block."""

    def __init__(self, store: Store, space: SpaceWatch, recorder: Recorder, audit: Audit) -> None:
        self._store = store
        self._space = space
        self._recorder = recorder
        self._audit = audit
        self._guard = threading.Lock()
        self._oldest_first: deque[str] | None = None  # None: nobody was ever short of space
        self._again = 0.0  # when the index may be asked, of time.monotonic
        self._list_again = 0.0  # when all of them may be listed once more

    def made(self, dump_id: str) -> None:
        """There is one more."""
        with self._guard:
            if self._oldest_first is not None:
                self._oldest_first.append(dump_id)

    def room(self) -> Room:
        """How much room there is for dumps, after giving up as many views as it takes to have plenty.

        Raises StorageFaultError if that cannot be measured.
        """
        room = self._space.look()
        if room is Room.PLENTY:
            return room
        with self._guard:  # one at a time, so that nobody gives up more than is needed
            free_bytes = due_bytes = self._space.measure().free_bytes
            # Where files are as scarce as bytes all of them could go, and little would come of it.
            while self._space.wants_bytes(due_bytes) and (dump_id := self._next()) is not None:
                due_bytes += self._give_up(dump_id)
            due = self._space.look(due_bytes=due_bytes)
            until = time.monotonic() + (SHOW_S if due_bytes > free_bytes else 0.0)
            while (room := self._space.look()) < due and time.monotonic() < until:
                time.sleep(SHOW_PAUSE_S)
        return room

    def spare_bytes(self) -> int:
        """What all views take up that would be given up if dumps needed the room; 0 while the index cannot say."""
        try:
            dump_ids = self._recorder.complete(restored=True)
        except StoreError:
            return 0
        return sum(self._disk_bytes(dump_id) for dump_id in dump_ids)

    def _disk_bytes(self, dump_id: str) -> int:
        try:
            return (self._store.root / dump_id / VMCORE).lstat().st_blocks * 512
        except OSError:  # it went meanwhile
            return 0

    def _next(self) -> str | None:
        """The oldest one that may go; None: there is none, or the index cannot say now."""
        now = time.monotonic()
        if now < self._again:
            return None
        try:
            if self._oldest_first is None or (not self._oldest_first and now >= self._list_again):
                self._oldest_first = deque(self._recorder.complete(restored=True))
                self._list_again = now + LIST_S
            while self._oldest_first:
                is_complete = self._recorder.is_complete(self._oldest_first[0])
                dump_id = self._oldest_first.popleft()
                if is_complete:  # of a dump that is damaged since, its view may be the best there is
                    return dump_id
        except StoreError as error:
            # Whoever waits for room meanwhile is not to wait for an index that is locked, too.
            self._again = now + AGAIN_S
            self._audit("index-failed", reason=str(error))
        return None

    def _give_up(self, dump_id: str) -> int:
        """Returns how many bytes that frees."""
        size = self._disk_bytes(dump_id)
        try:
            dump = self._store.dump(dump_id)
            if dump.vmcore_path is None:
                return 0
            dump.drop_vmcore()
        except DumpNotFoundError:
            return 0
        except StoreError as error:
            self._audit("vmcore-kept", dump=dump_id, reason=str(error))
            return 0
        self._audit("vmcore-dropped", dump=dump_id, reason="space is short, and it can be made again")
        self._recorder.refresh(dump_id)
        return size
