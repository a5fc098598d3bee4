"""The memory files behave like a disk: what was synced survives a power cut, the rest may or may not."""

from __future__ import annotations

import errno
from random import Random
from typing import TYPE_CHECKING

import pytest

from netdump.testing.memory_files import MemoryFiles

if TYPE_CHECKING:
    from netdump.store.files import Files


def made(sync: bool, sync_folder: bool) -> MemoryFiles:
    files = MemoryFiles()
    file = files.create("a")
    file.write(b"0123")
    file.write(b"4567")
    if sync:
        file.sync()
    if sync_folder:
        files.sync_folder("")
    return files


def test_it_is_what_the_interface_asks_for() -> None:
    files: Files = MemoryFiles()
    assert files.names("") == []


def test_without_a_power_cut_all_is_there() -> None:
    files = made(sync=False, sync_folder=False)
    assert files.content("a") == b"01234567"
    assert files.all_names() == ["a"]


@pytest.mark.parametrize(
    ("sync", "sync_folder", "left"), [(1, 1, b"01234567"), (0, 1, b""), (1, 0, None), (0, 0, None)]
)
def test_name_and_content_are_synced_by_themselves(sync: int, sync_folder: int, left: bytes | None) -> None:
    files = made(bool(sync), bool(sync_folder))
    files.cut_power()
    assert (files.content("a") if files.status("a") is not None else None) == left


def test_luck_may_keep_anything_that_was_not_synced() -> None:
    found = set()
    for seed in range(300):
        files = made(sync=False, sync_folder=True)
        files.cut_power(Random(seed))
        found.add(bytes(files.content("a")))
    assert {b"", b"01234567", b"0123", b"\0\0\0\x004567", b"012", b"0123\0\0\0\0"} <= found


def test_luck_never_takes_what_was_synced() -> None:
    for seed in range(50):
        files = made(sync=True, sync_folder=True)
        file = files.open("a")
        file.write_at(0, b"X")
        files.create("b")
        files.cut_power(Random(seed))
        assert files.content("a")[1:] == b"1234567"[:]
        assert set(files.names("")) <= {"a", "b"}


def test_a_rename_is_whole_or_not_at_all() -> None:
    seen = set()
    for seed in range(50):
        files = made(sync=True, sync_folder=True)
        other = files.create("b")
        other.write(b"new")
        other.sync()
        files.sync_folder("")
        files.rename("b", "a")
        files.cut_power(Random(seed))
        seen.add((tuple(files.names("")), bytes(files.content("a"))))
    assert seen == {(("a", "b"), b"01234567"), (("a",), b"new")}


def test_folders_and_what_is_in_them() -> None:
    files = MemoryFiles()
    files.make_folder("d")
    files.create("d/a").close()
    files.sync_folder("d")
    files.cut_power()
    assert files.names("") == [], "the folder itself was never synced into its parent"
    files.make_folder("d")
    files.sync_folder("")
    files.create("d/a").close()
    files.cut_power()
    assert files.names("d") == []
    files.remove_folder("d")
    files.cut_power()
    assert files.names("") == ["d"]


def test_locks_end_with_the_power() -> None:
    files = MemoryFiles()
    files.lock("l")
    with pytest.raises(BlockingIOError):
        files.lock("l")
    files.cut_power()
    lock = files.lock("l")
    lock.release()
    lock.release()
    files.lock("l")


def test_errors_are_those_of_a_disk() -> None:
    files = made(sync=False, sync_folder=False)
    files.make_folder("d")
    files.create("d/x")
    for call, number in (
        (lambda: files.create("a"), errno.EEXIST),
        (lambda: files.make_folder("a"), errno.EEXIST),
        (lambda: files.open("b"), errno.ENOENT),
        (lambda: files.open("d"), errno.ENOENT),
        (lambda: files.open("a/b"), errno.ENOTDIR),
        (lambda: files.names("a"), errno.ENOTDIR),
        (lambda: files.names("e"), errno.ENOENT),
        (lambda: files.unlink("d"), errno.EISDIR),
        (lambda: files.unlink("b"), errno.ENOENT),
        (lambda: files.remove_folder("d"), errno.ENOTEMPTY),
        (lambda: files.remove_folder("a"), errno.ENOTDIR),
        (lambda: files.rename("b", "c"), errno.ENOENT),
    ):
        with pytest.raises(OSError, match=r"Errno") as error:
            call()
        assert error.value.errno == number
    file = files.open("a")
    file.close()
    with pytest.raises(OSError, match="descriptor"):
        file.read(0, 1)
    assert files.status("b") is None
    status = files.status("d")
    assert status is not None
    assert status.is_folder


def test_what_a_power_cut_would_leave_can_be_looked_at() -> None:
    files = MemoryFiles()
    file = files.create("a")
    file.write(b"synced")
    file.sync()
    files.sync_folder("")
    file.write(b", and not")
    files.create("b")
    assert files.after_power_cut().all_names() == ["a"]
    assert files.after_power_cut().content("a") == b"synced"
    assert files.content("a") == b"synced, and not"
    assert files.all_names() == ["a", "b"]
