"""Virtual addresses of the dead kernel, translated by its own page tables.

Owns the walk and its cache. Must not know any architecture: a Geometry says how tables are laid out (paging_x86,
paging_arm64, paging_riscv). The depth of a walk is fixed by the geometry, so tables that point at themselves end like
any others. What is not mapped, or whose tables the core lacks, is unknown: None, or LostMemoryError on reading.
"""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, Final

from netdump.errors import LostMemoryError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netdump.vmcore.elf import ByteOrder
    from netdump.vmcore.physmap import ImageMap
    from netdump.vmcore.source import Source

    Decode = Callable[[int, int], tuple[int, bool] | None]

_TABLES_KEPT: Final = 24  # of one page each; a walk has five at most, and neighbours share all but the last
_LARGE_KEPT: Final = 256
_READ_BYTES_MAX: Final = 0x10_0000


class PhysicalMemory:
    """Reads a source by physical address into buffers that are given. Memory without file bytes counts as missing."""

    __slots__ = ("_known", "_map", "_source")

    def __init__(self, source: Source, image_map: ImageMap) -> None:
        self._source = source
        self._map = image_map
        self._known = (0, 0, 0)  # physical addresses from, up to, image offset of the first: used last

    def fill(self, paddr: int, view: memoryview) -> list[tuple[int, int]]:
        """Fill view from a physical address on. Returns what is missing as (start, length) within view, ascending.

        Missing bytes are zeros in view.
        """
        wanted = len(view)
        first, behind, offset = self._known
        if first <= paddr and paddr + wanted <= behind:
            missing = self._source.read_into(offset + paddr - first, view)
            for at, length in missing:
                view[at : at + length] = bytes(length)
            return missing
        missing = []
        done = 0
        while done < wanted:
            start, part = self._place(paddr + done, wanted - done)
            piece = view[done : done + part]
            lost = [(0, part)] if start is None else self._source.read_into(start, piece)
            for at, length in lost:
                piece[at : at + length] = bytes(length)
                missing.append((done + at, length))
            done += part
        return missing

    def _place(self, paddr: int, wanted: int) -> tuple[int | None, int]:
        """Image offset, None if there is none, and for how many of the wanted bytes that holds."""
        first, behind, offset = self._known
        if not (first <= paddr < behind):
            place = self._map.place(paddr)
            if place is None:
                return None, min(wanted, 4096 - paddr % 4096)
            if place.start is None:
                return None, min(wanted, place.length)
            first, behind, offset = self._known = paddr, paddr + place.length, place.start
        return offset + paddr - first, min(wanted, behind - paddr)

    def read(self, paddr: int, length: int) -> bytes:
        """Exactly length bytes. Raises LostMemoryError."""
        data = bytearray(length)
        if self.fill(paddr, memoryview(data)):
            raise LostMemoryError(f"{length} bytes of memory at physical address {paddr:#x} are not in the core")
        return bytes(data)


class Geometry(NamedTuple):
    """How an architecture lays out its page tables.

    shifts: of each level, root first: how far an address is shifted right to get the index into a table of it.
    bits: bits of index, level by level. entry_bytes: 4 or 8. lowest, highest: first and last address that the tables
    map; tags: bits of an address that the machine does not look at. decode(entry, level) -> (physical address, whether
    it is a page rather than a table), None if absent; level counts from 0, the root.
    """

    shifts: tuple[int, ...]
    bits: tuple[int, ...]
    entry_bytes: int
    lowest: int
    highest: int
    byteorder: ByteOrder
    decode: Decode
    tags: int = 0


class Extent(NamedTuple):
    """Virtual memory that is mapped in one way.

    start, end: bytes from the address that was asked for. paddr: where start is mapped to, None if it is not mapped.
    repeated: whether each page is mapped to the one that the first page, which is whole, is mapped to; else physical
    memory goes on as virtual memory does.
    """

    start: int
    end: int
    paddr: int | None
    repeated: bool = False


class AddressSpace:
    """The kernel's part of virtual memory. Not thread-safe."""

    __slots__ = (
        "_extents",
        "_geometry",
        "_large",
        "_large_shift",
        "_last",
        "_root",
        "_shared",
        "_tables",
        "page_bytes",
        "physical",
    )

    def __init__(self, physical: PhysicalMemory, geometry: Geometry, root: int) -> None:
        """root: physical address of the root table."""
        self.physical = physical
        self._geometry = geometry
        self._root = root
        self._tables: dict[int, bytes | None] = {}  # oldest first; None: not in the core
        self._last: tuple[int, int, bytes] | None = None  # first address, last address, table of the last level
        self._large_shift = geometry.shifts[-2] if len(geometry.shifts) > 1 else geometry.shifts[-1]
        self._large: dict[int, int] = {}  # address >> that of parts of large pages -> what to add to get the physical
        self.page_bytes = 1 << geometry.shifts[-1]
        self._extents: tuple[int, int, list[Extent]] = (0, 0, [])  # address, length, and what was answered last
        self._shared = (-1, b"")  # physical address and contents of the page that was found repeated last

    @property
    def byteorder(self) -> ByteOrder:
        """Of the dead kernel."""
        return self._geometry.byteorder

    @property
    def root(self) -> int:
        """Physical address of the root table."""
        return self._root

    def has(self, vaddr: int) -> bool:
        """Whether an address can be one of the kernel's at all."""
        geometry = self._geometry
        return geometry.lowest <= vaddr | geometry.tags <= geometry.highest

    def translate(self, vaddr: int, wanted: int = 1) -> tuple[int, int] | None:
        """Physical address, and for how many bytes on it holds (wanted at most). None: not mapped."""
        part = vaddr >> self._large_shift
        shift = self._large.get(part)
        if shift is not None and vaddr + wanted <= part + 1 << self._large_shift:
            return vaddr + shift, wanted
        found = self._walk(vaddr)
        if found is None:
            return None
        paddr, length = found
        while length < wanted:
            after = self._walk(vaddr + length)
            if after is None or after[0] != paddr + length:
                break
            length += after[1]
        return paddr, min(length, wanted)

    def _walk(self, vaddr: int) -> tuple[int, int] | None:
        """Physical address, and bytes up to the end of the page it is in."""
        part = vaddr >> self._large_shift
        shift = self._large.get(part)
        if shift is not None:
            return vaddr + shift, (part + 1 << self._large_shift) - vaddr
        geometry = self._geometry
        last = len(geometry.shifts) - 1
        known = self._last
        if known is not None and known[0] <= vaddr <= known[1]:
            return self._page(known[2], vaddr, last)
        if not geometry.lowest <= vaddr <= geometry.highest:
            return None
        table_at = self._root
        for level in range(last):
            table = self._table(table_at, level)
            if table is None:
                return None
            entry = geometry.decode(self._entry(table, vaddr, level), level)
            if entry is None:
                return None
            table_at, is_page = entry
            if is_page:
                paddr, left = _within(table_at, vaddr, geometry.shifts[level])
                if len(self._large) >= _LARGE_KEPT:
                    self._large.clear()
                self._large[part] = paddr - vaddr
                return paddr, left
        table = self._table(table_at, last)
        if table is None:
            return None
        first = vaddr >> geometry.shifts[last - 1] << geometry.shifts[last - 1]
        self._last = first, first + (1 << geometry.shifts[last - 1]) - 1, table
        return self._page(table, vaddr, last)

    def _page(self, table: bytes, vaddr: int, level: int) -> tuple[int, int] | None:
        """What an entry of the last level maps."""
        entry = self._geometry.decode(self._entry(table, vaddr, level), level)
        if entry is None or not entry[1]:
            return None
        return _within(entry[0], vaddr, self._geometry.shifts[level])

    def _entry(self, table: bytes, vaddr: int, level: int) -> int:
        geometry = self._geometry
        at = (vaddr >> geometry.shifts[level] & (1 << geometry.bits[level]) - 1) * geometry.entry_bytes
        return int.from_bytes(table[at : at + geometry.entry_bytes], geometry.byteorder)

    def _table(self, paddr: int, level: int) -> bytes | None:
        """A table, or None if the core lacks it."""
        if paddr not in self._tables:
            if len(self._tables) >= _TABLES_KEPT:
                del self._tables[next(iter(self._tables))]
            try:
                table = self.physical.read(paddr, self._geometry.entry_bytes << self._geometry.bits[level])
            except LostMemoryError:
                self._tables[paddr] = None
            else:
                self._tables[paddr] = table
        return self._tables[paddr]

    def tables(self) -> tuple[int, ...]:
        """Physical addresses of the tables that were read lately."""
        return tuple(paddr for paddr, table in self._tables.items() if table is not None)

    def extents(self, vaddr: int, length: int) -> list[Extent]:
        """How so many bytes are mapped, without gaps; for many pages at a time. The last answer is kept."""
        if self._extents[:2] != (vaddr, length):
            extents: list[Extent] = []
            for extent in self._iter_extents(vaddr, length):
                if extents and extent.paddr is not None and not extent.repeated:
                    start, end, paddr, repeated = extents[-1]
                    if paddr is not None and not repeated and paddr + end - start == extent.paddr:
                        extents[-1] = Extent(start, extent.end, paddr)
                        continue
                extents.append(extent)
            self._extents = vaddr, length, extents
        return self._extents[2]

    def _iter_extents(self, vaddr: int, length: int) -> Iterator[Extent]:
        """The same, what goes on from one table to the next not being joined."""
        done = 0
        while done < length:
            at = vaddr + done
            found = self._walk(at)
            known = self._last
            if known is not None and known[0] <= at <= known[1]:
                end = min(known[1] + 1 - vaddr, length)
                yield from self._table_extents(known[2], vaddr, done, end)
            elif found is not None:
                end = min(done + found[1], length)
                yield Extent(done, end, found[0])
            else:
                end = min(done + self.page_bytes - at % self.page_bytes, length)
                yield Extent(done, end, None)
            done = end

    def _table_extents(self, table: bytes, vaddr: int, start: int, end: int) -> Iterator[Extent]:
        """Extents of what one table of the last level maps. start, end: bytes from vaddr."""
        geometry, size = self._geometry, self.page_bytes
        into = (vaddr + start) % size
        first = vaddr + start >> geometry.shifts[-1] & (1 << geometry.bits[-1]) - 1
        pages = -(-(into + end - start) // size)
        form = f"{'<' if geometry.byteorder == 'little' else '>'}{pages}{'Q' if geometry.entry_bytes == 8 else 'I'}"
        entries = unpack(form, table[first * geometry.entry_bytes : (first + pages) * geometry.entry_bytes])
        targets = self._targets(entries)
        at = 0
        while at < pages:
            target, behind, repeated = targets[at], at + 1, False
            if target is None:
                while behind < pages and targets[behind] is None:
                    behind += 1
            else:
                while behind < pages and targets[behind] == target + (behind - at) * size:
                    behind += 1
                if behind == at + 1 and not (at == 0 and into):
                    while behind < pages and targets[behind] == target:
                        behind += 1
                    repeated = behind > at + 1
            begin = start if at == 0 else start - into + at * size
            if target is not None and at == 0:
                target += into
            yield Extent(begin, min(end, start - into + behind * size), target, repeated)
            at = behind

    def _targets(self, entries: Sequence[int]) -> list[int | None]:
        """Where entries of a table of the last level lead to."""
        decode, level, mask = self._geometry.decode, len(self._geometry.shifts) - 1, -self.page_bytes
        targets: list[int | None] = []
        last, target = -1, None
        for entry in entries:
            if entry != last:
                last, decoded = entry, decode(entry, level)
                target = decoded[0] & mask if decoded is not None and decoded[1] else None
            targets.append(target)
        return targets

    def fill(self, vaddr: int, view: memoryview) -> list[tuple[int, int]]:
        """Fill view from a virtual address on. Returns what is missing as PhysicalMemory.fill does."""
        wanted = len(view)
        found = self.translate(vaddr, wanted)
        if found is not None and found[1] == wanted:
            return self.physical.fill(found[0], view)
        missing: list[tuple[int, int]] = []
        for start, end, paddr, repeated in self.extents(vaddr, wanted):
            if paddr is None:
                view[start:end] = bytes(end - start)
                missing.append((start, end - start))
            elif repeated:
                missing.extend(self._fill_repeated(paddr, view, start, end))
            else:
                lost = self.physical.fill(paddr, view[start:end])
                missing.extend([(start + at, length) for at, length in lost])
        return missing

    def _fill_repeated(self, paddr: int, view: memoryview, start: int, end: int) -> list[tuple[int, int]]:
        """Fill view between two places with one page, over and over."""
        size = self.page_bytes
        if self._shared[0] != paddr:
            page = bytearray(size)
            if self.physical.fill(paddr, memoryview(page)):
                missing = []
                for at in range(start, end, size):
                    lost = self.physical.fill(paddr, view[at : min(at + size, end)])
                    missing.extend([(at + place, length) for place, length in lost])
                return missing
            self._shared = paddr, bytes(page)
        shared = self._shared[1]
        whole = end - (end - start) % size
        for at in range(start, whole, size):
            view[at : at + size] = shared
        view[whole:end] = shared[: end - whole]
        return []

    def read(self, vaddr: int, length: int) -> bytes:
        """Exactly length bytes, 1 MiB at most. Raises LostMemoryError."""
        if not 0 <= length <= _READ_BYTES_MAX:
            raise LostMemoryError(f"a structure at virtual address {vaddr:#x} claims {length} bytes")
        data = bytearray(length)
        if self.fill(vaddr, memoryview(data)):
            raise LostMemoryError(f"{length} bytes of memory at virtual address {vaddr:#x} are not in the core")
        return bytes(data)

    def read_uint(self, vaddr: int, size: int) -> int:
        """An unsigned integer of size bytes. Raises LostMemoryError."""
        return int.from_bytes(self.read(vaddr, size), self._geometry.byteorder)


def _within(page: int, vaddr: int, shift: int) -> tuple[int, int]:
    """Where an address lies in the page that it is mapped to, and bytes up to the page's end."""
    size = 1 << shift
    offset = vaddr & size - 1
    return (page & -size) + offset, size - offset
