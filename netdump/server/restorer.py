"""Makes the `vmcore` of complete dumps in the background, one at a time, when there is room for it.

A `vmcore` is a view [S-05]: nothing is lost when one is late, or never made. One that would take the room of dumps
waits, also when it is half done. What cannot be made for another reason is tried again at the next start of the
collector.
"""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError, DamagedError, DumpNotFoundError, PkiError, StoreError
from netdump.server.space import Room, SpaceWatch
from netdump.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.server.audit import Audit
    from netdump.server.recorder import Recorder
    from netdump.server.views import Views
    from netdump.store.dump import Dump
    from netdump.store.store import Store
    from netdump.store.writer import DumpWriter

METADATA_BYTES: Final = 1 << 20  # of the file system, for a sparse file


class _StoppedError(Exception):
    """The collector stops."""


class _NoRoomError(Exception):
    """Dumps need the room."""


class Restorer:
    """Belongs to the event loop; the work is done in a thread.

    receipt: signs for a complete dump, durably, if nobody has; raises PkiError, StoreError.
    """

    def __init__(
        self,
        store: Store,
        space: SpaceWatch,
        recorder: Recorder,
        views: Views,
        audit: Audit,
        *,
        receipt: Callable[[DumpWriter], object],
    ) -> None:
        self._store = store
        self._space = space
        self._recorder = recorder
        self._views = views
        self._audit = audit
        self._receipt = receipt
        self._waiting: deque[str] = deque()
        self._needed: dict[str, int] = {}  # bytes, of those that wait for room
        self._untold: dict[str, str] = {}  # why, of those of them that the log does not know yet
        self._stop = threading.Event()
        self._thread = Threads(1, "restore")
        self._task: asyncio.Task[None] | None = None

    def add(self, dump_id: str) -> None:
        """A complete dump has no vmcore yet."""
        self._waiting.append(dump_id)
        self._space.poke()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop within a chunk's time; what was half done is removed."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    async def idle(self) -> None:
        """Return when nothing waits and nothing is being made."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while self._waiting:
                changed, waiting = self._space.changed(), len(self._waiting)
                try:
                    await self._go_round()
                except Exception as error:  # a mistake of ours: it may go well the next time
                    self._complain(error)
                if len(self._waiting) >= waiting:
                    await self._space.pause(changed)
        finally:
            self._task = None

    async def _go_round(self) -> None:
        """Attempt each dump that waits, once, unless it is known that there is no room for it."""
        loop = asyncio.get_running_loop()
        most = await loop.run_in_executor(self._thread, self._fitting_bytes, tuple(self._waiting))
        for _ in range(len(self._waiting)):
            dump_id = self._waiting.popleft()
            if self._needed.get(dump_id, 0) <= most and await self._attempt(dump_id):
                self._needed.pop(dump_id, None)
                self._untold.pop(dump_id, None)  # it may have waited twice
            else:
                self._waiting.append(dump_id)
        self._tell_who_waits()

    def _tell_who_waits(self) -> None:
        """In one line: after a start with little room thousands may wait."""
        untold, self._untold = self._untold, {}
        if len(untold) == 1:
            ((dump_id, reason),) = untold.items()
            self._audit("restore-waits", dump=dump_id, reason=reason)
        elif untold:
            needed = sum(self._needed[dump_id] for dump_id in untold)
            self._audit(
                "restore-waits",
                dumps=len(untold),
                reason=f"they would take {needed} bytes, and files, that dumps may need",
            )

    def _fitting_bytes(self, waiting: tuple[str, ...]) -> int:
        """In the thread: the most that one of those is known to need for which there is room; 0 for none of them.

        Tens of thousands may wait, all of whose manifests would else be read for each that is new.
        """
        needed = sorted({self._needed[dump_id] for dump_id in waiting if dump_id in self._needed})
        fitting = bisect_left(needed, True, key=lambda size: not self._fits(size))
        return needed[fitting - 1] if fitting else 0

    def _fits(self, needed_bytes: int) -> bool:
        try:
            return self._space.look(needed_bytes) is Room.PLENTY
        except StoreError:
            return True  # that it cannot be measured is found out, and said, for each

    async def _attempt(self, dump_id: str) -> bool:
        """Returns whether nothing is left to be done for this dump now."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._restore, dump_id)
        except Exception as error:  # a mistake of ours with one dump is not for the others to pay
            self._complain(error, dump_id)
            return True

    def _complain(self, error: Exception, dump_id: str | None = None) -> None:
        self._audit("restore-failed", dump=dump_id, reason=f"{type(error).__name__}: {error}")
        asyncio.get_running_loop().call_exception_handler({"message": "restoring failed", "exception": error})

    def _restore(self, dump_id: str) -> bool:
        """In the thread. Returns whether nothing is left to be done for this dump now."""
        try:
            dump = self._store.dump(dump_id)
            manifest = dump.manifest
            if manifest is None or dump.vmcore_path is not None:
                return True
            needed = manifest.totals.data + manifest.totals.alias + METADATA_BYTES
            if self._space.look(needed) is not Room.PLENTY:
                return self._defer(dump_id, needed, f"it would take {needed} bytes, and a file, that dumps may need")
            if not dump.receipt:
                self._sign_for(dump)
            dump.reassemble(progress=self._check)
        except DumpNotFoundError:
            return True
        except BusyError:
            return False
        except DamagedError as error:
            self._audit("dump-damaged", dump=dump_id, reason=str(error))
            self._recorder.damaged(dump_id, str(error))
            return True
        except StoreError as error:
            self._audit("restore-failed", dump=dump_id, reason=str(error))
            return True
        except _NoRoomError:
            return self._defer(dump_id, needed, "space ran short while it was made")
        except _StoppedError:
            return True
        self._audit("dump-restored", dump=dump_id)
        self._recorder.refresh(dump_id).result()  # hosts that ask the index wait for all that it has still to be told
        self._views.made(dump_id)
        return True

    def _sign_for(self, dump: Dump) -> None:
        """Its host may come for the receipt, which would find the dump busy until the vmcore is made."""
        with suppress(PkiError), self._store.open_writer(dump.origin, is_known=True) as writer:
            self._receipt(writer)  # if that fails, it hears the same when it comes

    def _defer(self, dump_id: str, needed: int, reason: str) -> bool:
        """Have it said, once, why a dump waits; False: it is to be tried again."""
        if dump_id not in self._needed:
            self._needed[dump_id] = needed
            self._untold[dump_id] = reason
        return False

    def _check(self, offset: int) -> None:  # noqa: ARG002
        if self._stop.is_set():
            raise _StoppedError
        if self._space.look() is not Room.PLENTY:
            raise _NoRoomError
