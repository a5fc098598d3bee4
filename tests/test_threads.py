from __future__ import annotations

import threading

import pytest

from netdump.errors import ThreadsError
from netdump.threads import Threads
from tests.threadlimit import limit_threads


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One more thread can be started for each of its members."""
    return limit_threads(monkeypatch, 1)


def test_work_waits_for_those_that_could_be_started(limit: list[None]) -> None:
    gate = threading.Event()
    with Threads(3, "some") as pool:
        assert not limit
        first, second = pool.submit(gate.wait, 20), pool.submit(threading.current_thread)
        assert not second.done()
        gate.set()
        assert first.result(20)
        assert second.result(20).name.startswith("some")


def test_more_are_started_once_they_can_be(limit: list[None]) -> None:
    gate = threading.Event()
    with Threads(3, "some") as pool:
        waiting = [pool.submit(gate.wait, 20)]
        limit.append(None)
        waiting += [pool.submit(gate.wait, 20) for _ in range(3)]
        assert not limit
        gate.set()
        assert all(one.result(20) for one in waiting)


def test_not_one(limit: list[None]) -> None:
    limit.clear()
    with pytest.raises(ThreadsError, match="can't start new thread: raise the limit of processes"):
        Threads(3, "some")
