"""Makes the `vmcore` of complete dumps in the background, one at a time, when there is room for it.

A `vmcore` is a view [S-05]: nothing is lost when one is late, or never made. What cannot be made now is tried again at
the next start of the collector.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError, DamagedError, DumpNotFoundError, StoreError
from netdump.server.space import Room, SpaceWatch

if TYPE_CHECKING:
    from netdump.server.audit import Audit
    from netdump.server.recorder import Recorder
    from netdump.store import Store

SEGMENT_SLACK_BYTES: Final = 1 << 20  # metadata of the file system for a sparse file


class _StoppedError(Exception):
    """The collector stops."""


class Restorer:
    """Belongs to the event loop; the work is done in a thread."""

    def __init__(self, store: Store, space: SpaceWatch, recorder: Recorder, audit: Audit) -> None:
        self._store = store
        self._space = space
        self._recorder = recorder
        self._audit = audit
        self._waiting: deque[str] = deque()
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="restore")
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
        loop = asyncio.get_running_loop()
        while self._waiting:
            changed = self._space.changed()
            waiting = len(self._waiting)
            for _ in range(waiting):
                dump_id = self._waiting.popleft()
                if not await loop.run_in_executor(self._thread, self._restore, dump_id):
                    self._waiting.append(dump_id)
            if len(self._waiting) == waiting:
                await self._space.pause(changed)
        self._task = None

    def _restore(self, dump_id: str) -> bool:
        """In the thread. Returns whether nothing is left to be done for this dump now."""
        try:
            dump = self._store.dump(dump_id)
            manifest = dump.manifest
            if manifest is None or dump.vmcore_path is not None:
                return True
            needed = manifest.totals.data + manifest.totals.alias + SEGMENT_SLACK_BYTES
            if self._space.look(needed) is not Room.PLENTY:
                return False
            dump.reassemble(progress=self._check_stop)
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
        except _StoppedError:
            return True
        self._audit("dump-restored", dump=dump_id)
        self._recorder.refresh(dump_id)
        return True

    def _check_stop(self, offset: int) -> None:  # noqa: ARG002
        if self._stop.is_set():
            raise _StoppedError
