from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from netdump.errors import SourceUnreadableError, TruncatedCoreError
from netdump.vmcore.filesource import FileSource, add_lost, boot_identity
from tests.vmcore.source_contract import IMAGE, check_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    return file


def test_contract(path: Path) -> None:
    check_source(FileSource(str(path)), IMAGE)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match=r"nothing cannot be opened: No such file"):
        FileSource(str(tmp_path / "nothing"))


def test_a_folder_and_a_fifo_are_no_cores(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(SourceUnreadableError, match="not a regular file"):
            FileSource(str(path))


def test_a_character_device_only_where_allowed() -> None:
    with pytest.raises(SourceUnreadableError, match="not a regular file"):
        FileSource("/dev/zero")
    source = FileSource("/dev/zero", any_device=True)
    assert source.size == 1 << 52
    assert source.identity() == boot_identity()
    source.close()


def test_a_block_device_tells_its_size_by_its_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stat, "S_ISREG", lambda _mode: False)
    monkeypatch.setattr(stat, "S_ISBLK", lambda _mode: True)
    check_source(FileSource(str(path)), IMAGE)


def test_a_file_that_shrinks_is_lost_from_there_on(path: Path) -> None:
    source = FileSource(str(path))
    os.truncate(path, 10 * 4096 + 100)
    buffer = bytearray(8 * 4096)
    assert source.read_into(6 * 4096, memoryview(buffer)) == [(4 * 4096, 4 * 4096)]
    assert buffer[: 4 * 4096] == IMAGE[6 * 4096 : 10 * 4096]
    with pytest.raises(SourceUnreadableError, match="shorter"):
        source.read(11 * 4096, 10)


def test_a_file_that_is_to_be_whole_may_not_shrink(path: Path) -> None:
    source = FileSource(str(path), is_whole=True)
    os.truncate(path, 10 * 4096 + 100)
    buffer = bytearray(8 * 4096)
    assert source.read_into(2 * 4096, memoryview(buffer)) == []
    with pytest.raises(TruncatedCoreError, match=f"shorter while it was read, from {len(IMAGE)} to 41060 bytes"):
        source.read_into(6 * 4096, memoryview(buffer))


def test_a_file_that_has_gone_is_not_lost_page_by_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the server of a network file system goes away, or the disk is pulled out."""
    source = FileSource(str(path), is_whole=True)
    buffer = memoryview(bytearray(4 * 4096))
    fail_pages(monkeypatch, {2})
    assert source.read_into(0, buffer) == [(2 * 4096, 4096)], "one page that fails is one page"
    fail_pages(monkeypatch, set(range(len(IMAGE) // 4096)))

    def pread(*_: int) -> bytes:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(SourceUnreadableError, match="cannot be read any more: Transport endpoint is not connected"):
        source.read_into(4 * 4096, buffer)
    assert FileSource(str(path)).read_into(0, buffer) == [(0, 4 * 4096)]


def test_closing_fails_for_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileSource(str(path))
    real = os.close

    def close(fd: int) -> None:
        real(fd)
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(os, "close", close)
    source.close()
    source.close()


def test_what_a_shrunken_file_has_lost_is_no_hole(path: Path) -> None:
    source = FileSource(str(path))
    os.truncate(path, 4096)
    assert source.next_data(8192) == 8192


def fail_pages(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Let every read that touches one of these pages fail, as a disk does, or /proc/vmcore."""
    real = os.preadv

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if any(offset < (page + 1) * 4096 and page * 4096 < offset + len(buffers[0]) for page in bad):
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)


def test_a_page_that_fails_is_lost_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileSource(str(path))
    fail_pages(monkeypatch, {3, 4, 9})
    buffer = bytearray(12 * 4096)
    assert source.read_into(0, memoryview(buffer)) == [(3 * 4096, 2 * 4096), (9 * 4096, 4096)]
    for page in set(range(12)) - {3, 4, 9}:
        assert buffer[page * 4096 : (page + 1) * 4096] == IMAGE[page * 4096 : (page + 1) * 4096]


def test_losses_are_whole_pages_of_the_file_but_for_the_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileSource(str(path))
    fail_pages(monkeypatch, {3})
    assert source.read_into(1000, memoryview(bytearray(5 * 4096))) == [(3 * 4096 - 1000, 4096)]
    assert source.read_into(3 * 4096 + 10, memoryview(bytearray(20))) == [(0, 20)]


def test_what_could_not_be_read_is_not_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even together with other pages: a disk that fails takes seconds each time."""
    source = FileSource(str(path))
    bad = {3, 4, 9}
    fail_pages(monkeypatch, bad)
    first = bytearray(12 * 4096)
    lost = source.read_into(0, memoryview(first))
    tried: list[tuple[int, int]] = []
    failing = os.preadv

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        tried.append((offset, len(buffers[0])))
        return failing(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    buffer = bytearray(12 * 4096)
    assert source.read_into(0, memoryview(buffer)) == lost
    assert [(offset // 4096, length // 4096) for offset, length in tried if length] == [(0, 3), (5, 4), (10, 2)]
    for page in set(range(12)) - bad:
        assert buffer[page * 4096 : (page + 1) * 4096] == IMAGE[page * 4096 : (page + 1) * 4096]
    assert source.read_into(3 * 4096 + 10, memoryview(bytearray(4096))) == [(0, 4096)]
    assert source.read_into(4096 * 8 + 1, memoryview(bytearray(5000))) == [(4095, 905)]


def test_only_so_much_that_could_not_be_read_is_remembered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.vmcore.filesource.LOST_KEPT", 1)
    source = FileSource(str(path))
    fail_pages(monkeypatch, {1, 3})
    for _ in range(2):
        assert source.read_into(0, memoryview(bytearray(5 * 4096))) == [(4096, 4096), (3 * 4096, 4096)]


def test_metadata_that_fails_is_an_error_with_the_offset(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FileSource(str(path))

    def pread(_fd: int, _length: int, _offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(SourceUnreadableError, match="cannot be read at 77: Input/output error"):
        source.read(77, 10)


def test_reads_that_come_in_parts_are_joined(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_preadv, real_pread = os.preadv, os.pread
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: real_preadv(fd, [buffers[0][:5000]], offset))
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real_pread(fd, min(length, 5000), offset))
    check_source(FileSource(str(path)), IMAGE)


def test_holes_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        os.pwrite(file.fileno(), b"x", 32 << 20)
    source = FileSource(str(path))
    data = source.next_data(0)
    if data == 0:
        pytest.skip("this file system knows no holes")
    assert 0 < data <= 32 << 20
    assert source.next_data(32 << 20) == 32 << 20
    assert source.next_data((32 << 20) + (1 << 20)) == 64 << 20


def test_a_file_system_without_holes_is_all_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lseek(_fd: int, _offset: int, _whence: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    source = FileSource(str(path))
    monkeypatch.setattr(os, "lseek", lseek)
    assert source.next_data(4096) == 4096


def test_identity_changes_with_the_file(path: Path, tmp_path: Path) -> None:
    first = FileSource(str(path)).identity()
    other = tmp_path / "other"
    other.write_bytes(IMAGE)
    assert FileSource(str(other)).identity() != first
    os.utime(path, ns=(1, 1))
    assert FileSource(str(path)).identity() != first


def test_boot_identity_needs_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_identity().startswith(b"boot ")
    monkeypatch.setattr("netdump.vmcore.filesource._BOOT_ID", "/nowhere/boot_id")
    with pytest.raises(SourceUnreadableError, match="mount /proc"):
        boot_identity()


def test_add_lost_joins_neighbours() -> None:
    lost: list[tuple[int, int]] = []
    for start, length in ((0, 5), (5, 5), (11, 1)):
        add_lost(lost, start, length)
    assert lost == [(0, 10), (11, 1)]
