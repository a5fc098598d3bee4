"""kdump-compressed files, read back page by page."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import pytest

from netdump.analyze.runspool import RunSpool
from netdump.errors import DamagedError
from netdump.pages import ExcludeClass
from netdump.remote import kdump_file
from netdump.remote.formats import Compression
from netdump.remote.kdump_file import Core, write_kdump
from netdump.store.files import LocalFiles
from netdump.testing.elf_writer import EM_386, EM_X86_64, Load, counter_pages
from netdump.testing.elf_writer import Core as Recipe
from tests.analyze.built import LOST, PAGE, ZERO, BuiltDump, excluded
from tests.analyze.test_frames import DUMP
from tests.remote.kdump_reader import Frame, Kdump, read_kdump
from tests.remote.test_kdump_header import FACTS, NOTES, TEXT
from tests.vmcore.doubles import headers_of

if TYPE_CHECKING:
    from pathlib import Path

INCOMPLETE = 8


def write(
    folder: Path, dump: BuiltDump, compression: Compression = Compression.ZLIB, upto: int | None = None
) -> tuple[Kdump, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    headers = headers_of(dump.image)
    (folder / "image").write_bytes(dump.image)
    files = LocalFiles(folder)
    file, image = files.create("kdump"), files.open("image")
    with RunSpool(dump.tables()[:upto]) as spool:
        core = Core(image, headers, FACTS, spool, PAGE, 31)
        size = write_kdump(file, core, compression, lambda done, total: told.append((done, total)))
    assert size == file.size()
    file.close()
    image.close()
    return read_kdump(folder / "kdump", headers.word_bytes, "<" if headers.byteorder == "little" else ">"), told


def frames(dump: BuiltDump) -> list[Frame]:
    """What must be in each frame, from a look at the image."""
    end = max(segment.paddr + segment.memsz for segment in dump.core.segments()) // PAGE
    found: list[Frame] = [None] * end
    for segment in reversed(dump.core.segments()):
        for frame in range(segment.paddr // PAGE, -(-(segment.paddr + segment.memsz) // PAGE)):
            at = segment.offset + frame * PAGE - segment.paddr
            held = min(PAGE, segment.offset + segment.filesz - at)
            if held <= 0:
                found[frame] = found[frame] or "excluded"
                continue
            state = dump.mark_of(at)[0].name.lower()
            content = dump.image[at : at + held].ljust(PAGE, b"\0")
            found[frame] = state if state in {"excluded", "lost"} else content  # type: ignore[assignment]
    return found


@pytest.mark.parametrize("compression", Compression)
def test_every_frame_and_header(tmp_path: Path, compression: Compression) -> None:
    kdump, told = write(tmp_path, DUMP, compression)
    assert kdump.frames == frames(DUMP)
    assert "lost" in kdump.frames
    assert "excluded" in kdump.frames
    assert kdump.uts == ["Linux", "crashy", "6.1.0", "#1 SMP", "x86_64", "(none)"]
    flag = {Compression.ZLIB: 1, Compression.ZSTD: 0x20, Compression.NONE: 0}[compression]
    assert (kdump.status, kdump.block, kdump.cpus, kdump.level) == (flag | INCOMPLETE, PAGE, 2, 31)
    assert (kdump.vmcoreinfo, kdump.notes, kdump.seconds) == (TEXT, NOTES, FACTS.crash_time)
    assert kdump.phys_base == (1 << 64) - 884998144
    assert told[-1][0] == told[-1][1] == 10 * PAGE


@pytest.mark.parametrize("batch_pages", [1, 3, 256])
@pytest.mark.parametrize("machine", [EM_386, EM_X86_64])
@pytest.mark.parametrize("order", ["little", "big"])
def test_many_pages_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: int, order: Literal["little", "big"], batch_pages: int
) -> None:
    monkeypatch.setattr(kdump_file, "BATCH_BYTES", batch_pages * PAGE)
    monkeypatch.setattr(kdump_file, "_ZERO_DESCS", 2)
    noise = random.Random(1)
    loads = [
        Load(0x100_0000 * n, 50 * PAGE, {0: counter_pages(100 * n, 20) + noise.randbytes(3 * PAGE)}) for n in (3, 1, 2)
    ]
    recipe = Recipe(loads, byteorder=order, machine=machine, bits=32 if machine == EM_386 else 64)
    marks = {(PAGE * n, PAGE * (n + 1)): (ZERO, LOST, excluded(ExcludeClass.USER))[n % 3] for n in range(2, 80, 5)}
    dump = BuiltDump(recipe, marks)
    kdump, _ = write(tmp_path, dump)
    assert kdump.frames == frames(dump)


def test_no_more_batches_are_under_way_than_can_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed is written on the way, and told."""
    monkeypatch.setattr(kdump_file, "BATCH_BYTES", PAGE)
    monkeypatch.setattr(kdump_file, "THREADS_MAX", 1)
    pages = 12
    _, told = write(tmp_path, BuiltDump(Recipe([Load(0x100_0000, pages * PAGE, {0: counter_pages(1, pages)})]), {}))
    assert told == [(done * PAGE, pages * PAGE) for done in range(1, pages + 1)]


def test_zero_pages_share_one(tmp_path: Path) -> None:
    dump = BuiltDump(Recipe([Load(0x1000, 1000 * PAGE, {0: counter_pages(1, 1)})]))
    kdump, _ = write(tmp_path, dump, Compression.NONE)
    assert kdump.frames == frames(dump)
    assert kdump.status == 0
    assert kdump.data_bytes == 2 * PAGE
    # A client that does not look for zeros sends them as data.
    (tmp_path / "kdump").unlink()
    dump.marks = {(PAGE, 50 * PAGE): (dump.mark_of(PAGE))}
    assert write(tmp_path, dump, Compression.NONE)[0].data_bytes == 2 * PAGE


def test_noise_is_stored_as_it_is(tmp_path: Path) -> None:
    dump = BuiltDump(Recipe([Load(0x1000, 2 * PAGE, {0: random.Random(2).randbytes(2 * PAGE)})]))
    kdump, _ = write(tmp_path, dump)
    assert kdump.frames == frames(dump)
    assert 2 * PAGE < kdump.data_bytes < 2 * PAGE + 100


@pytest.mark.parametrize("upto", [1, 3])
def test_what_has_not_arrived_is_lost(tmp_path: Path, upto: int) -> None:
    kdump, _ = write(tmp_path, DUMP, upto=upto)
    assert kdump.status & INCOMPLETE
    whole = frames(DUMP)
    lost = [now for now, then in zip(kdump.frames, whole, strict=True) if now != then]
    assert set(lost) == {"lost"}


def test_memory_far_up_costs_nothing(tmp_path: Path) -> None:
    dump = BuiltDump(
        Recipe([Load(0x1000, PAGE, {0: counter_pages(1, 1)}), Load(1 << 46, PAGE, {0: counter_pages(7, 1)})])
    )
    (tmp_path / "image").write_bytes(dump.image)
    files = LocalFiles(tmp_path)
    file, image = files.create("kdump"), files.open("image")
    with RunSpool(dump.tables()) as spool:
        write_kdump(file, Core(image, headers_of(dump.image), FACTS, spool, PAGE, 0), Compression.ZLIB, lambda *_: None)
    file.close()
    image.close()
    assert (tmp_path / "kdump").stat().st_blocks * 512 < 1 << 20


def test_an_image_that_became_shorter(tmp_path: Path) -> None:
    dump = BuiltDump(Recipe([Load(0x1000, 4 * PAGE, {0: counter_pages(1, 4)})]))
    (tmp_path / "image").write_bytes(dump.image[:-1])
    files = LocalFiles(tmp_path)
    file, image = files.create("kdump"), files.open("image")
    with RunSpool(dump.tables()) as spool, pytest.raises(DamagedError, match="ends before"):
        write_kdump(file, Core(image, headers_of(dump.image), FACTS, spool, PAGE, 0), Compression.ZLIB, lambda *_: None)
    file.close()
    image.close()
