"""The `vmcore` files, as what is given up first when space runs short: they can be made again [S-03], dumps cannot.

Owns which of them goes next. Makes none: restorer.py does.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from netdump.errors import DumpNotFoundError, StoreError
from netdump.server.space import Room, SpaceWatch

if TYPE_CHECKING:
    from netdump.server.audit import Audit
    from netdump.server.recorder import Recorder
    from netdump.store.store import Store


class Views:
    """All vmcore files of a store. Methods may be called from any thread; they block."""

    def __init__(self, store: Store, space: SpaceWatch, recorder: Recorder, audit: Audit) -> None:
        self._store = store
        self._space = space
        self._recorder = recorder
        self._audit = audit
        self._guard = threading.Lock()
        self._oldest_first: deque[str] | None = None  # None: nobody was ever short of space

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
            if self._oldest_first is None:
                self._oldest_first = deque(self._recorder.restored())
            while (room := self._space.look()) is not Room.PLENTY and self._oldest_first:
                self._give_up(self._oldest_first.popleft())
        return room

    def _give_up(self, dump_id: str) -> None:
        try:
            if not self._recorder.is_complete(dump_id):
                return  # of a dump that is damaged since, its view may be the best there is
            dump = self._store.dump(dump_id)
            if dump.vmcore_path is None:
                return
            dump.drop_vmcore()
        except DumpNotFoundError:
            return
        except StoreError as error:
            self._audit("vmcore-kept", dump=dump_id, reason=str(error))
            return
        self._audit("vmcore-dropped", dump=dump_id, reason="space is short, and it can be made again")
        self._recorder.refresh(dump_id)
