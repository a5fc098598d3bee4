"""What a core says of its kernel: everything that the headline tells before any page is sent.

Owns the gathering. Must not fail: what a core lacks is unknown, and a remark says why.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.memory import Memory
from netdump.vmcore.notes import iter_notes, prstatus, read_notes, vmcoreinfo_text
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.printk import Log, read_log
from netdump.vmcore.vmcoreinfo import Vmcoreinfo, is_cut_off

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.paging import AddressSpace
    from netdump.vmcore.source import Source

PAGE_BYTES_DEFAULT: Final = 4096
_PAGE_SIZES: Final = frozenset({4096, 8192, 16384, 32768, 65536})

_UTS_FIELD_BYTES: Final = 65  # __NEW_UTS_LEN + 1, include/uapi/linux/utsname.h
_UTS_FIELDS: Final = 6  # sysname, nodename, release, version, machine, domainname
_UTS_NAME: Final = 4  # offset of the names where VMCOREINFO has none: behind the reference count
_TIME_MAX: Final = 1 << 40

_MACHINES: Final = {  # e_machine -> uname -m
    2: "sparc",
    3: "i686",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    50: "ia64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


class KernelFacts(NamedTuple):
    """What is known of the dead kernel; None is unknown.

    release, version, machine, nodename: of uname, without control characters. crash_time: seconds since 1970, by the
    clock of the dead kernel. cpus: those whose registers were saved. page_bytes: of the dead kernel. vmcoreinfo: its
    text. notes: see read_notes. remarks: one sentence for each thing that should be known and is not.
    """

    release: str | None
    version: str | None
    machine: str | None
    nodename: str | None
    crash_time: int | None
    cpus: int
    page_bytes: int
    vmcoreinfo: bytes | None
    notes: bytes
    log: Log | None
    remarks: tuple[str, ...]


class _Uts(NamedTuple):
    nodename: str | None
    release: str | None
    version: str | None
    machine: str | None


def read_facts(source: Source, headers: ElfHeaders, image_map: ImageMap | None = None) -> KernelFacts:
    """Gather what a core says of its kernel. image_map: of these headers, if there is one already. Raises nothing."""
    remarks: list[str] = []
    notes = read_notes(source.read, headers)
    text = vmcoreinfo_text(notes, headers.byteorder)
    if text is None:
        remarks.append("the core has no VMCOREINFO note")
    elif is_cut_off(text):
        remarks.append(f"VMCOREINFO is cut off after {len(text)} bytes, in the middle of a line")
    info = Vmcoreinfo.parse(text or b"")
    page_bytes = info.count("PAGESIZE")
    if page_bytes not in _PAGE_SIZES:
        page_bytes = PAGE_BYTES_DEFAULT
    image_map = image_map or ImageMap(headers)
    open_space = partial(_open_space, source, image_map, headers, info, page_bytes)
    memory = Memory(source, image_map, headers.byteorder, headers.word_bytes, open_space)
    uts = _read_uts(memory, info, remarks)
    crash_time = info.count("CRASHTIME")
    return KernelFacts(
        release=_clean(info.value("OSRELEASE")) or uts.release,
        version=uts.version,
        machine=uts.machine or _MACHINES.get(headers.machine),
        nodename=uts.nodename,
        crash_time=crash_time if crash_time is not None and 0 < crash_time < _TIME_MAX else None,
        cpus=sum(prstatus(note, headers) is not None for note in iter_notes(notes, headers.byteorder)),
        page_bytes=page_bytes,
        vmcoreinfo=text,
        notes=notes,
        log=_read_log(memory, info, remarks),
        remarks=tuple(remarks),
    )


def _open_space(
    source: Source, image_map: ImageMap, headers: ElfHeaders, info: Vmcoreinfo, page_bytes: int
) -> AddressSpace | None:
    """The kernel's address space by its page tables, None if they cannot be found."""
    from netdump.vmcore.address_space import open_address_space  # noqa: PLC0415  # a capture kernel's core does without
    from netdump.vmcore.paging import PhysicalMemory  # noqa: PLC0415

    try:
        return open_address_space(PhysicalMemory(source, image_map), headers, info, page_bytes)
    except KernelDataError:
        return None


def uts_address(info: Vmcoreinfo) -> int:
    """Virtual address of the names in init_uts_ns. Raises KernelDataError.

    Before Linux commit ca4a9241cc5e ("kdump: append uts_namespace.name offset to VMCOREINFO") (in v5.11) no key says
    where they stand; unless its members were shuffled (RANDSTRUCT) they stand behind the first one.
    """
    offset = info.offset("uts_namespace.name")
    return info.need("SYMBOL", "init_uts_ns") + (_UTS_NAME if offset is None else offset)


def _read_uts(memory: Memory, info: Vmcoreinfo, remarks: list[str]) -> _Uts:
    """init_uts_ns.name. Source: Linux include/linux/utsname.h, include/uapi/linux/utsname.h."""
    try:
        data = memory.read_virtual(uts_address(info), _UTS_FIELDS * _UTS_FIELD_BYTES)
        if not data.startswith(b"Linux\0"):
            info.need("OFFSET", "uts_namespace.name")
    except KernelDataError as error:
        remarks.append(f"no host name: {error}")
        return _Uts(None, None, None, None)
    fields = [data[at : at + _UTS_FIELD_BYTES].partition(b"\0")[0] for at in range(0, len(data), _UTS_FIELD_BYTES)]
    return _Uts(*(_clean(field.decode("utf-8", "replace")) for field in fields[1:5]))


def _read_log(memory: Memory, info: Vmcoreinfo, remarks: list[str]) -> Log | None:
    try:
        log = read_log(memory, info)
    except KernelDataError as error:
        remarks.append(f"no kernel log: {error}")
        return None
    if log.truncated:
        remarks.append("the kernel log lacks lines, which were too many, lost or damaged")
    return log


def _clean(text: str | None) -> str | None:
    """A foreign string without control characters, None if nothing is left."""
    if text is None:
        return None
    return "".join(letter for letter in text if letter.isprintable()).strip()[: _UTS_FIELD_BYTES - 1] or None
