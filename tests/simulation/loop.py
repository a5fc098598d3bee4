"""An asyncio event loop that the simulation turns by hand, and thread pools whose work is done when it says so."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context


_Base: Any = asyncio.AbstractEventLoop  # of which most methods are about sockets and processes


class SimulatedLoop(_Base):  # type: ignore[misc]
    """As much of an event loop as the collector uses. clock: its time, in seconds.

    jobs: what was given to thread pools and is not done: (work, the future that waits for it). mistakes: what went
    wrong in callbacks.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.jobs: list[tuple[Callable[[], object], asyncio.Future[Any]]] = []
        self.mistakes: list[dict[str, Any]] = []
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._dead = False

    # What the simulation does

    @property
    def ready(self) -> bool:
        """Whether a callback is due."""
        return bool(self._ready)

    def due(self) -> float | None:
        """When the next timer is."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def turn(self) -> None:
        """Run what was ready when this turn began, timers that are due first, as asyncio's loop does."""
        now = self._clock()
        while (due := self.due()) is not None and due <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        with self.running():
            for _ in range(len(self._ready)):
                if not self._ready:
                    break
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()

    def do_job(self, number: int) -> None:
        """Do one piece of work of the pools. What it raises is its future's; a BaseException ends the process."""
        work, future = self.jobs.pop(number)
        if future.cancelled():
            return
        try:
            result = work()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call something on the loop."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def kill(self) -> None:
        """The process is gone: nothing of it runs any more."""
        self._dead = True
        with self.running():
            for task in self._tasks:
                _end(task)
        self.jobs.clear()
        self._ready.clear()
        self._timers.clear()

    # What asyncio and the collector call

    def time(self) -> float:
        return self._clock()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._dead

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._dead:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._dead:
            heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        if not self._dead:
            self.jobs.append((lambda: func(*args), future))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._dead:
            self.mistakes.append(context)


def _end(task: asyncio.Task[Any]) -> None:
    """Unwind a task that will never be run again: what its handlers still await is not waited for."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    for _ in range(10):
        try:
            coroutine.close()
        except RuntimeError:  # it awaited in a handler
            continue
        except BaseException:  # a handler found the disk of a dead process
            continue
        return
