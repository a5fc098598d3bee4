from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import SourceUnreadableError
from netdump.testing.elf_writer import counter_pages
from netdump.vmcore import procvmcore
from netdump.vmcore.filesource import boot_identity
from netdump.vmcore.procvmcore import WINDOW_BYTES, VmcoreSource
from tests.vmcore.source_contract import IMAGE, check_source
from tests.vmcore.test_filesource import fail_pages

if TYPE_CHECKING:
    from pathlib import Path

LARGE = counter_pages(1, 2 * WINDOW_BYTES // 4096 + 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    return file


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    return file


def whole(source: VmcoreSource) -> tuple[bytes, list[tuple[int, int]]]:
    buffer = bytearray(source.size)
    lost = source.read_into(0, memoryview(buffer))
    return bytes(buffer), lost


def test_contract(path: Path) -> None:
    check_source(VmcoreSource(str(path)), IMAGE)


def test_windows_follow_one_another(large: Path) -> None:
    source = VmcoreSource(str(large))
    assert whole(source) == (LARGE, [])
    buffer = bytearray(20_000)
    for offset in (0, WINDOW_BYTES - 1, 2 * WINDOW_BYTES - 9_999, 5, WINDOW_BYTES + 7):
        assert source.read_into(offset, memoryview(buffer)) == []
        assert buffer == LARGE[offset : offset + 20_000]
    source.close()


TOUCH = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(fd, 8192, mmap.MAP_PRIVATE, mmap.PROT_READ)
os.ftruncate(fd, 4096)
mapping[8000]
"""


def test_touching_a_bad_page_of_a_mapping_kills(path: Path) -> None:
    """Why all this is needed."""
    assert subprocess.run([sys.executable, "-c", TOUCH, str(path)]).returncode == -signal.SIGBUS


def test_a_bad_page_of_a_mapping_is_lost_and_kills_nobody(large: Path) -> None:
    source = VmcoreSource(str(large))
    assert whole(source)[1] == []  # both windows have been mapped
    source.read_into(0, memoryview(bytearray(1)))
    good = 100 * 4096
    os.truncate(large, good)  # behind the mapping: its pages from here on raise SIGBUS when touched
    buffer, lost = whole(source)
    assert lost == [(good, len(LARGE) - good)]
    assert buffer[:good] == LARGE[:good]
    assert source.read_into(good - 10, memoryview(bytearray(20))) == [(10, 10)]


def test_a_bad_page_is_tried_again_by_pread(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses one page of the mapping; reading may still give it."""
    real = os.pwrite
    bad = 50 * 4096

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        start = int.from_bytes(data[:8], "big") * 8 - 8  # by the counter pattern
        if start == bad:
            raise OSError(errno.EFAULT, "Bad address")
        return real(fd, data[: bad - start] if start < bad < start + len(data) else data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert whole(VmcoreSource(str(large))) == (LARGE, [])
    fail_pages(monkeypatch, {50, 52})
    buffer, lost = whole(VmcoreSource(str(large)))
    assert lost == [(bad, 4096), (bad + 2 * 4096, 4096)]
    assert buffer[:bad] == LARGE[:bad]
    assert buffer[bad + 3 * 4096 :] == LARGE[bad + 3 * 4096 :]


def test_without_mappings_pread_does_all(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmap.mmap

    def refuse(fileno: int, length: int, *args: Any, **kwargs: Any) -> mmap.mmap:
        if kwargs:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(fileno, length, *args)

    monkeypatch.setattr(procvmcore, "mmap", refuse)
    assert whole(VmcoreSource(str(large))) == (LARGE, [])


def test_without_a_memfd_pread_does_all(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def memfd_create(_name: str, _flags: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    source = VmcoreSource(str(large))
    assert whole(source) == (LARGE, [])
    source.close()


def test_without_memory_for_the_memfd_pread_does_all(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(_fd: int, _data: memoryview, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = VmcoreSource(str(large))
    monkeypatch.setattr(os, "pwrite", pwrite)
    assert whole(source) == (LARGE, [])


def test_a_machine_that_is_no_capture_kernel_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match="not a regular file"):
        VmcoreSource(str(tmp_path))
    with pytest.raises(SourceUnreadableError, match=r"/proc/vmcore cannot be opened.*only a capture kernel"):
        VmcoreSource("/proc/vmcore")


def test_identity_is_the_boot(path: Path) -> None:
    assert VmcoreSource(str(path)).identity() == boot_identity()


def test_nothing_stays_open(large: Path) -> None:
    before = os.listdir("/proc/self/fd")
    source = VmcoreSource(str(large))
    whole(source)
    source.close()
    assert os.listdir("/proc/self/fd") == before
