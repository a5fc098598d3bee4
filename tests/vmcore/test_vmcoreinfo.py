from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import KernelDataError
from netdump.vmcore.notes import read_notes, vmcoreinfo_text
from netdump.vmcore.vmcoreinfo import VMCOREINFO_BYTES_MAX, Vmcoreinfo, is_cut_off
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path

INFO = Vmcoreinfo.parse(
    b"OSRELEASE=6.1.0\nSYMBOL(prb)=ffffffffbc0622c0\nSIZE(page)=64\nOFFSET(page.flags)=0\nLENGTH(node_data)=1024\n"
    b"NUMBER(phys_base)=-880803840\nNUMBER(VMALLOC_START)=0xffff800080000000\nNUMBER(PG_lru)=4\nCRASHTIME=1795377839\n"
    b"no equals sign\nCONFIG_X86_PAE=y\nSIZE(page)=99\n"
)


def test_values() -> None:
    assert INFO.value("OSRELEASE") == "6.1.0"
    assert INFO.value("CONFIG_X86_PAE") == "y"
    assert INFO.count("CRASHTIME") == 1795377839
    assert INFO.symbol("prb") == 0xFFFFFFFFBC0622C0
    assert INFO.size("page") == 64, "the first counts"
    assert INFO.offset("page.flags") == 0
    assert INFO.length("node_data") == 1024
    assert INFO.number("phys_base") == -880803840
    assert INFO.number("VMALLOC_START") == 0xFFFF800080000000
    assert INFO.number("PG_lru") == 4


def test_absent_is_unknown_and_not_zero() -> None:
    for absent in (
        INFO.value("X"),
        INFO.count("X"),
        INFO.symbol("X"),
        INFO.size("X"),
        INFO.offset("X"),
        INFO.length("X"),
        INFO.number("X"),
    ):
        assert absent is None


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "1_0", "x", "-", "--1", "1.5", "٣", "9" * 5000, "18446744073709551616", "-0x1", "\0"]
)
def test_what_is_no_number_is_unknown(text: str) -> None:
    info = Vmcoreinfo.parse(f"SIZE(a)={text}\nNUMBER(a)={text}\nCRASHTIME={text}\n".encode())
    assert info.size("a") is None
    assert info.number("a") is None
    assert info.count("CRASHTIME") is None


def test_need() -> None:
    assert INFO.need("SYMBOL", "prb") == INFO.symbol("prb")
    assert INFO.need("OFFSET", "page.flags") == 0
    with pytest.raises(KernelDataError, match=r"no SIZE\(prb_desc\)"):
        INFO.need("SIZE", "prb_desc")


def test_no_more_than_a_page_is_read() -> None:
    text = b"A=1\n" + b"#" * VMCOREINFO_BYTES_MAX + b"\nB=2\n"
    info = Vmcoreinfo.parse(text)
    assert info.count("A") == 1
    assert info.count("B") is None


@pytest.mark.parametrize(
    ("last", "cut_off"),
    [("", False), ("NUMBER(phys_base)=96636", True), ("NUMB", True), ("CRASHTIME=1700000000", False)],
)
def test_a_line_that_is_cut_off_is_not_read(last: str, cut_off: bool) -> None:
    """Half a number is another one. Old kernels end CRASHTIME, their last, without a line end."""
    text = f"PAGESIZE=4096\n{last}".encode()
    assert is_cut_off(text) is cut_off
    info = Vmcoreinfo.parse(text)
    assert info.count("PAGESIZE") == 4096
    assert info.number("phys_base") is None
    assert info.count("CRASHTIME") == (1_700_000_000 if last.startswith("CRASH") else None)


def test_the_real_text(sample: Path) -> None:
    source = BytesSource(sample.read_bytes())
    headers = headers_of(source.image)
    info = Vmcoreinfo.parse(vmcoreinfo_text(read_notes(source.read, headers), "little") or b"")
    assert info.count("PAGESIZE") == 4096
    assert info.symbol("prb") == 0xFFFFFFFFBC0622C0
    assert info.number("PAGE_BUDDY_MAPCOUNT_VALUE") == -129
    assert info.value("KERNELOFFSET") == "39600000"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_at_all(text: bytes) -> None:
    info = Vmcoreinfo.parse(b"SIZE(a)=" + text + b"\n")
    assert info.size("a") is None or 0 <= (info.size("a") or 0) < 1 << 64
    assert info.number("a") is None
