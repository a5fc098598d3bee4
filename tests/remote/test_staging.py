"""The folder beside the target."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

import pytest

from netdump.errors import AlreadyExistsError, StorageFaultError
from netdump.remote.staging import SUFFIX, Staging, refuse_existing
from netdump.store.files import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_what_has_come_stays_and_grows(tmp_path: Path, staging: Staging) -> None:
    assert staging.size("a.seg") == 0
    staging.append("a.seg", iter([b"abc", b"d"]))
    Staging(tmp_path / "core").make()
    staging.append("a.seg", iter([b"ef"]))
    assert (staging.size("a.seg"), staging.segment("a.seg").read_bytes()) == (6, b"abcdef")
    staging.discard("a.seg")
    staging.discard("a.seg")
    assert staging.size("a.seg") == 0


def test_only_the_owner_may_read(tmp_path: Path, staging: Staging) -> None:
    staging.append("a.seg", iter([b"x"]))
    folder = tmp_path / f"core{SUFFIX}"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "a.seg")] == [0o700, 0o600]


def test_what_had_come_before_a_failure_is_kept(staging: Staging) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        staging.append("a.seg", pieces())
    assert staging.segment("a.seg").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EFBIG, "no file of that size .*; or lift .*ulimit -f"),
        (errno.EIO, "check the"),
    ],
)
def test_a_disk_that_does_not_go_along(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageFaultError, match=advice):
        staging.append("a.seg", iter([b"abc"]))


@pytest.mark.parametrize("kind", ["pipe", "link", "second name"])
def test_what_is_no_file_is_not_written_to(tmp_path: Path, staging: Staging, kind: str) -> None:
    mine = tmp_path / "mine"
    mine.touch()
    match kind:
        case "pipe":
            os.mkfifo(staging.segment("a.seg"))
        case "link":
            staging.segment("a.seg").symlink_to(mine)
        case _:
            os.link(mine, staging.segment("a.seg"))
    with pytest.raises(StorageFaultError):
        staging.append("a.seg", iter([b"abc"]))
    assert mine.read_bytes() == b""


def test_short_writes_are_completed(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: plain(descriptor, data[:2]))
    staging.append("a.seg", iter([b"abcde"]))
    assert staging.segment("a.seg").read_bytes() == b"abcde"


def test_the_image_gets_its_name(tmp_path: Path, staging: Staging) -> None:
    staging.image.write_bytes(b"image")
    staging.place(staging.image, tmp_path / "core", replace=False)
    (staging.image.parent / "folder").mkdir()
    (staging.image.parent / "folder" / "file").touch()
    lock = staging.image.with_name("image.lock")
    lock.touch()
    staging.clear()
    assert list(staging.image.parent.iterdir()) == [lock]
    lock.unlink()
    staging.remove_if_empty()
    staging.clear()
    assert os.listdir(tmp_path) == ["core"]
    assert (tmp_path / "core").read_bytes() == b"image"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_into_being_meanwhile_is_not_replaced(
    tmp_path: Path, staging: Staging, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    staging.image.write_bytes(b"image")
    (tmp_path / "core").write_bytes(b"mine")
    with pytest.raises(AlreadyExistsError, match="--force"):
        staging.place(staging.image, tmp_path / "core", replace=False)
    assert (tmp_path / "core").read_bytes() == b"mine"
    (tmp_path / "core").unlink()
    staging.place(staging.image, tmp_path / "core", replace=False)
    assert (tmp_path / "core").read_bytes() == b"image"


@pytest.mark.parametrize("replace", [False, True])
def test_the_name_is_durable(tmp_path: Path, staging: Staging, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    staging.image.write_bytes(b"whole")
    synced: list[list[str]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.listdir(descriptor))

    monkeypatch.setattr(os, "fsync", watched)
    staging.place(staging.image, tmp_path / "core", replace=replace)
    assert len(synced) == 1
    assert "core" in synced[0]


def test_replacing_is_for_who_asks(tmp_path: Path, staging: Staging) -> None:
    staging.image.write_bytes(b"image")
    (tmp_path / "core").write_bytes(b"old")
    staging.place(staging.image, tmp_path / "core", replace=True)
    assert (tmp_path / "core").read_bytes() == b"image"


def test_a_dangling_link_is_something_that_exists(tmp_path: Path) -> None:
    (tmp_path / "core").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlreadyExistsError):
        refuse_existing(tmp_path / "core")


@pytest.mark.parametrize("what", [os.mkfifo, lambda path: path.symlink_to("/proc/self/fd/1")], ids=["pipe", "link"])
def test_of_what_is_no_file_it_is_told_at_once(tmp_path: Path, what: Callable[[Path], None]) -> None:
    """Not --force first, which helps no more. Of root's that would be /dev/stdout, for the whole machine."""
    what(tmp_path / "stdout")
    for replace in (False, True):
        with pytest.raises(AlreadyExistsError, match=r"never replaced.*`-o - > NAME`"):
            refuse_existing(tmp_path / "stdout", replace=replace)


def test_a_folder_that_another_user_has_made_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"core{SUFFIX}").mkdir(mode=0o777)
    made = LocalFile.is_only
    monkeypatch.setattr(LocalFile, "is_only", lambda file, owner: made(file, owner + 1))
    with pytest.raises(StorageFaultError, match="belongs to another user"):
        Staging(tmp_path / "core").make()
    assert os.listdir(tmp_path / f"core{SUFFIX}") == []


def test_a_link_is_not_followed_and_nothing_there_is_removed(tmp_path: Path) -> None:
    """In a folder of several people one can lead another's fetch to that other's own files."""
    (tmp_path / "home" / "letters").mkdir(parents=True)
    (tmp_path / "home" / "keys").write_bytes(b"mine")
    (tmp_path / f"core{SUFFIX}").symlink_to(tmp_path / "home")
    with pytest.raises(StorageFaultError, match="is a link"):
        Staging(tmp_path / "core").make()
    assert sorted(os.listdir(tmp_path / "home")) == ["keys", "letters"]


def test_an_image_that_the_file_system_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on vfat, whose files end at 4 GiB - 1, also for lseek(2). Nothing has been written then."""

    class Limited(io.FileIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            if offset >= 1 << 32:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return super().seek(offset, whence)

    monkeypatch.setattr(type(tmp_path), "open", lambda path, *_, **__: Limited(path))
    Staging(tmp_path / "core").make((1 << 32) - 1)
    with pytest.raises(StorageFaultError, match=r"a file of 4,294,967,296 bytes is too .*vfat: 4 GiB"):
        Staging(tmp_path / "other").make(1 << 32)
    assert os.listdir(tmp_path) == [f"core{SUFFIX}"]


@pytest.mark.parametrize(
    ("blocks", "taken", "holes"),
    [(0, 0, True), (0, 1, True), (1, 1, False), (1, 0.75, False), (1, 0, True), (1, 0.25, True), (1, -1, True)],
)
def test_a_file_system_without_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, blocks: int, taken: float, holes: bool
) -> None:
    """vfat has blocks for what was never written, and the room is gone; CIFS says so, and only guesses.

    blocks: that the file has, of its size; taken: room that is gone, of its size. Others write, and remove files.
    """
    room, size = 1 << 40, 16 << 20

    def resize(file: LocalFile, end: int) -> None:
        nonlocal room
        assert end == size
        room -= int(size * taken)
        if blocks:
            file.write(bytes(end))
        else:
            plain(file, end)

    plain = LocalFile.resize
    monkeypatch.setattr(LocalFile, "resize", resize)
    monkeypatch.setattr(Staging, "free_bytes", lambda _: room)
    staging = Staging(tmp_path / "core")
    staging.make()
    assert staging.has_holes is holes


def test_the_file_system_of_these_tests_has_holes(staging: Staging) -> None:
    assert staging.has_holes


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / f"core{SUFFIX}").write_bytes(b"")
    with pytest.raises(StorageFaultError):
        Staging(tmp_path / "core").make()
    with pytest.raises(StorageFaultError):
        Staging(tmp_path / "nowhere" / "core").make()
