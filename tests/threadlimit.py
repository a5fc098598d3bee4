"""A limit of threads, as `ulimit -u` or `pids.max` set one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def limit_threads(monkeypatch: pytest.MonkeyPatch, most: int) -> list[None]:
    """Let most threads be started, and one more for each member that is added to what this returns."""
    start, left = threading.Thread.start, [None] * most

    def limited(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return left
