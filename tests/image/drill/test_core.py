from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.client.image import open_image
from netdump.image.drill import core
from netdump.image.drill.core import PAGE_BYTES, Shape, make_core, native_shape
from netdump.testing.elf_writer import Core, Load, NoteSegment
from netdump.testing.kernel_writer import DeadKernel, Message
from netdump.vmcore.kernel import read_facts
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.testing.elf_writer import ByteOrder
    from netdump.vmcore.kernel import KernelFacts

NOW = 1_795_377_839
LOG = [Message(10**9, b"a line of the running kernel"), Message(2 * 10**9, b"and another")]


def running(root: Path, word: int = 8, byteorder: ByteOrder = "little") -> DeadKernel:
    """A kernel that runs on a machine at root, with as much memory in /proc/kcore as nobody wants in a drill."""
    kernel = DeadKernel(word, byteorder)
    kernel.add_uts(nodename="web1")
    kernel.put(bytes(1 << 20))
    kernel.add_printk_ring(LOG)
    (root / "proc").mkdir()
    more = Load(0x4000_0000, 64 << 20, {0: b"x"}, vaddr=0xC000_0000 if word == 4 else 0xFFFF_8880_0000_0000)
    shown = Core([more, kernel.load()], notes=[NoteSegment(kernel.note())], bits=64 if word == 8 else 32,
                 byteorder=byteorder)  # fmt: skip
    shown.write(root / "proc/kcore")
    return kernel


def facts_of(image: bytes) -> KernelFacts:
    return read_facts(BytesSource(image, []), headers_of(image))


@pytest.mark.parametrize(("word", "byteorder"), [(8, "little"), (4, "little"), (8, "big"), (4, "big")])
def test_name_and_log_of_the_running_kernel(
    word: int, byteorder: ByteOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(tmp_path, word, byteorder)
    ident = b"\x7fELF" + bytes((word // 4, 1 if byteorder == "little" else 2, 1)) + bytes(9)
    shape = Shape(ident, 62 if word == 8 else 3, word == 8, "<" if byteorder == "little" else ">")
    monkeypatch.setattr(core, "native_shape", lambda: shape)
    made = make_core(tmp_path, "a remark", NOW)
    facts = facts_of(made)
    assert (facts.nodename, facts.crash_time, facts.remarks) == ("web1", NOW, ())
    assert facts.log is not None
    assert facts.log.text == (b"[    1.000000] a line of the running kernel\n[    2.000000] and another\n")
    assert b"a remark" in facts.notes
    assert len(made) < 100 << 10  # of 65 MiB


def test_pages_whose_place_is_not_told(tmp_path: Path) -> None:
    kernel = running(tmp_path)
    nowhere = [Load((1 << 64) - 1, each.size, each.pieces, vaddr=each.vaddr) for each in (kernel.load(),)]
    Core(nowhere, notes=[NoteSegment(kernel.note())]).write(tmp_path / "proc/kcore")
    facts = facts_of(make_core(tmp_path, "a remark", NOW))
    assert facts.nodename == "web1"
    assert facts.log is not None
    assert b"and another" in facts.log.text


def test_a_kernel_that_does_not_say_where_its_names_stand(tmp_path: Path) -> None:
    kernel = running(tmp_path)
    del kernel.lines["OFFSET(uts_namespace.name)"]
    Core([kernel.load()], notes=[NoteSegment(kernel.note())]).write(tmp_path / "proc/kcore")
    facts = facts_of(make_core(tmp_path, "a remark", NOW))
    assert (facts.nodename, facts.remarks) == ("web1", ())


@pytest.mark.parametrize("content", [None, b"", b"MZ", b"\x7fELF\2\1\1" + bytes(20), b"\x7fELF" + b"\xff" * 4000])
def test_without_the_running_kernel_there_is_a_page_of_text(content: bytes | None, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    if content is not None:
        (tmp_path / "proc/kcore").write_bytes(content)
    made = make_core(tmp_path, "a remark", NOW)
    assert len(made) == 2 * PAGE_BYTES
    assert made[PAGE_BYTES:].startswith(b"a remark\n")
    assert facts_of(made).crash_time == NOW


def test_every_drill_is_a_dump_of_its_own_that_the_client_takes(tmp_path: Path) -> None:
    running(tmp_path)
    ids = set()
    for number in range(2):
        path = tmp_path / f"core{number}"
        path.write_bytes(make_core(tmp_path, "a remark", NOW))
        image = open_image(str(path), 0)
        ids.add(image.dump_id)
        image.close()
    assert len(ids) == 2


def test_the_shape_of_a_program() -> None:
    shape = native_shape()
    assert shape.ident.startswith(b"\x7fELF")
    assert shape.wide == (shape.ident[4] == 2)
