"""The recipe of [S-01], operation by operation, and what errors of the disk turn into."""

from __future__ import annotations

import errno

import pytest

from netdump.errors import StorageFaultError
from netdump.store.durable import discard, publish, read_whole, storage_faults, write_durably
from netdump.store.findings import DamageFoundError
from netdump.testing.faulty_files import FaultyFiles, Operation
from netdump.testing.memory_files import MemoryFiles


@pytest.fixture
def memory() -> MemoryFiles:
    memory = MemoryFiles()
    memory.make_folder("d")
    memory.sync_folder("")
    return memory


def test_the_recipe(memory: MemoryFiles) -> None:
    files = FaultyFiles(memory)
    write_durably(files, "d/a", b"content")
    assert files.operations == [
        Operation("unlink", "d/a.partial"),
        Operation("create", "d/a.partial"),
        Operation("write", "d/a.partial"),
        Operation("sync", "d/a.partial"),
        Operation("close", "d/a.partial"),
        Operation("rename", "d/a"),
        Operation("sync_folder", "d"),
    ]
    memory.cut_power()
    assert memory.content("d/a") == b"content"
    assert memory.names("d") == ["a"]


@pytest.mark.parametrize("number", range(7))
def test_after_a_fault_there_is_nothing(memory: MemoryFiles, number: int) -> None:
    files = FaultyFiles(memory)
    files.fail(number)
    with pytest.raises(OSError, match="error"):
        write_durably(files, "d/a", b"content")
    assert memory.names("d") == []
    write_durably(files, "d/a", b"content")
    assert memory.content("d/a") == b"content"


def test_a_name_in_doubt_is_taken_back(memory: MemoryFiles) -> None:
    """[S-04]: not even a later, successful sync may make it count."""
    files = FaultyFiles(memory)
    file = files.create("d/a.partial")
    files.fail(3)
    with pytest.raises(OSError, match="error"):
        publish(files, file, "d/a.partial", "d/a")
    assert files.operations[-2:] == [Operation("sync_folder", "d"), Operation("unlink", "d/a")]
    memory.sync_folder("d")
    memory.cut_power()
    assert memory.names("d") == []


def test_an_interrupt_leaves_nothing(memory: MemoryFiles) -> None:
    class Interrupted(MemoryFiles):
        def sync_folder(self, name: str) -> None:
            raise KeyboardInterrupt

    files = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        write_durably(files, "a", b"content")
    assert files.names("") == ["a"], "its name is final and its content whole; only the promise is missing"


def test_leftovers_are_replaced(memory: MemoryFiles) -> None:
    memory.create("d/a.partial").write(b"a longer rest of before")
    write_durably(memory, "d/a", b"content")
    assert memory.content("d/a") == b"content"
    discard(memory, "d/absent")


def test_read_whole(memory: MemoryFiles) -> None:
    write_durably(memory, "d/a", b"content")
    assert read_whole(memory, "d/a", 7) == b"content"
    assert read_whole(memory, "d/b", 7) is None
    assert read_whole(memory, "x/b", 7) is None
    with pytest.raises(DamageFoundError, match="7 bytes, allowed are 6"):
        read_whole(memory, "d/a", 6)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EFBIG, "no file of that size .*; or lift .*ulimit -f"),
        (errno.EIO, "check the disk"),
    ],
)
def test_faults_say_what_and_what_to_do(number: int, advice: str) -> None:
    with pytest.raises(StorageFaultError, match=f"storing X: .*{advice}") as error, storage_faults("storing X"):
        raise OSError(number, "it broke")
    assert isinstance(error.value.__cause__, OSError)
    assert error.value.retryable


def test_other_errors_go_through() -> None:
    with pytest.raises(ZeroDivisionError), storage_faults("storing X"):
        raise ZeroDivisionError
