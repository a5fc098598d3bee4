from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import NotElfError, SourceUnreadableError
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.oldmem import ElfcoreHeader, OldmemSource
from netdump.vmcore.procvmcore import VmcoreSource
from netdump.vmcore.source import Source, open_source
from tests.vmcore.test_oldmem import write_raw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "image"
    file.write_bytes(bytes(8192))
    return str(file)


def test_kinds(path: str) -> None:
    assert isinstance(open_source(path), FileSource)
    assert isinstance(open_source(path, "file"), FileSource)
    assert isinstance(open_source(path, "vmcore"), VmcoreSource)


def test_an_address_means_a_memory_image(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    source: Source = open_source(str(raw.path), elfcorehdr=ElfcoreHeader(raw.table_at))
    assert isinstance(source, OldmemSource)
    assert isinstance(open_source(str(raw.path), "oldmem", ElfcoreHeader(raw.table_at)), OldmemSource)


def test_files_of_proc_are_mapped() -> None:
    assert isinstance(open_source("/proc/self/maps"), VmcoreSource)


def test_a_path_from_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SourceUnreadableError, match="core cannot be opened: No such file"):
        open_source("core")


def test_a_memory_image_needs_an_address(path: str) -> None:
    with pytest.raises(SourceUnreadableError, match="--elfcorehdr"):
        open_source(path, "oldmem")


def test_an_address_goes_with_a_memory_image_only(path: str) -> None:
    with pytest.raises(SourceUnreadableError, match="oldmem only"):
        open_source(path, "file", ElfcoreHeader(0))


def test_a_wrong_address_is_no_elf(path: str) -> None:
    with pytest.raises(NotElfError, match="0x1000"):
        open_source(path, elfcorehdr=ElfcoreHeader(0x1000))
