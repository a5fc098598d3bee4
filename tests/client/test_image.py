"""What is known of an image before it is sent, and that its chunks are the image."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from netdump.client.image import CHUNK_DATA_BYTES, LOG_CUT, Image, build_headline, open_image
from netdump.client.stream import Workers
from netdump.codec import Compressor, decode
from netdump.errors import EmptyCoreError, NotElfError, SourceUnreadableError, TruncatedCoreError
from netdump.pages import PageState
from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, note
from netdump.testing.kernel_writer import DeadKernel
from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.oldmem import ElfcoreHeader
from netdump.vmcore.printk import Log
from netdump.vmcore.source import open_source
from netdump.wire import HEADLINE_RAW_MAX, CodecId, HeadlineDocument, dump_identity, unpack_document, unpack_runs

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.client.stream import ChunkStream
    from netdump.wire import Headline

PAGES = 300


def write_core(path: Path, crash_time: int | None = 1_700_000_000) -> bytes:
    """A core with a kernel that knows its release and, unless None, when it crashed."""
    lines = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\n" + (b"CRASHTIME=%d\n" % crash_time if crash_time else b"")
    data = counter_pages(1, PAGES)
    core = Core(
        [Load(0x100000, PAGES * 4096 + 8 * 4096, {0: data})],
        notes=[NoteSegment(note(b"VMCOREINFO", 0, lines))],
    )
    core.write(path)
    return core.build()


def document(headline: Headline) -> HeadlineDocument:
    raw = bytes(decode(headline.codec, headline.body, headline.raw_bytes, HEADLINE_RAW_MAX))
    assert hashlib.sha256(raw).digest() == headline.digest
    return unpack_document(raw)


def restore(stream: ChunkStream, size: int, start: int = 0) -> bytes:
    """Put an image without aliases together from its chunks."""
    image = bytearray(size)
    position = start
    while (prepared := stream.take()) is not None:
        chunk = prepared.chunk
        assert chunk.offset == position
        assert prepared.raw_bytes <= CHUNK_DATA_BYTES
        raw = memoryview(decode(chunk.codec, chunk.data, prepared.raw_bytes))
        for run in prepared.runs:
            if run.state is PageState.DATA:
                image[position : position + run.length] = raw[: run.length]
                raw = raw[run.length :]
            position += run.length
    stream.close()
    assert position == size
    return bytes(image)


def test_a_core_of_a_process_is_refused(tmp_path: Path) -> None:
    process = note(b"CORE", 3, bytes(136)) + note(b"CORE", 6, bytes(320)) + note(b"CORE", 0x46494C45, bytes(64))
    Core([Load(0, 4096, vaddr=0x55AA_0000_0000)], notes=[NoteSegment(process)]).write(tmp_path / "core")
    with pytest.raises(NotElfError, match="core is a core of a process, not of a kernel; is it the right file"):
        open_image(str(tmp_path / "core"), 31)


@pytest.mark.parametrize(
    "notes", [note(b"VMCOREINFO", 0, b"A=1\n") + note(b"CORE", 6, bytes(320)), note(b"CORE", 3, bytes(136))]
)
def test_a_core_that_may_be_of_a_kernel_is_sent(tmp_path: Path, notes: bytes) -> None:
    """s390 kernels write NT_PRPSINFO; VMCOREINFO is of kernels only."""
    Core([Load(0, 4096)], notes=[NoteSegment(notes)]).write(tmp_path / "core")
    open_image(str(tmp_path / "core"), 31).close()


def test_a_core_in_a_file(tmp_path: Path) -> None:
    built = write_core(tmp_path / "core")
    image = open_image(str(tmp_path / "core"), 0, remark="a remark")
    assert (image.size, image.page_bytes, image.level, image.capture) == (len(built), 4096, 0, False)
    assert image.name == image.dump_id.hex()[:12]
    assert image.summary.release == "6.1.0-test"
    assert image.summary.crash_time == 1_700_000_000
    known = document(image.headline())
    assert known.ehdr == built[:64]
    assert known.kernel_release == "6.1.0-test"
    assert known.vmcoreinfo is not None
    assert known.remark
    assert known.remark.startswith("a remark; ")  # and what could not be known
    assert image.headline() is image.headline()
    image.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_chunks_are_the_image(tmp_path: Path, threads: int) -> None:
    built = write_core(tmp_path / "core")
    image = open_image(str(tmp_path / "core"), 0)
    workers = Workers(threads, lambda: Compressor(1)) if threads > 1 else None
    compressor = None if workers else Compressor(1)
    assert restore(image.stream(0, compressor, workers), image.size) == built
    first = image.stream(0, compressor, workers)
    chunk = first.take()
    assert chunk
    start = chunk.chunk.offset + chunk.chunk.length
    first.close()
    assert restore(image.stream(start, compressor, workers), image.size, start)[start:] == built[start:]
    image.close()


def test_the_same_crash_has_the_same_id_wherever_it_is(tmp_path: Path) -> None:
    write_core(tmp_path / "one")
    write_core(tmp_path / "two")
    ids = {open_image(str(tmp_path / name), 0).dump_id for name in ("one", "two")}
    assert len(ids) == 1
    assert open_image(str(tmp_path / "one"), 1).dump_id not in ids


def test_without_a_time_of_crash_the_file_is_part_of_the_id(tmp_path: Path) -> None:
    built = write_core(tmp_path / "one", crash_time=None)
    write_core(tmp_path / "two", crash_time=None)
    ids = [open_image(str(tmp_path / name), 0).dump_id for name in ("one", "one", "two")]
    assert ids[0] == ids[1] != ids[2]
    source = open_source(str(tmp_path / "one"))
    headers = parse_headers(source.read, source.size)
    facts = read_facts(source, headers)
    assert ids[0] == dump_identity(0, len(built), headers.ehdr + headers.phdrs, facts.notes, source.identity())


def test_a_core_that_cannot_be_filtered_is_sent_whole_and_says_why(tmp_path: Path) -> None:
    built = write_core(tmp_path / "core")
    image = open_image(str(tmp_path / "core"), 31, remark="a drill")
    assert image.level == 31
    assert any("unfiltered" in remark for remark in image.summary.remarks)
    text = document(image.headline()).remark or ""
    assert text.startswith("a drill; ")
    assert "unfiltered" in text
    assert restore(image.stream(0, Compressor(1), None), len(built)) == built
    image.close()


def test_what_a_core_has_lost_meanwhile_is_not_sent_as_lost(tmp_path: Path) -> None:
    """Or the dump would be complete, and the whole core never be taken."""
    core = tmp_path / "core"
    built = write_core(core)
    for level in (0, 31):
        image = open_image(str(core), level)
        os.truncate(core, len(built) - 4096)
        with pytest.raises(TruncatedCoreError, match="shorter while it was read"):
            restore(image.stream(0, Compressor(1), None), len(built))
        image.close()
        core.write_bytes(built)


def test_a_core_that_can_be_filtered_is(sample: Path) -> None:
    image = open_image(str(sample), 31)
    stream, states = image.stream(0, Compressor(1), None), Counter[PageState]()
    while (prepared := stream.take()) is not None:
        for run in unpack_runs(prepared.chunk.table, prepared.chunk.offset, prepared.chunk.length):
            states[run.state] += run.length
    image.close()
    assert sum(states.values()) == image.size
    assert image.summary.remarks == ()
    # makedumpfile -d 31 has been over this core, which leaves stretches below 256 pages in
    assert states[PageState.EXCLUDED] > 0
    assert states[PageState.DATA] > 0


def test_a_class_that_is_stopped_in_mid_stream(tmp_path: Path) -> None:
    """Twice as many free blocks as the zones count. Too late for the headline; FINISH says it [W-66]."""
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    for block in range(32):
        machine.frames.free((PLAYGROUND + 4096) // 4096 * 4096 + block * 1024, 10)
    machine.free_pages = 16 * 1024
    machine.core().write(tmp_path / "core")
    image = open_image(str(tmp_path / "core"), 31)
    assert not image.afterword()
    stream = image.stream(0, Compressor(1), None)
    while stream.take() is not None:
        pass
    assert re.fullmatch(
        r"free pages are sent too from frame 0x[0-9a-f]+ on: there are more than the zones count \(.*\)",
        image.afterword(),
    )
    assert image.unfiltered == image.afterword()
    assert "free pages" not in (document(image.headline()).remark or "")
    image.close()


def test_who_goes_on_believes_no_more_than_who_began(tmp_path: Path) -> None:
    """A client that was killed, and its next one: the same pages are left out as in one run, and the same is said."""
    core = str(tmp_path / "core")
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    for block in range(32):
        machine.frames.free((PLAYGROUND + 4096) // 4096 * 4096 + block * 1024, 10)
    machine.free_pages = 16 * 1024
    machine.core().write(tmp_path / "core")
    whole = open_image(core, 31)
    expected = excluded(whole, 0)
    assert expected
    for offset in range(100 << 20, whole.size, 35 << 20):
        image = open_image(core, 31)
        reached = list(image.catch_up(offset & -4096))
        assert reached == sorted(reached)
        assert reached[-1] == offset & -4096
        assert len(reached) >= (offset >> 12) // 8192
        assert excluded(image, offset & -4096) == {each for each in expected if each >= offset & -4096}
        said = [re.sub("0x[0-9a-f]+", "", each.afterword()) for each in (image, whole)]  # the last slab was cut in two
        assert said[0] == said[1]
        assert not list(image.catch_up(image.size)), "it was planned here"
        image.close()
    whole.close()


def excluded(image: Image, start: int) -> set[int]:
    """The image offsets of pages that are left out."""
    found: set[int] = set()
    stream, at = image.stream(start, Compressor(1), None), start
    while (prepared := stream.take()) is not None:
        for run in prepared.runs:
            if run.state is PageState.EXCLUDED:
                found.update(range(at, at + run.length, 4096))
            at += run.length
    stream.close()
    return found


@pytest.mark.parametrize(
    ("content", "error"), [(b"", EmptyCoreError), (b"hello" * 100, NotElfError), (None, SourceUnreadableError)]
)
def test_what_is_no_core(tmp_path: Path, content: bytes | None, error: type[Exception]) -> None:
    if content is not None:
        (tmp_path / "core").write_bytes(content)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error, match=str(tmp_path / "core")):
        open_image(str(tmp_path / "core"), 0)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_truncated_core(tmp_path: Path) -> None:
    built = write_core(tmp_path / "core")
    os.truncate(tmp_path / "core", len(built) - 1)
    with pytest.raises(TruncatedCoreError, match="truncated"):
        open_image(str(tmp_path / "core"), 0)


def test_raw_memory(tmp_path: Path) -> None:
    memory = bytearray(0x40000)
    ehdr = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    memory[0x30000 : 0x30000 + 64] = ehdr
    memory[0x30040 : 0x30040 + 56] = struct.pack("<IIQQQQQQ", 1, 7, 0x10000, 0, 0x10000, 0x10000, 0x10000, 0)
    memory[0x10000:0x20000] = counter_pages(1, 16)
    (tmp_path / "memory").write_bytes(memory)
    image = open_image(str(tmp_path / "memory"), 0, kind="oldmem", elfcorehdr=ElfcoreHeader(0x30000))
    assert image.capture
    assert restore(image.stream(0, None, None), image.size).endswith(memory[0x10000:0x20000])


def test_a_headline_that_would_be_too_large_leaves_out_what_the_image_holds(tmp_path: Path) -> None:
    write_core(tmp_path / "core")
    source = open_source(str(tmp_path / "core"))
    headers = parse_headers(source.read, source.size)
    facts = read_facts(source, headers)._replace(notes=bytes(3 << 20), log=Log(b"x" * (2 << 20), truncated=True))
    headers = headers._replace(phdrs=bytes(4 << 20))
    known = document(build_headline(headers, facts, []))
    assert known.notes is None
    assert known.phdrs is None
    assert known.log == b"x" * (2 << 20)
    assert known.log_truncated


MIB = 1 << 20
SIZES = [
    (4 * MIB - 70_000, 2 * MIB, 2 * MIB, 128 << 10),  # too large only by the vmcoreinfo
    (0, 0, 7 * MIB, 2 * MIB),
    (0, 0, 9 * MIB, 0),
    (0, 0, HEADLINE_RAW_MAX - 0x1_0000, 0),
    (9 * MIB, 9 * MIB, 9 * MIB, 9 * MIB),
]


@pytest.mark.parametrize(("phdrs", "notes", "log", "vmcoreinfo"), SIZES)
def test_no_machine_has_a_headline_that_is_too_large(
    tmp_path: Path, phdrs: int, notes: int, log: int, vmcoreinfo: int
) -> None:
    write_core(tmp_path / "core")
    source = open_source(str(tmp_path / "core"))
    headers = parse_headers(source.read, source.size)
    facts = read_facts(source, headers)._replace(
        notes=bytes(notes), vmcoreinfo=bytes(vmcoreinfo), log=Log(bytes(log) + b"newest", truncated=False),
        release="r" * 5000, version="v" * 5000, machine="m" * 5000, nodename="n" * 5000,
    )  # fmt: skip
    known = document(build_headline(headers._replace(phdrs=bytes(phdrs)), facts, ["x" * 5000]))
    assert known.log
    assert known.log.endswith(b"newest")
    is_cut = len(known.log) < log + 6
    assert known.log_truncated == (True if is_cut else None)
    assert known.remark
    assert known.remark.startswith(f"{LOG_CUT}; xx" if is_cut else "xx")


def test_names_of_the_kernel_are_bounded_and_printable(tmp_path: Path) -> None:
    write_core(tmp_path / "core")
    source = open_source(str(tmp_path / "core"))
    headers = parse_headers(source.read, source.size)
    facts = read_facts(source, headers)._replace(nodename="a\nb" * 1000, release="", remarks=("r\0" * 5000,))
    headline = build_headline(headers, facts, [])
    known = document(headline)
    assert known.nodename
    assert len(known.nodename.encode()) <= 1024
    assert known.kernel_release is None
    assert headline.codec in {CodecId.STORED, CodecId.ZSTD}


def test_a_kernel_that_can_be_read_tells_its_name(tmp_path: Path) -> None:
    kernel = DeadKernel()
    kernel.add_uts(nodename="crashy", release="6.1.0-test")
    Core([kernel.load()], notes=[NoteSegment(kernel.note())]).write(tmp_path / "core")
    image = open_image(str(tmp_path / "core"), 0)
    assert isinstance(image, Image)
    assert image.summary.nodename == "crashy"
