from __future__ import annotations

import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import CoreError
from netdump.testing.elf_writer import EM_386, ByteOrder, Core, Load, NoteSegment, note, prstatus_note
from netdump.testing.kernel_writer import DeadKernel, Message
from netdump.testing.memmap_writer import arm64, i386, riscv64, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.kernel import KernelFacts, read_facts
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.testing.memmap_writer import Machine


def dead_kernel(word: int = 8, byteorder: ByteOrder = "little") -> DeadKernel:
    kernel = DeadKernel(word, byteorder)
    kernel.add_uts(nodename="web1", machine="i686" if word == 4 else "x86_64", version="#1 SMP Debian")
    kernel.add_printk_ring([Message(10**9, b"Kernel panic")])
    kernel.lines["CRASHTIME"] = "1795377839"
    return kernel


def core_of(kernel: DeadKernel, cpus: int = 2) -> Core:
    registers = bytes(27 * kernel.word)
    notes = (
        b"".join(prstatus_note(cpu, registers, kernel.word, kernel.byteorder) for cpu in range(cpus)) + kernel.note()
    )
    machine = EM_386 if kernel.word == 4 else 62
    return Core([kernel.load()], notes=[NoteSegment(notes)], byteorder=kernel.byteorder, machine=machine)


def facts_of(core: Core, bad: list[tuple[int, int]] | None = None) -> KernelFacts:
    source = BytesSource(core.build(), bad or [])
    return read_facts(source, headers_of(source.image))


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_everything_is_known(word: int, byteorder: ByteOrder) -> None:
    kernel = dead_kernel(word, byteorder)
    facts = facts_of(core_of(kernel))
    assert facts.release == "6.1.0-test"
    assert facts.version == "#1 SMP Debian"
    assert facts.machine == ("i686" if word == 4 else "x86_64")
    assert facts.nodename == "web1"
    assert facts.crash_time == 1795377839
    assert facts.cpus == 2
    assert facts.page_bytes == 4096
    assert facts.vmcoreinfo == kernel.vmcoreinfo()
    assert facts.log is not None
    assert facts.log.text == b"[    1.000000] Kernel panic\n"
    assert facts.remarks == ()


def test_nothing_is_known() -> None:
    facts = facts_of(Core([Load(0, 4096)]))
    assert facts == KernelFacts(
        release=None,
        version=None,
        machine="x86_64",
        nodename=None,
        crash_time=None,
        cpus=0,
        page_bytes=4096,
        vmcoreinfo=None,
        notes=b"",
        log=None,
        remarks=(
            "the core has no VMCOREINFO note",
            "no host name: VMCOREINFO has no SYMBOL(init_uts_ns)",
            "no kernel log: VMCOREINFO names no kernel log: the kernel is older than 3.5, or it is not Linux",
        ),
    )


def test_a_vmcoreinfo_that_is_cut_off_is_told_of() -> None:
    """As a kernel does whose page for it is full; what is missing is then no fault of the dead kernel's structures."""
    core = Core([Load(0, 4096)], notes=[NoteSegment(note(b"VMCOREINFO", 0, b"PAGESIZE=4096\nSYMBOL(init_u"))])
    assert facts_of(core).remarks[0] == "VMCOREINFO is cut off after 27 bytes, in the middle of a line"


def test_an_unknown_machine_stays_unknown() -> None:
    assert facts_of(Core([Load(0, 4096)], machine=4711)).machine is None


@pytest.mark.parametrize(
    ("text", "page_bytes"),
    [("65536", 65536), ("16384", 16384), ("0", 4096), ("4097", 4096), ("131072", 4096), ("x", 4096)],
)
def test_page_sizes(text: str, page_bytes: int) -> None:
    kernel = dead_kernel()
    kernel.lines["PAGESIZE"] = text
    assert facts_of(core_of(kernel)).page_bytes == page_bytes


@pytest.mark.parametrize("text", ["0", "-5", "1e9", "99999999999999"])
def test_crash_times_that_make_no_sense(text: str) -> None:
    kernel = dead_kernel()
    kernel.lines["CRASHTIME"] = text
    assert facts_of(core_of(kernel)).crash_time is None


def test_foreign_strings_hold_no_control_characters() -> None:
    kernel = DeadKernel()
    kernel.add_uts(nodename="we\x1b[31mb\n1", version="\u202egnp.exe", machine="\x07")
    kernel.lines["OSRELEASE"] = "6.1\x00\x1b]0;x\x07" + "y" * 500
    facts = facts_of(core_of(kernel))
    assert facts.nodename == "we[31mb1"
    assert facts.version == "gnp.exe"
    assert facts.machine == "x86_64", "by e_machine"
    assert facts.release is not None
    assert facts.release.startswith("6.1]0;xyyy")
    assert len(facts.release) <= 64


def test_a_kernel_that_does_not_say_where_its_names_stand() -> None:
    """Those before 5.11: behind the reference count, if something there is a name."""
    kernel = dead_kernel()
    del kernel.lines["OFFSET(uts_namespace.name)"]
    facts = facts_of(core_of(kernel))
    assert (facts.nodename, facts.remarks) == ("web1", ())
    kernel.lines["SYMBOL(init_uts_ns)"] = f"{int(kernel.lines['SYMBOL(init_uts_ns)'], 16) + 8:x}"
    facts = facts_of(core_of(kernel))
    assert (facts.nodename, facts.machine) == (None, "x86_64")
    assert facts.remarks == ("no host name: VMCOREINFO has no OFFSET(uts_namespace.name)",)


def test_the_release_is_known_without_its_page() -> None:
    core = core_of(dead_kernel())
    facts = facts_of(core, [(core.segments()[1].offset, core.size)])
    assert facts.release == "6.1.0-test"
    assert facts.nodename is None
    assert facts.log is None
    assert any("no host name" in remark and "not in the core" in remark for remark in facts.remarks)


def test_a_log_that_lacks_lines_is_told_of() -> None:
    kernel = DeadKernel()
    kernel.add_uts(nodename="web1")
    kernel.add_printk_ring([Message(at, b"message %04d" % at) for at in range(1000)], count_bits=10, size_bits=15)
    core = core_of(kernel)
    assert facts_of(core).remarks == ()
    bad = core.segments()[1].offset + kernel.memory.index(b"message 0500") // 4096 * 4096
    facts = facts_of(core, [(bad, bad + 4096)])
    assert facts.log is not None
    assert facts.log.text.count(b"\n") > 800
    assert facts.remarks == ("the kernel log lacks lines, which were too many, lost or damaged",)


def test_notes_that_cannot_be_read_are_no_disaster() -> None:
    core = core_of(dead_kernel())
    facts = facts_of(core, [(core.segments()[0].offset, core.segments()[0].offset + 1)])
    assert facts.notes == b""
    assert facts.remarks[0] == "the core has no VMCOREINFO note"


def test_other_notes_are_no_cpus() -> None:
    assert facts_of(Core([Load(0, 4096)], notes=[NoteSegment(note(b"LINUX", 1, bytes(336)))])).cpus == 0


@pytest.mark.parametrize(
    "machine",
    [x86_64(ERAS["6.1"], kaslr=0x1200_0000), i386(ERAS["6.1"]), arm64(ERAS["6.1"]), riscv64(ERAS["6.12"])],
    ids=["x86_64", "i386", "arm64", "riscv64"],
)
def test_cores_that_name_physical_addresses_only(machine: Machine) -> None:
    machine.kernel.add_printk_ring([Message(10**9, b"Kernel panic")])
    core = machine.core()
    for vaddr in (0, -1):  # QEMU and libvirt write 0
        loads = [replace(load, vaddr=vaddr) for load in core.loads]
        source = BytesSource(replace(core, loads=loads).map())
        facts = read_facts(source, headers_of(source.image))
        assert facts.nodename == "made-up"
        assert facts.log is not None
        assert facts.log.text == b"[    1.000000] Kernel panic\n"
        assert facts.remarks == ()


@pytest.mark.parametrize("knows", [False, True], ids=["zero", "physical"])
@pytest.mark.parametrize("bits", [32, 64])
def test_cores_of_qemu_with_memory_where_the_kernel_of_32_bits_is_mapped(knows: bool, bits: Literal[32, 64]) -> None:
    machine = i386(ERAS["6.1"])
    machine.kernel.add_printk_ring([Message(10**9, b"Kernel panic")])
    core = machine.core()
    low, rest = (replace(load, vaddr=load.paddr if knows else 0) for load in core.loads)
    assert rest.paddr == 0x10_0000
    rest = replace(rest, size=0xC800_0000 - rest.paddr)
    source = BytesSource(replace(core, loads=[low, rest], bits=bits).map())
    facts = read_facts(source, headers_of(source.image))
    assert facts.nodename == "made-up"
    assert facts.log is not None
    assert facts.log.text == b"[    1.000000] Kernel panic\n"
    assert facts.remarks == ()


def test_the_real_sample(sample: Path, dmesg: bytes) -> None:
    source = BytesSource(sample.read_bytes())
    facts = read_facts(source, headers_of(source.image))
    assert facts.release == "6.1.0-56-cloud-amd64"
    assert facts.version == "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
    assert (facts.machine, facts.nodename, facts.cpus) == ("x86_64", "crashy", 2)
    assert facts.crash_time == 1795377839
    assert facts.log is not None
    assert facts.log.text == dmesg
    assert facts.remarks == ()


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_mutations_raise_nothing(data: st.DataObject) -> None:
    image = bytearray(core_of(dead_kernel()).build())
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(24, 300) | st.integers(4096, 4096 + 3000) | st.integers(8192, len(image) - 4))
        struct.pack_into("<I", image, at, data.draw(st.integers(0, 255) | st.integers(0, (1 << 32) - 1)))
    try:
        headers = headers_of(bytes(image))
    except CoreError:
        return
    began = time.process_time()
    facts = read_facts(BytesSource(bytes(image)), headers)
    assert time.process_time() - began < 10
    for text in (facts.release, facts.version, facts.machine, facts.nodename):
        assert text is None or (text.isprintable() and 1 <= len(text) <= 64)
