"""The faulty files fail where they are told to, and only there; a stopped process does nothing more."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from netdump.store.files import File, Files, LocalFiles
from netdump.testing.faulty_files import FaultyFiles, Moment, Operation, Stopped
from netdump.testing.memory_files import MemoryFiles

if TYPE_CHECKING:
    from pathlib import Path


def work(files: Files) -> bytes:
    """Every kind of operation, once or more."""
    files.make_folder("d")
    lock = files.lock("d/lock")
    file = files.create("d/a.partial")
    file.write(b"01234567")
    file.write_at(4, b"ABCD")
    file.resize(6)
    file.sync()
    file.close()
    files.rename("d/a.partial", "d/a")
    files.sync_folder("d")
    read = files.open("d/a")
    content = read.read(0, read.size())
    read.close()
    assert files.names("d") == ["a", "lock"]
    assert files.status("d/a") is not None
    files.unlink("d/a")
    lock.release()
    files.unlink("d/lock")
    files.remove_folder("d")
    return content


def test_without_faults_nothing_changes_and_all_is_recorded(tmp_path: Path) -> None:
    for inner in (LocalFiles(tmp_path), MemoryFiles()):
        files = FaultyFiles(inner)
        assert work(files) == b"0123AB"
        assert " ".join(operation.kind for operation in files.operations) == (
            "make_folder lock create write write_at resize sync close rename sync_folder open size read close "
            "names status unlink release unlink remove_folder"
        )
        assert files.operations[8] == Operation("rename", "d/a")


COUNT = 20


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_operation_can_fail(number: int, error: int) -> None:
    files = FaultyFiles(MemoryFiles())
    files.fail(number, error)
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        work(files)
    assert raised.value.errno == error
    assert len(files.operations) == number + 1


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("number", range(COUNT))
def test_any_operation_can_be_the_last(tmp_path: Path, number: int, moment: Moment) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    files = FaultyFiles(LocalFiles(tmp_path))
    files.stop(number, moment)
    with pytest.raises(Stopped):
        work(files)
    assert files.stopped
    before = sorted(path for path in tmp_path.rglob("*"))
    for call in (lambda: files.names(""), lambda: files.make_folder("x"), lambda: files.lock("l")):
        with pytest.raises(Stopped):
            call()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors, "the kernel has closed what was open"
    if (tmp_path / "d").exists():
        LocalFiles(tmp_path).lock("d/lock").release()


def written(moment: Moment) -> bytes:
    memory = MemoryFiles()
    files = FaultyFiles(memory)
    file = files.create("a")
    files.stop(0, moment)
    with pytest.raises(Stopped):
        file.write(b"01234567")
    return bytes(memory.content("a"))


def test_the_moments_of_a_write() -> None:
    assert [written(moment) for moment in (Moment.BEFORE, Moment.IN_THE_MIDDLE, Moment.AFTER)] == [
        b"",
        b"0123",
        b"01234567",
    ]


def test_a_failing_write_is_half_done() -> None:
    memory = MemoryFiles()
    files = FaultyFiles(memory)
    file = files.create("a")
    files.fail(error=errno.ENOSPC)
    with pytest.raises(OSError, match="space"):
        file.write(b"01234567")
    assert memory.content("a") == b"0123"


def test_faults_count_from_now_and_end() -> None:
    files = FaultyFiles(MemoryFiles())
    files.make_folder("d")
    files.fail(1, times=2)
    assert files.names("d") == []
    for _ in range(2):
        with pytest.raises(OSError, match="error"):
            files.names("d")
    assert files.names("d") == []


def test_a_full_disk_stops_what_grows_until_there_is_room() -> None:
    files = FaultyFiles(MemoryFiles())
    file = files.create("a")
    files.fill_up(1)
    assert files.names("") == ["a"]
    for call in (lambda: file.write(b"1"), file.sync, lambda: files.create("b"), lambda: files.make_folder("d")):
        with pytest.raises(OSError, match="space") as error:
            call()
        assert error.value.errno == errno.ENOSPC
    assert file.read(0, 10) == b""
    files.unlink("a")
    files.make_room()
    files.create("b").write(b"1")


def test_what_a_failed_sync_lost_stays_lost() -> None:
    """[S-04]: the next sync succeeds, and makes durable only what came after."""
    memory = MemoryFiles()
    files = FaultyFiles(memory)
    file: File = files.create("a")
    memory.sync_folder("")
    file.write(b"0123")
    files.fail()
    with pytest.raises(OSError, match="error"):
        file.sync()
    assert file.read(0, 4) == b"0123"
    file.write(b"4567")
    file.sync()
    memory.cut_power()
    assert memory.content("a") == b"\0\0\0\x004567"


def test_a_failing_close_closes(tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    files = FaultyFiles(LocalFiles(tmp_path))
    file = files.create("a")
    files.fail()
    with pytest.raises(OSError, match="error"):
        file.close()
    lock = files.lock("l")
    files.fail()
    with pytest.raises(OSError, match="error"):
        lock.release()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_plans_can_be_forgotten() -> None:
    files = FaultyFiles(MemoryFiles())
    files.fail(0)
    files.stop(1)
    files.forget_plans()
    files.make_folder("a")
    files.make_folder("b")
    assert files.names("") == ["a", "b"]
