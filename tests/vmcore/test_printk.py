from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import KernelDataError
from netdump.testing.elf_writer import EM_386, EM_X86_64, ByteOrder, Core
from netdump.testing.kernel_writer import DeadKernel, Message
from netdump.vmcore.memory import Memory
from netdump.vmcore.notes import read_notes, vmcoreinfo_text
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.printk import LOG_BYTES_MAX, Log, format_record, read_log
from netdump.vmcore.printk_ring import Record
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = [
    Message(0, b"Linux version 6.1.0"),
    Message(1_234_567, b"two\nlines"),
    Message(99_999_999_999_999, b"late"),
    Message(123_456_999_999_999, b"very late\nand long"),
]
TEXT = b"""\
[    0.000000] Linux version 6.1.0
[    0.001234] two
               lines
[99999.999999] late
[123456.999999] very late
                and long
"""


def log_of(kernel: DeadKernel, bad: list[tuple[int, int]] | None = None, limit: int = LOG_BYTES_MAX) -> Log:
    """The log read back. bad: ranges of the kernel's memory that cannot be read."""
    machine = EM_X86_64 if kernel.word == 8 else EM_386
    core = Core([kernel.load()], machine=machine, byteorder=kernel.byteorder)
    offset = core.segments()[0].offset
    source = BytesSource(core.build(), [(start + offset, end + offset) for start, end in bad or []])
    memory = Memory(source, ImageMap(headers_of(source.image)), kernel.byteorder, kernel.word)
    return read_log(memory, Vmcoreinfo.parse(kernel.vmcoreinfo()), limit)


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("kind", ["ring", "records"])
def test_both_forms_on_every_machine(word: int, byteorder: ByteOrder, kind: str) -> None:
    kernel = DeadKernel(word, byteorder)
    (kernel.add_printk_ring if kind == "ring" else kernel.add_printk_records)(MESSAGES)
    assert log_of(kernel) == Log(TEXT, truncated=False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", b""),
        (b"tab\tstays", b"tab\tstays"),
        (b"cr\r vt\x0b ff\x0c", b"cr\r vt\x0b ff\x0c"),
        (b"bell\x07 nul\0 del\x7f", b"bell\\x07 nul\\x00 del\\x7f"),
        ("10 €".encode(), b"10 \\xe2\\x82\\xac"),
        (b"\\x07", b"\\x07"),
        (b"a\n\nb\n", b"a\n               \n               b\n               "),
    ],
)
def test_bytes_of_a_line(text: bytes, line: bytes) -> None:
    assert format_record(Record(5_000_000, text)) == b"[    0.005000] " + line + b"\n"


@pytest.mark.parametrize("kind", ["ring", "records"])
def test_of_a_long_log_the_newest_lines_are_kept(kind: str) -> None:
    kernel = DeadKernel()
    messages = [Message(number, b"line %d" % number) for number in range(60)]
    (kernel.add_printk_ring if kind == "ring" else kernel.add_printk_records)(messages)
    whole = log_of(kernel)
    assert not whole.truncated
    for limit in (0, 1, 22, 23, 100, len(whole.text) - 1):
        log = log_of(kernel, limit=limit)
        assert log.truncated
        assert len(log.text) <= limit < len(log.text) + 23
        assert whole.text.endswith(log.text)
        assert not log.text or log.text.startswith(b"[")
    assert log_of(kernel, limit=len(whole.text)) == whole


def test_a_core_without_a_log() -> None:
    with pytest.raises(KernelDataError, match="names no kernel log"):
        log_of(DeadKernel())


def test_the_ring_counts_where_both_are_named() -> None:
    kernel = DeadKernel()
    kernel.add_printk_records([Message(0, b"old")])
    kernel.add_printk_ring([Message(0, b"new")])
    assert log_of(kernel).text == b"[    0.000000] new\n"


def real_log(path: Path) -> Log:
    source = BytesSource(path.read_bytes())
    headers = headers_of(source.image)
    info = Vmcoreinfo.parse(vmcoreinfo_text(read_notes(source.read, headers), "little") or b"")
    return read_log(Memory(source, ImageMap(headers), "little", 8), info)


def test_the_bundled_core_says_what_makedumpfile_says(sample: Path, dmesg: bytes) -> None:
    assert real_log(sample) == Log(dmesg, truncated=False)


def test_the_whole_core_says_what_makedumpfile_says(whole: Path, dmesg: bytes) -> None:
    assert real_log(whole) == Log(dmesg, truncated=False)
