"""Pools of threads that do with what the system lets be started.

ThreadPoolExecutor starts its threads when there is work for them. At the limit of processes (`ulimit -u`, `pids.max` of
a cgroup) it raises RuntimeError then, but has queued the work, and may do it all the same: whoever asked would take for
undone what is done beside it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from netdump.errors import ThreadsError

REMEDY = "raise the limit of processes (`ulimit -u`, `pids.max` of the cgroup, TasksMax= of systemd)"


class Threads(ThreadPoolExecutor):
    """Up to `most` threads, 1 or more. Work waits for one of those that could be started; one always could.

    name: what their names begin with. Raises ThreadsError if not even the first can be started.
    """

    def __init__(self, most: int, name: str) -> None:
        super().__init__(most, thread_name_prefix=name)
        try:
            self.submit(int)
        except RuntimeError as error:
            self.shutdown(wait=False)
            raise ThreadsError(f"{error}: {REMEDY}") from error

    def _adjust_thread_count(self) -> None:
        """Start one more if it is needed, and can be."""
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
