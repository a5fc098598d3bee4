"""The catalog of a collector, which may not be there yet when the collector starts.

Owns when the index is opened and what is said of that. A dump must not be lost because some other process has the index
locked, or its disk is full, or because it takes long to bring it up to date: hosts are served without it, as when that
happens later, and whoever needs it is told to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final

from netdump.errors import BusyError, IndexFaultError, StorageFaultError, StoreError
from netdump.index.catalog import LocalCatalog
from netdump.index.rebuild import set_aside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from netdump.index.index import Index
    from netdump.server.audit import Audit

RETRY_S: Final = 5.0
PATIENCE_S: Final = 5.0  # how long hosts wait for it at a start


class _StoppedError(Exception):
    """The collector stops."""


class LateCatalog:
    """Over a collector's folder. Methods may be called from any thread, unless they say otherwise."""

    def __init__(self, directory: Path, audit: Audit) -> None:
        self._directory = directory
        self._audit = audit
        self._catalog: LocalCatalog | None = None
        self._told: tuple[str, str] | None = None  # event and reason, the last since it was opened
        self._stop = asyncio.Event()
        self._is_stopping = threading.Event()  # the same, for the thread that opens it
        self._opening: asyncio.Task[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    def get(self) -> LocalCatalog:
        """The catalog. Raises BusyError while it is not open."""
        if self._catalog is None:
            raise BusyError("the index is not open yet, see the collector's log; try again in a moment")
        return self._catalog

    def index(self) -> Index:
        """The index behind it. Raises BusyError while it is not open."""
        return self.get().index

    def mend(self, reason: str) -> None:
        """See LocalCatalog.mend."""
        self.get().mend(reason)

    def open(self) -> bool:
        """Open it. Returns whether it is open: not so if another process has it locked, or the disk fails. Blocks.

        Raises StoreError.
        """
        try:
            self._catalog = open_catalog(self._directory, self._audit, self._keep_on)
        except _StoppedError:
            return False
        except (BusyError, StorageFaultError) as error:
            event = "index-locked" if isinstance(error, BusyError) else "index-failed"
            self._tell(event, f"{error}; dumps are received without it")
            return False
        self._told = None
        return True

    async def open_soon(self) -> None:
        """Open it, but wait no longer than PATIENCE_S: begin() waits for the rest. Raises what open does."""
        opening = self._opening = asyncio.create_task(asyncio.to_thread(self.open))
        await asyncio.wait({opening}, timeout=PATIENCE_S)
        if opening.done():
            self._opening = None
            await opening
        else:
            self._audit("index-late", reason="bringing it up to date takes long; dumps are received without it")

    async def begin(self, then: Callable[[], Awaitable[None]]) -> None:
        """Await then(), which needs the index: now if it is open, else as soon as it is. On the event loop.

        A StoreError of then() is logged, and it is awaited again.
        """
        if self._catalog is None or not await self._attempt(then):
            self._task = asyncio.create_task(self._begin_later(then))

    async def close(self) -> None:
        """Try no more, and give it back."""
        await self.stop_trying()
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)  # nobody needs it any more
        if self._catalog is not None:
            self._catalog.close()

    async def stop_trying(self) -> None:
        """Do not open it any more."""
        self._stop.set()
        self._is_stopping.set()
        if self._task is not None:
            await self._task

    async def _begin_later(self, then: Callable[[], Awaitable[None]]) -> None:
        while True:
            if self._opening is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RETRY_S)
            try:
                if self._stop.is_set() or await self._attempt(then):
                    return
            except Exception as error:  # a mistake of ours: nobody else would say why there is no index
                self._tell("index-failed", f"{type(error).__name__}: {error}")

    async def _attempt(self, then: Callable[[], Awaitable[None]]) -> bool:
        """Returns whether it is open, and then() is done."""
        try:
            if self._catalog is None or self._opening is not None:
                opening, self._opening = self._opening or asyncio.create_task(asyncio.to_thread(self.open)), None
                if not await opening:
                    return False
                self._audit("index-opened")
            await then()
        except StoreError as error:
            self._tell("index-failed", str(error))
            return False
        return True

    def _tell(self, event: str, reason: str) -> None:
        """Once, until there is something else to tell: it is tried every few seconds."""
        if self._told != (event, reason):
            self._audit(event, reason=reason)
        self._told = event, reason

    def _keep_on(self) -> None:
        if self._is_stopping.is_set():
            raise _StoppedError


def open_catalog(directory: Path, audit: Audit, keep_on: Callable[[], None] = lambda: None) -> LocalCatalog:
    """The catalog, its index brought up to date. A damaged index is set aside: it is a view [S-05].

    keep_on: called for each dump, may raise to stop. Raises StoreError; BusyError if another process has the index
    locked, or damaged and in use.
    """
    try:
        return _fresh(directory, audit, keep_on)
    except IndexFaultError as error:
        if not error.damaged:
            raise
        aside = set_aside(directory)
        audit("index-rebuilt", reason=str(error), damaged=aside.name)
    return _fresh(directory, audit, keep_on)


def _fresh(directory: Path, audit: Audit, keep_on: Callable[[], None]) -> LocalCatalog:
    catalog = LocalCatalog(directory, lambda reason, done: audit("index-mended", reason=reason, done=done))
    try:
        catalog.refresh(keep_on)
    except BaseException:
        catalog.close()
        raise
    return catalog
