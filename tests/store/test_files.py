"""Local files: nothing but what was asked for, nothing through a link, everything or an error."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from netdump.store.files import File, Files, LocalFiles, Lock

if TYPE_CHECKING:
    from pathlib import Path


LINK = r"symbolic link|[Dd]irectory"  # what the kernel says of a link where there may be none


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


def test_it_is_what_the_interfaces_ask_for(files: LocalFiles) -> None:
    whole: Files = files
    file: File = whole.create("a")
    lock: Lock = whole.lock("l")
    file.close()
    lock.release()


def test_write_read_and_holes(files: LocalFiles, tmp_path: Path) -> None:
    files.make_folder("d")
    file = files.create("d/a")
    file.write(b"abc")
    file.write(memoryview(b"def"))
    file.write_at(1, b"X")
    file.write_at(1 << 30, b"end")
    assert file.size() == (1 << 30) + 3
    assert file.read(0, 10) == b"aXcdef\0\0\0\0"
    assert file.read(1 << 30, 10) == b"end"
    assert file.read(1 << 31, 10) == b""
    file.sync()
    status = files.status("d/a")
    assert status is not None
    assert status.bytes == (1 << 30) + 3
    assert status.disk_bytes < 1 << 20
    file.resize(4)
    file.close()
    file.close()
    assert (tmp_path / "d" / "a").read_bytes() == b"aXcd"
    again = files.open("d/a")
    assert again.read(0, 100) == b"aXcd"
    with pytest.raises(OSError, match="Bad file descriptor"):
        again.write(b"read only")
    again.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        again.size()


def test_holes_are_found(files: LocalFiles) -> None:
    file = files.create("a")
    file.write_at(1 << 20, b"x" * 4096)
    file.resize(1 << 30)
    assert file.next_data(0) in {0, 1 << 20}  # 0 where the file system keeps no holes
    assert file.next_data(1 << 20) == 1 << 20
    assert file.next_data(1 << 29) in {1 << 29, 1 << 30}
    assert file.next_data(1 << 31) >= 1 << 30
    file.close()


def test_what_is_there_is_written_on(files: LocalFiles, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    with closing(files.update("a")) as file:
        file.write_at(2, b"XY")
        assert file.read(0, 9) == b"abXYef"
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(FileNotFoundError):
        files.update("link")


def test_only_a_file_of_ones_own_is_written_on(files: LocalFiles, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    path.chmod(0o666)
    files.update("a").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.link(path, tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        files.update("a")
    (tmp_path / "b").unlink()
    files.update("a").close()


def test_a_file_of_another_user_is_not_written_on(files: LocalFiles, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with closing(files.update("a")) as file:
        assert file.is_only(os.geteuid())
        assert not file.is_only(os.geteuid() + 1)
    if os.geteuid() == 0:
        os.chown(path, 4711, -1)
        with pytest.raises(FileNotFoundError):
            files.update("a")


def test_modes_do_not_depend_on_the_umask(files: LocalFiles, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_folder("d")
        files.create("d/a").close()
        files.lock("d/l").release()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "d" / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "d" / "l").stat().st_mode) == 0o600


def test_create_never_takes_what_is_there(files: LocalFiles, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("a", "dangling"):
        with pytest.raises(FileExistsError):
            files.create(name)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(FileExistsError):
        files.make_folder("a")


def test_no_link_is_followed(files: LocalFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "file").symlink_to(outside / "file")
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "segments").symlink_to(outside)
    for name in ("file", "folder/file", "folder", "dump/segments/file"):
        with pytest.raises(OSError, match=LINK):
            files.open(name)
        with pytest.raises(OSError, match=LINK):
            files.lock(name)
    with pytest.raises(OSError, match=LINK):
        files.names("folder")
    with pytest.raises(OSError, match=LINK):
        files.create("folder/new")
    with pytest.raises(OSError, match=LINK):
        files.sync_folder("dump/segments")
    status = files.status("folder")
    assert status is not None
    assert not status.is_folder
    files.unlink("folder")
    assert (outside / "file").exists()


def test_only_regular_files_are_opened(files: LocalFiles, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder", "absent"):
        for opening in (files.open, files.update):
            with pytest.raises((FileNotFoundError, IsADirectoryError)):
                opening(name)
    with pytest.raises(FileNotFoundError):
        files.open("absent/file")


@pytest.mark.parametrize("name", ["..", "../a", "a/../b", "a//b", "/a", "a/", ".", "a\0b"])
def test_names_that_would_lead_elsewhere(files: LocalFiles, name: str) -> None:
    files.make_folder("a")
    with pytest.raises(AssertionError):
        files.create(name)


def test_folders(files: LocalFiles) -> None:
    files.make_folder("d")
    files.create("d/b").close()
    files.create("d/a").close()
    assert files.names("") == ["d"]
    assert files.names("d") == ["a", "b"]
    status = files.status("d")
    assert status is not None
    assert status.is_folder
    assert files.status("d/c") is files.status("x/y") is None
    files.rename("d/a", "d/b")
    assert files.names("d") == ["b"]
    files.sync_folder("d")
    files.sync_folder("")
    with pytest.raises(OSError, match="not empty"):
        files.remove_folder("d")
    files.unlink("d/b")
    files.remove_folder("d")
    assert files.names("") == []


def test_what_is_synced_is_given_to_the_disk(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is shown of power cuts is shown with files in memory: here is that the real ones ask the kernel."""
    synced: list[int] = []

    def watch(call: str) -> None:
        real = getattr(os, call)

        def noting(descriptor: int) -> None:
            real(descriptor)
            synced.append(os.fstat(descriptor).st_ino)

        monkeypatch.setattr(os, call, noting)

    watch("fsync")
    watch("fdatasync")
    files.make_folder("d")
    file = files.create("d/a")
    file.write(b"abc")
    assert not synced
    file.sync()
    files.sync_folder("d")
    files.sync_folder("")
    file.close()
    assert synced == [(tmp_path / name).stat().st_ino for name in ("d/a", "d", "")]


def test_locks(files: LocalFiles, tmp_path: Path) -> None:
    lock = files.lock("l")
    with pytest.raises(BlockingIOError):
        LocalFiles(tmp_path).lock("l")
    lock.release()
    lock.release()
    files.lock("l").release()


def test_a_lock_on_a_file_that_is_gone_is_no_lock(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock_and_lose(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (tmp_path / "l").unlink()

    monkeypatch.setattr(fcntl, "flock", flock_and_lose)
    with pytest.raises(BlockingIOError):
        files.lock("l")
    monkeypatch.undo()
    (tmp_path / "l").touch()

    def flock_and_replace(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (tmp_path / "l").rename(tmp_path / "old")
        (tmp_path / "l").touch()

    monkeypatch.setattr(fcntl, "flock", flock_and_replace)
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        files.lock("l")
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_short_write_goes_on_until_the_reason_shows(files: LocalFiles) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file = files.create("a")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match="too large") as error:
            file.write(bytes(20_000))
        assert error.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.size() == 10_000
    file.close()


def test_short_reads_and_writes_are_made_up_for(files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
    file = files.create("a")
    data = bytes(range(256))
    file.write(data)
    file.write_at(256, memoryview(data))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 5), at))
    assert file.read(0, 512) == data + data
    assert file.read(500, 100) == data[244:]
    file.close()


def test_no_descriptor_is_left_open(files: LocalFiles) -> None:
    before = len(os.listdir("/proc/self/fd"))
    files.make_folder("d")
    files.create("d/a").close()
    files.lock("d/l").release()
    files.make_folder("d/e")
    files.create("d/e/a").close()
    assert files.names("d/e") == ["a"]
    for call in (
        lambda: files.open("d"),
        lambda: files.open("d/e/a/x"),
        lambda: files.open("d/x"),
        lambda: files.names("d/a"),
        lambda: files.create("d/a"),
    ):
        with pytest.raises(OSError, match=r"Errno"):
            call()
    held = files.lock("d/l")
    with pytest.raises(BlockingIOError):
        files.lock("d/l")
    held.release()
    assert len(os.listdir("/proc/self/fd")) == before
