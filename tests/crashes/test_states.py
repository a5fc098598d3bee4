"""The enumeration knows the states that matter."""

from __future__ import annotations

from random import Random

from netdump.testing.memory_files import MemoryFiles
from tests.crashes.states import fingerprint, plans


def published(disk: MemoryFiles, *, sync: bool) -> None:
    file = disk.create("a.partial")
    file.write(b"x" * 5000)
    if sync:
        file.sync()
    disk.rename("a.partial", "a")


def states(disk: MemoryFiles) -> list[MemoryFiles]:
    return [disk.after_power_cut(luck) for luck in plans(disk.unsynced(), Random(1), by_chance=5)]


def test_a_name_without_its_content_is_among_them() -> None:
    disk = MemoryFiles()
    published(disk, sync=False)
    contents = {bytes(state.content("a")) for state in states(disk) if "a" in state.all_names()}
    assert contents >= {
        b"",
        b"x" * 5000,
        bytes(5000),
        b"\xa5" * 5000,
        b"x" * 512,
        b"x" * 4096,
        bytes(4096) + b"x" * 904,
    }
    assert b"x" * 4096 + bytes(0) in contents
    assert b"x" * 512 + bytes(512) + b"x" * 3976 in contents


def test_what_was_synced_is_whole_under_either_name() -> None:
    disk = MemoryFiles()
    published(disk, sync=True)
    found = states(disk)
    assert {tuple(state.all_names()) for state in found} == {(), ("a",), ("a.partial",)}
    assert all(state.content(name) == b"x" * 5000 for state in found for name in state.all_names())


def test_states_are_told_apart() -> None:
    disk = MemoryFiles()
    published(disk, sync=False)
    assert len({fingerprint(state) for state in states(disk)}) >= 20
    assert fingerprint(disk) == fingerprint(disk)


def test_nothing_waits_nothing_is_lost() -> None:
    disk = MemoryFiles()
    published(disk, sync=True)
    disk.sync_folder("")
    assert disk.unsynced() == []
    assert {fingerprint(state) for state in states(disk)} == {fingerprint(disk)}
