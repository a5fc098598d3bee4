from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import NotElfError, SourceUnreadableError
from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, note
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.kcore import KCORE, crash_kernel_memory, open_kcore

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
FAR = 0x00EE_FFFF_8000_0000  # where 5-level kernels show their text, beyond any file


def write_kcore(path: Path) -> Core:
    """Text, vmalloc (no physical address), and memory; offsets are addresses."""
    core = Core(
        [
            Load(0x20_0000, 2 * PAGE, {0: counter_pages(7, 2)}, vaddr=0xFFFF_FFFF_8020_0000),
            Load(-1, 1 << 20, {}, vaddr=0xFFFF_C900_0000_0000),
            Load(0x10_0000, 8 * PAGE, {0: counter_pages(1, 8)}, vaddr=0xFFFF_8880_0010_0000),
        ],
        notes=[NoteSegment(note(b"VMCOREINFO", 0, b"PAGESIZE=4096\n"))],
    )
    core.write(path)
    return core


def test_only_what_has_a_physical_address_is_memory(tmp_path: Path) -> None:
    write_kcore(tmp_path / "kcore")
    source, headers = open_kcore(str(tmp_path / "kcore"))
    loads = [segment for segment in headers.segments if segment.type == PT_LOAD]
    assert [segment.paddr for segment in loads] == [0x20_0000, 0x10_0000]
    assert source.read(loads[1].offset, 8 * PAGE) == counter_pages(1, 8)
    assert len(headers.segments) == 3  # and the notes
    source.close()


def test_offsets_beyond_any_file(tmp_path: Path) -> None:
    path = tmp_path / "kcore"
    write_kcore(path)
    image = bytearray(path.read_bytes())
    at = image.index((0xFFFF_FFFF_8020_0000).to_bytes(8, "little")) - 8
    image[at : at + 8] = FAR.to_bytes(8, "little")
    path.write_bytes(image)
    source, headers = open_kcore(str(path))
    assert max(segment.offset for segment in headers.segments) == FAR
    source.close()


def test_memory_of_the_capture_kernel_is_left_out(tmp_path: Path) -> None:
    write_kcore(tmp_path / "kcore")
    for hole, kept in (
        (range(0x10_2000, 0x10_4000), [(0x10_0000, 2), (0x10_4000, 4)]),
        (range(0x10_1000), [(0x10_1000, 7)]),
        (range(0x10_7000, 1 << 40), [(0x10_0000, 7)]),
        (range(0x10_0000, 0x10_8000), []),
        (range(0x40_0000, 0x50_0000), [(0x10_0000, 8)]),
    ):
        source, headers = open_kcore(str(tmp_path / "kcore"), [hole])
        loads = [segment for segment in headers.segments if segment.type == PT_LOAD and segment.paddr < 0x20_0000]
        assert [(load.paddr, load.filesz // PAGE) for load in loads] == kept
        for load in loads:
            first = (load.paddr - 0x10_0000) // PAGE
            assert source.read(load.offset, load.filesz) == counter_pages(1, 8)[first * PAGE :][: load.filesz]
            assert load.vaddr - load.paddr == 0xFFFF_8880_0000_0000
            assert load.memsz == load.filesz
        source.close()


def test_where_the_capture_kernel_is(tmp_path: Path) -> None:
    path = tmp_path / "iomem"
    path.write_text(
        "00100000-1fffffff : System RAM\n  01000000-01ffffff : Kernel code\n"
        "  18000000-1effffff : Crash kernel\n  junk : Crash kernel\n  00000000-00000000 : Crash kernel\n"
    )
    assert crash_kernel_memory(str(path)) == [range(0x1800_0000, 0x1F00_0000)]
    assert crash_kernel_memory(str(tmp_path / "absent")) == []


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceUnreadableError, match="built without PROC_KCORE"):
        open_kcore(str(tmp_path / "absent"))
    (tmp_path / "text").write_text("hello")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotElfError):
        open_kcore(str(tmp_path / "text"))
    assert os.listdir("/proc/self/fd") == before

    monkeypatch.setattr(os, "open", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_kcore(KCORE)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "only root may read it"), (errno.EPERM, "closed to root as well, by lockdown=confidentiality")],
)
def test_to_whom_it_is_closed(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode is 0400; root meets EPERM (Linux fs/proc/kcore.c, open_kcore). Seen on 6.12 with Secure Boot."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceUnreadableError, match=words):
        open_kcore(KCORE)
