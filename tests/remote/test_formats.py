"""Formats: what comes out, what an interruption leaves, and that it goes on from there."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netdump.codec import expand
from netdump.errors import BadHeadersError, BusyError, DamagedError, NetdumpError, StorageFaultError
from netdump.index.catalog import LocalCatalog
from netdump.remote import formats, kdump_file
from netdump.remote.fetch import Fetched, default_name, fetch
from netdump.remote.formats import ELF, Compression, Format, Output
from netdump.remote.staging import SKELETON_BYTES, SUFFIX, Staging
from netdump.store.layout import HEADLINE
from netdump.testing.elf_writer import Core, Load
from netdump.wire import HEADLINE_RAW_MAX
from tests.analyze.built import BuiltDump
from tests.analyze.test_frames import DUMP
from tests.index.test_record import FULL
from tests.remote.fetching import QUICK, Counting
from tests.remote.kdump_reader import read_kdump
from tests.remote.test_kdump_file import frames
from tests.remote.test_kdump_header import EM_ARM

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.store.store import Store

KDUMP = Output(Format.KDUMP)
ZST = Output(Format.ZST)


def get(catalog: LocalCatalog, target: Path, output: Output, progress: Counting | None = None) -> Fetched:
    return fetch(catalog, catalog.show(DUMP.id), target, progress or Counting(), patience=QUICK, output=output)


def unpacked(path: Path) -> bytes:
    made = io.BytesIO()
    with path.open("rb") as source:
        expand(source, made, 1 << 23)
    return made.getvalue()


@pytest.mark.parametrize("compression", Compression)
def test_kdump(store: Store, catalog: LocalCatalog, target: Path, compression: Compression) -> None:
    DUMP.store(store)
    progress = Counting()
    fetched = get(catalog, target, Output(Format.KDUMP, compression), progress)
    kdump = read_kdump(target)
    assert kdump.frames == frames(DUMP)
    # The built core says nothing of its kernel: the names are the record's.
    assert kdump.uts == ["Linux", "h", "6.1.0", "", "x86_64", "(none)"]
    assert kdump.level == 31
    assert (fetched.path, fetched.bytes) == (target, target.stat().st_size)
    assert (progress.stages, progress.done) == (["fetching", "writing pages"], progress.total)
    assert os.listdir(target.parent) == ["core"]


def test_no_kdump_without_the_size_of_pages(store: Store, catalog: LocalCatalog, target: Path) -> None:
    DUMP.store(store)
    record = replace(catalog.show(DUMP.id), page_bytes=0)
    with pytest.raises(BadHeadersError, match="the size of the pages"):
        fetch(catalog, record, target, Counting(), patience=QUICK, output=KDUMP)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("tells", [True, False])
def test_a_core_that_no_kdump_holds(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    """Known before anything is fetched, unless the headline had no room for the headers of the core."""
    dump = BuiltDump(Core([Load(0x1000, 0x8000)], bits=32, machine=EM_ARM))
    dump.store(store)
    if not tells:
        monkeypatch.setattr(LocalCatalog, "headline", lambda *_: None)
    progress = Counting()
    with pytest.raises(BadHeadersError, match="not for ELF machine 40; fetch this dump with --format elf"):
        get(catalog, target, KDUMP, progress)
    assert progress.stages == ([] if tells else ["fetching"])
    assert not target.exists()


def test_a_headline_that_makes_no_sense_costs_no_kdump(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DUMP.store(store)
    monkeypatch.setattr(LocalCatalog, "headline", lambda *_: b"x")
    get(catalog, target, KDUMP)
    assert read_kdump(target).frames == frames(DUMP)


def test_nor_does_one_that_is_damaged(store: Store, catalog: LocalCatalog, target: Path) -> None:
    DUMP.store(store)
    (store.root / DUMP.id / HEADLINE).write_bytes(b"x" * (HEADLINE_RAW_MAX + 1))
    with pytest.raises(DamagedError):
        catalog.headline(DUMP.id)
    get(catalog, target, KDUMP)
    assert read_kdump(target).frames == frames(DUMP)


def test_zst(store: Store, catalog: LocalCatalog, target: Path) -> None:
    DUMP.store(store)
    progress = Counting()
    fetched = get(catalog, target, ZST, progress)
    assert unpacked(target) == DUMP.image
    assert fetched.bytes == target.stat().st_size
    assert (progress.stages, progress.done) == (["fetching", "compressing"], len(DUMP.image))
    assert os.listdir(target.parent) == ["core"]


def test_an_incomplete_dump(store: Store, catalog: LocalCatalog, target: Path) -> None:
    DUMP.store(store, chunks=3)
    reach = 3 * DUMP.chunk_pages * 4096
    assert get(catalog, target, ZST).path.name == "core.incomplete"
    assert unpacked(target.with_name("core.incomplete")) == DUMP.image[:reach]
    get(catalog, target, KDUMP)
    kdump = read_kdump(target.with_name("core.incomplete"))
    assert kdump.status & 8
    assert len(kdump.frames) == len(frames(DUMP))
    assert os.listdir(target.parent) == ["core.incomplete"]


@pytest.mark.parametrize("output", [ELF, KDUMP, ZST])
def test_a_file_has_its_final_name_when_it_is_durable(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    """Power that is cut leaves no file of that name, or all of it."""
    DUMP.store(store)
    synced: list[tuple[int, bool]] = []

    def watch(call: str) -> None:
        real = getattr(os, call)

        def noting(descriptor: int) -> None:
            real(descriptor)
            synced.append((os.fstat(descriptor).st_ino, target.exists()))

        monkeypatch.setattr(os, call, noting)

    watch("fsync")
    watch("fdatasync")
    get(catalog, target, output)
    assert (target.stat().st_ino, False) in synced
    assert synced[-1] == (target.parent.stat().st_ino, True)


@pytest.mark.parametrize("output", [KDUMP, ZST])
def test_an_interruption_costs_no_second_fetch(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    DUMP.store(store)

    class Stopping(Counting):
        def advance(self, count: int) -> None:
            if len(self.stages) > 1:
                raise KeyboardInterrupt
            super().advance(count)

    with pytest.raises(KeyboardInterrupt):
        get(catalog, target, output, Stopping())
    assert os.listdir(target.parent) == [target.name + SUFFIX]
    (target.parent / (target.name + SUFFIX) / "output").write_bytes(b"rubbish" * 100_000)
    progress = Counting()
    fetched = get(catalog, target, output, progress)
    assert fetched.transferred == 0
    assert os.listdir(target.parent) == ["core"]
    if output is ZST:
        assert unpacked(target) == DUMP.image
    else:
        assert read_kdump(target).frames == frames(DUMP)


def test_nobody_else_gets_between(store: Store, catalog: LocalCatalog, target: Path) -> None:
    DUMP.store(store)
    seen: list[NetdumpError] = []

    class Second(Counting):
        def begin(self, total: int, done: int, what: str = "fetching") -> None:
            super().begin(total, done, what)
            if what == "compressing":
                try:
                    get(catalog, target, KDUMP)
                except BusyError as error:
                    seen.append(error)

    get(catalog, target, ZST, Second())
    assert len(seen) == 1
    assert unpacked(target) == DUMP.image


@pytest.mark.parametrize("output", [KDUMP, ZST])
def test_a_full_disk(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    DUMP.store(store)

    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kdump_file, "write_kdump", fail)
    monkeypatch.setattr(formats, "shrink", fail)
    with pytest.raises(StorageFaultError, match="make room"):
        get(catalog, target, output)
    assert os.listdir(target.parent) == [target.name + SUFFIX]


def test_room_is_asked_for_both(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DUMP.store(store)
    segments = catalog.plan(DUMP.id).segments
    beside = sum(segment.bytes + SKELETON_BYTES * segment.chunks for segment in segments)
    totals = catalog.show(DUMP.id).totals
    assert totals is not None
    image = totals["data"] + totals["alias"]
    monkeypatch.setattr(Staging, "free_bytes", lambda _: beside + image)
    get(catalog, target, Output(Format.ELF))
    target.unlink()
    for output in (KDUMP, ZST):
        with pytest.raises(StorageFaultError, match="bytes more"):
            get(catalog, target, output)


def test_estimates_are_bounded_by_the_image() -> None:
    assert Output(Format.ELF).estimate(1000, 300) == 0
    assert (KDUMP.estimate(1000, 300), KDUMP.estimate(1000, 900)) == (600, 1000)
    assert Output(Format.KDUMP, Compression.NONE).estimate(1000, 300) == 1000


def test_names() -> None:
    names = {each: default_name(FULL, each) for each in Format}
    stem = names[Format.ELF].removesuffix(".elf")
    assert names == {Format.ELF: f"{stem}.elf", Format.KDUMP: f"{stem}.kdump", Format.ZST: f"{stem}.elf.zst"}
