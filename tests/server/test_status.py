"""What a collector says of itself, and what somebody who reads it makes of that."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import netdump.server.status as status_module
from netdump.errors import DamagedError, NotACollectorError, StorageFaultError
from netdump.index.rebuild import SERVE_LOCK_NAME, SERVE_STATUS_NAME
from netdump.server.status import FACT_CHARS_MAX, SILENT_S, Report, Status, StatusFile, Trouble, inspect, read
from netdump.store.sealed import seal
from tests.server.rig import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_796_000_000
STATUS = Status(
    pid=17,
    version="0.1.0",
    ingest="0.0.0.0:7461",
    api="[::]:7462",
    started=NOW - 100,
    written=NOW - 10,
    troubles=(Trouble("space", "little"),),
    dumps={"complete": 3, "damaged": 0},
    stored_bytes=1 << 42,
    free_bytes=5,
    total_bytes=10,
    events={"dump-complete": 3},
)
UNKNOWN = replace(STATUS, dumps=None, stored_bytes=None, free_bytes=None, total_bytes=None, events={}, troubles=())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """As a collector holds its folder."""
    descriptor = os.open(folder / SERVE_LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("status", [STATUS, UNKNOWN])
def test_it_comes_back_from_the_file(tmp_path: Path, status: Status) -> None:
    StatusFile(tmp_path).write(status)
    assert read(tmp_path) == status
    assert stat.S_IMODE((tmp_path / SERVE_STATUS_NAME).stat().st_mode) == 0o600


def test_a_sentence_without_end_is_cut_off(tmp_path: Path) -> None:
    StatusFile(tmp_path).write(replace(STATUS, troubles=(Trouble("upkeep", "x" * 5000),)))
    status = read(tmp_path)
    assert status is not None
    assert status.troubles == (Trouble("upkeep", "x" * FACT_CHARS_MAX),)


def test_the_last_word_is_taken_back_once(tmp_path: Path) -> None:
    """A look that was under way when the collector ended says nothing any more."""
    file = StatusFile(tmp_path)
    file.write(STATUS)
    file.close()
    assert read(tmp_path) is None
    file.write(STATUS)
    file.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_hangs_keeps_no_collector_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, hangs, goes_on = StatusFile(tmp_path), threading.Event(), threading.Event()

    def pack(_: Status) -> bytes:
        hangs.set()
        goes_on.wait(PATIENCE_S)
        return b""

    monkeypatch.setattr(status_module, "CLOSING_S", 0.01)
    monkeypatch.setattr(Status, "pack", pack)
    writer = threading.Thread(target=file.write, args=(STATUS,))
    writer.start()
    try:
        assert hangs.wait(PATIENCE_S)
        file.close()
        assert writer.is_alive()
    finally:
        goes_on.set()
        writer.join()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / SERVE_STATUS_NAME).mkdir()
    file = StatusFile(tmp_path)
    with pytest.raises(StorageFaultError, match=r"serve\.json cannot be written"):
        file.write(STATUS)
    file.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"pid": 17, "ingest": "127.0.0.1:7461", "api": "127.0.0.1:7462"}',
        STATUS.pack().replace(b'"pid":17', b'"pid":18'),
        seal({"format": "netdump-status/2", "pid": 17}),
        seal({"format": "netdump-status/1", "pid": 17}),
        b"[" * 100_000,
        b" " * (2 << 20),
    ],
)
def test_a_file_of_something_else_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    (tmp_path / SERVE_STATUS_NAME).write_bytes(data)
    with pytest.raises(DamagedError, match=r"serve\.json is"):
        read(tmp_path)


def test_a_collector_that_runs(folder: Path) -> None:
    StatusFile(folder).write(STATUS)
    with held(folder):
        assert inspect(folder, NOW) == Report(STATUS, STATUS.troubles)
        for written in (STATUS.written - SILENT_S, STATUS.written + SILENT_S):
            assert inspect(folder, written) == Report(STATUS, STATUS.troubles)


@pytest.mark.parametrize("later", [SILENT_S + 1, -SILENT_S - 1])
def test_a_collector_that_has_fallen_silent(folder: Path, later: int) -> None:
    StatusFile(folder).write(STATUS)
    with held(folder):
        status, (first, *others) = inspect(folder, STATUS.written + later)
    assert status == STATUS
    assert first.topic == "running"
    assert "it has said nothing since 2026-11-30T" in first.fact
    assert tuple(others) == STATUS.troubles


def test_no_collector(folder: Path) -> None:
    for told in (None, STATUS):
        if told is not None:
            StatusFile(folder).write(told)  # and was killed
        status, ((topic, fact),) = inspect(folder, NOW)
        assert status is None
        assert topic == "running"
        assert f"no collector runs on {folder}" in fact
        assert f"netdump serve {folder}" in fact
        assert ("process 17 was killed" in fact) == (told is not None)


def test_what_a_power_cut_left_of_the_file_hides_nothing(folder: Path) -> None:
    (folder / SERVE_STATUS_NAME).write_bytes(bytes(200))
    status, ((topic, fact),) = inspect(folder, NOW)
    assert (status, topic) == (None, "running")
    assert "no collector runs" in fact
    with held(folder), pytest.raises(DamagedError):
        inspect(folder, NOW)


def test_a_collector_that_has_not_spoken_yet(folder: Path) -> None:
    with held(folder):
        status, ((topic, fact),) = inspect(folder, NOW)
    assert (status, topic) == (None, "running")
    assert fact.startswith("it starts, or its index is made anew")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotACollectorError, match="netdump init"):
        inspect(tmp_path, NOW)
