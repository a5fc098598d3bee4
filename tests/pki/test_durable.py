"""Small files appear whole or not at all, in the order that a power cut cannot undo."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from netdump.errors import DamagedError, PkiError, StorageFaultError
from netdump.pki import durable


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "fact"
    old_mask = os.umask(0)
    try:
        durable.write(path, b"one")
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    durable.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["fact"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    path = tmp_path / "fact"
    durable.write(path, b"one")
    state = path.stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (12345, 23456, 0o600)


def test_a_file_that_cannot_be_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fail)
    with pytest.raises(StorageFaultError, match="fact"):
        durable.write(tmp_path / "fact", b"one")
    assert names(tmp_path) == []


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    dead, alive, other, kept = (
        f".client.toml.{'0' * 12}.partial",
        f".client.toml.{'1' * 12}.partial",
        f".client-toml.{'0' * 12}.partial",
        ".client.toml.mine.partial",
    )
    for name in (dead, alive, other, kept):
        (tmp_path / name).touch()
        if name != alive:
            os.utime(tmp_path / name, (0, 0))
    durable.remove_abandoned(path)
    assert names(tmp_path) == sorted([alive, other, kept])
    durable.remove_abandoned(tmp_path / "none" / "client.toml")


def test_a_draft_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f".fact.{number:012x}.partial").touch()
    for each in [*tmp_path.iterdir()]:
        os.utime(each, (0, 0))
    first = next(tmp_path.iterdir())  # in the order in which they are looked at
    first.unlink()
    first.mkdir()
    os.utime(first, (0, 0))
    durable.remove_abandoned(tmp_path / "fact")
    assert names(tmp_path) == [first.name]


def test_order_of_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(fd: int) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"sync {os.fstat(fd).st_size} bytes")
        fsync(fd)

    def note_replace(self: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    durable.write(tmp_path / "fact", b"12345")
    assert seen == ["sync 5 bytes", "rename", "sync folder"]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "fact"
    durable.write(path, b"old")

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageFaultError, match="No space left"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["fact"]


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    durable.write(tmp_path / "fact", b"0123456789")
    assert (tmp_path / "fact").read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", [3, 9000])
def test_room_is_reserved_and_given_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "fact"
    with durable.Draft(path) as draft:
        draft.reserve(5000)
        (partial,) = tmp_path.iterdir()
        assert partial.stat().st_blocks * 512 >= 5000
        draft.publish(b"x" * size)
    assert path.read_bytes() == b"x" * size


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP])
def test_room_that_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with durable.Draft(tmp_path / "fact") as draft:
        if number == errno.EOPNOTSUPP:
            draft.reserve(5000)
            draft.publish(b"x")
        else:
            with pytest.raises(StorageFaultError, match=r"cannot write .*fact"):
                draft.reserve(5000)
    assert names(tmp_path) == ["fact"] * (number == errno.EOPNOTSUPP)


def test_a_draft_that_is_not_published_vanishes(tmp_path: Path) -> None:
    def interrupted() -> None:
        with durable.Draft(tmp_path / "fact"):
            assert len(names(tmp_path)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_a_draft_shows_at_once_that_its_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageFaultError, match="missing"):
        durable.Draft(tmp_path / "missing" / "fact")


def test_lack_of_permission_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PkiError, match="run this as the user who owns"):
        durable.Draft(tmp_path / "fact")


def test_one_of_many_renames(tmp_path: Path) -> None:
    source, target = tmp_path / "fresh", tmp_path / "used"
    source.write_bytes(b"token")
    start = threading.Barrier(16)
    won: list[bool] = []

    def attempt() -> None:
        start.wait()
        won.append(durable.rename(source, target))

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 15 + [True]
    assert names(tmp_path) == ["used"]


def test_a_rename_that_cannot_be_synced_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fresh").write_bytes(b"token")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageFaultError, match="cannot rename"):
        durable.rename(tmp_path / "fresh", tmp_path / "used")
    assert names(tmp_path) == ["fresh"]


def test_what_is_durable_is_written_whatever_closing_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    path = tmp_path / "fact"
    with durable.Draft(path) as draft:
        draft.publish(b"one")
        monkeypatch.setattr(os, "close", fail)
    monkeypatch.undo()
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["fact"]


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write(tmp_path / "b", b"")
    durable.write(tmp_path / "a", b"")
    assert durable.names(tmp_path) == ["a", "b"]
    with pytest.raises(PkiError, match=r"nothing is missing: restore it from a backup"):
        durable.names(tmp_path / "nothing")

    def refuse(_: Path) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(PkiError, match="run this as the user who owns the folder"):
        durable.names(tmp_path)


def test_read_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "fact"
    path.write_bytes(b"x" * 10)
    assert durable.read(path, 10) == b"x" * 10
    with pytest.raises(DamagedError, match="longer than the 9 bytes"):
        durable.read(path, 9)
    with pytest.raises(FileNotFoundError):
        durable.read(tmp_path / "nothing", 10)
    with pytest.raises(StorageFaultError, match="directory"):
        durable.read(tmp_path, 10)
