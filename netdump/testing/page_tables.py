"""Writes page tables as the kernels of several architectures do, into the memory of a made-up machine.

    tables = X86Tables(ram, levels=5)
    tables.map(0xFFEA000000000000, 0x2000000, 21)

Written from the architecture manuals, not from what reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netdump.testing.elf_writer import ByteOrder


class Ram:
    """Memory of a made-up machine: written anywhere, kept by page, so that a terabyte costs what is written."""

    def __init__(self, page_bytes: int = 4096) -> None:
        self.page_bytes = page_bytes
        self.pages: dict[int, bytearray] = {}  # by page frame

    def write(self, paddr: int, data: bytes) -> None:
        """Put data at a physical address."""
        rest = memoryview(data)
        while rest:
            pfn, offset = divmod(paddr, self.page_bytes)
            part = rest[: self.page_bytes - offset]
            page = self.pages.get(pfn)
            if page is None:
                page = self.pages[pfn] = bytearray(self.page_bytes)
            page[offset : offset + len(part)] = part
            paddr += len(part)
            rest = rest[len(part) :]

    def read(self, paddr: int, length: int) -> bytes:
        """What is there."""
        parts = []
        while length:
            pfn, offset = divmod(paddr, self.page_bytes)
            part = min(length, self.page_bytes - offset)
            parts.append(bytes(self.pages.get(pfn, bytes(self.page_bytes))[offset : offset + part]))
            paddr += part
            length -= part
        return b"".join(parts)

    def pieces(self, start: int, end: int) -> dict[int, bytes]:
        """What was written from one physical address to another, as a segment of a core wants it."""
        size = self.page_bytes
        found: dict[int, bytes] = {}
        for pfn in sorted(self.pages):
            first, last = max(start, pfn * size), min(end, (pfn + 1) * size)
            if first < last:
                found[first - start] = bytes(self.pages[pfn][first - pfn * size : last - pfn * size])
        return found


class Tables:
    """Page tables that grow as they are needed. shifts, bits: of each level, root first. Entries: see entry()."""

    entry_bytes = 8

    def __init__(self, ram: Ram, root: int, spare: int, shifts: tuple[int, ...], bits: tuple[int, ...]) -> None:
        """root: physical address of the root table. spare: where tables may be put, growing upwards."""
        self.ram = ram
        self.root = root
        self.spare = spare
        self.shifts = shifts
        self.bits = bits
        self.byteorder: ByteOrder = "little"

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """How an entry is written. level: 0 is the root."""
        raise NotImplementedError

    def target(self, entry: int) -> int:
        """The physical address in an entry that leads to a table."""
        raise NotImplementedError

    def map(self, vaddr: int, paddr: int, shift: int) -> None:
        """Map one page of 1 << shift bytes."""
        table = self.root
        level = 0
        while self.shifts[level] != shift:
            place = self._place(table, vaddr, level)
            entry = int.from_bytes(self.ram.read(place, self.entry_bytes), self.byteorder)
            if entry == 0:
                below = self.spare
                self.spare += max(4096, self.entry_bytes << self.bits[level + 1])
                entry = self.entry(below, level, table=True)
                self._write(place, entry)
            table = self.target(entry)
            level += 1
        self._write(self._place(table, vaddr, level), self.entry(paddr, level, table=False))

    def map_range(self, vaddr: int, paddr: int, length: int, shift: int) -> None:
        """Map pages one after the other."""
        for offset in range(0, length, 1 << shift):
            self.map(vaddr + offset, paddr + offset, shift)

    def _place(self, table: int, vaddr: int, level: int) -> int:
        return table + (vaddr >> self.shifts[level] & (1 << self.bits[level]) - 1) * self.entry_bytes

    def _write(self, place: int, entry: int) -> None:
        self.ram.write(place, entry.to_bytes(self.entry_bytes, self.byteorder))


class X86Tables(Tables):
    """x86_64 with 4 or 5 levels. sme_mask: set in every entry. Source: Intel SDM vol. 3, 4.5."""

    def __init__(self, ram: Ram, root: int, spare: int, levels: int = 4, sme_mask: int = 0) -> None:
        super().__init__(ram, root, spare, (48, 39, 30, 21, 12)[5 - levels :], (9,) * levels)
        self.sme_mask = sme_mask

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """Present, writable, accessed, dirty; large above the last level; no-execute and software bits on pages."""
        flags = 0x067 if table else 0x063 | 1 << 63 | 1 << 58
        if not table and level < len(self.shifts) - 1:
            flags |= 0x80
        return paddr | flags | self.sme_mask

    def target(self, entry: int) -> int:
        """Bits 51:12."""
        return entry & 0x000F_FFFF_FFFF_F000 & ~self.sme_mask


class PaeTables(X86Tables):
    """i386 with PAE: a root of four entries."""

    def __init__(self, ram: Ram, root: int, spare: int) -> None:
        Tables.__init__(self, ram, root, spare, (30, 21, 12), (2, 9, 9))
        self.sme_mask = 0

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """Entries of the root have but a present bit."""
        return paddr | 1 if level == 0 else super().entry(paddr, level, table=table)


class I386Tables(Tables):
    """i386 without PAE: entries of 4 bytes, large pages of 4 MiB."""

    entry_bytes = 4

    def __init__(self, ram: Ram, root: int, spare: int) -> None:
        super().__init__(ram, root, spare, (22, 12), (10, 10))

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """A large page above 4 GiB has bits 39:32 of its address at 20:13."""
        large = 0x80 | (paddr >> 32) << 13 if not table and level == 0 else 0
        return paddr & 0xFFFF_F000 | 0x063 | large

    def target(self, entry: int) -> int:
        """Bits 31:12."""
        return entry & 0xFFFF_F000


class Arm64Tables(Tables):
    """arm64. shift: of a page: 12, 14, 16; bits of virtual addresses; lpa2: descriptors of FEAT_LPA2. Arm ARM D8.3."""

    def __init__(self, ram: Ram, root: int, spare: int, shift: int, va_bits: int, *, lpa2: bool = False) -> None:
        step = shift - 3
        levels = -(-(va_bits - shift) // step)
        shifts = tuple(shift + step * (levels - 1 - level) for level in range(levels))
        super().__init__(ram, root, spare, shifts, (va_bits - shifts[0], *[step] * (levels - 1)))
        self.lpa2 = lpa2
        self.page_shift = shift
        assert spare % (1 << shift) == 0

    def map(self, vaddr: int, paddr: int, shift: int) -> None:
        """Tables are pages of the machine's size."""
        super().map(vaddr, paddr, shift)
        self.spare = -(-self.spare >> self.page_shift) << self.page_shift

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """Valid; table, page or block; access flag; attributes; shareable only where bits 9:8 are not address."""
        kind = 3 if table or level == len(self.shifts) - 1 else 1
        entry = kind if table else kind | 1 << 10 | 1 << 54 | 1 << 2
        if self.page_shift == 16:
            return entry | paddr & (1 << 48) - (1 << 16) | (paddr >> 48 & 0xF) << 12 | (0 if table else 3 << 8)
        if self.lpa2:
            return entry | paddr & (1 << 50) - 1 | (paddr >> 50 & 3) << 8
        return entry | paddr | (0 if table else 3 << 8)

    def target(self, entry: int) -> int:
        """The inverse of entry."""
        if self.page_shift == 16:
            return entry & (1 << 48) - (1 << 16) | (entry >> 12 & 0xF) << 48
        if self.lpa2:
            return entry & (1 << 50) - (1 << self.page_shift) | (entry >> 8 & 3) << 50
        return entry & (1 << 48) - (1 << self.page_shift)


class RiscvTables(Tables):
    """riscv64: Sv39, Sv48, Sv57. Privileged specification 4.4."""

    def __init__(self, ram: Ram, root: int, spare: int, va_bits: int = 39) -> None:
        levels = {39: 3, 48: 4, 57: 5}[va_bits]
        super().__init__(
            ram, root, spare, tuple(12 + 9 * (levels - 1 - level) for level in range(levels)), (9,) * levels
        )

    def entry(self, paddr: int, level: int, *, table: bool) -> int:
        """A pointer has none of R, W, X, in whatever level."""
        del level
        return paddr >> 12 << 10 | (1 if table else 0xE7)

    def target(self, entry: int) -> int:
        """Bits 53:10."""
        return (entry >> 10 & (1 << 44) - 1) << 12
