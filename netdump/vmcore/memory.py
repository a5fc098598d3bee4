"""The dead kernel's memory, read through the image by virtual address.

Owns reading at an address. Must not know any kernel structure. Virtual addresses are translated by PT_LOAD, and by the
kernel's own page tables where no segment has them: what QEMU and libvirt write names physical addresses only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError, LostMemoryError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.vmcore.elf import ByteOrder
    from netdump.vmcore.paging import AddressSpace
    from netdump.vmcore.physmap import ImageMap
    from netdump.vmcore.source import Source

READ_BYTES_MAX: Final = 0x40_0000
"""Most bytes of one read. Lengths come from the dead kernel; larger structures are read piece by piece."""

_PIECE_BYTES: Final = 0x8000
_PIECES_KEPT: Final = 2  # what lies across a boundary needs both


class Partial(NamedTuple):
    """Memory, some of it perhaps missing. data: zeros where lost; lost: (start, length) within data, ascending."""

    data: bytes
    lost: tuple[tuple[int, int], ...]


class Memory:
    """Reads a source by address. Not thread-safe.

    open_space: opens the kernel's page tables, called once if PT_LOAD does not tell; None if they cannot be found.
    """

    __slots__ = ("_map", "_open_space", "_source", "_space", "byteorder", "word_bytes")

    def __init__(
        self,
        source: Source,
        image_map: ImageMap,
        byteorder: ByteOrder,
        word_bytes: int,
        open_space: Callable[[], AddressSpace | None] | None = None,
    ) -> None:
        self._source = source
        self._map = image_map
        self._open_space = open_space
        self._space: AddressSpace | None = None
        self.byteorder: ByteOrder = byteorder
        self.word_bytes = word_bytes

    def read_virtual(self, vaddr: int, length: int) -> bytes:
        """Exactly length bytes. Raises LostMemoryError if one of them is not in the core or cannot be read."""
        partial = self.read_virtual_partial(vaddr, length)
        if partial.lost:
            start, size = partial.lost[0]
            raise LostMemoryError(f"{size} bytes of memory at virtual address {vaddr + start:#x} are not in the core")
        return partial.data

    def read_uint(self, vaddr: int, size: int) -> int:
        """An unsigned integer of size bytes in the dead kernel's byte order. Raises LostMemoryError."""
        return int.from_bytes(self.read_virtual(vaddr, size), self.byteorder)

    def read_virtual_partial(self, vaddr: int, length: int) -> Partial:
        """length bytes, whatever can be had of them. Raises KernelDataError for more than READ_BYTES_MAX."""
        if not 0 <= length <= READ_BYTES_MAX:
            raise KernelDataError(f"a structure of the dead kernel claims {length} bytes, more than {READ_BYTES_MAX}")
        data = bytearray(length)
        view = memoryview(data)
        lost: list[tuple[int, int]] = []
        done = 0
        while done < length:
            found = self._map.translate(vaddr + done) or self._look_up(vaddr + done, length - done)
            if found is None:  # which pages behind it are mapped is asked page by page, at the finest grain there is
                part = min(length - done, 4096 - (vaddr + done) % 4096)
                lost.append((done, part))
            else:
                paddr, extent = found
                part = min(length - done, extent)
                self._fill_physical(paddr, view[done : done + part], done, lost)
            done += part
        return Partial(bytes(data), tuple(lost))

    def _look_up(self, vaddr: int, wanted: int) -> tuple[int, int] | None:
        """Physical address by the page tables, and for how many bytes on it holds (wanted at most)."""
        if self._open_space is not None:
            self._space, self._open_space = self._open_space(), None
        return None if self._space is None else self._space.translate(vaddr, wanted)

    def _fill_physical(self, paddr: int, view: memoryview, base: int, lost: list[tuple[int, int]]) -> None:
        """Fill view from a physical address; add what is lost, counted from base, to lost."""
        done = 0
        while done < len(view):
            place = self._map.place(paddr + done)
            if place is None:
                part = min(len(view) - done, 4096 - (paddr + done) % 4096)
                lost.append((base + done, part))
            else:
                part = min(len(view) - done, place.length)
                if place.start is not None:
                    piece = view[done : done + part]
                    for start, length in self._source.read_into(place.start, piece):
                        piece[start : start + length] = bytes(length)
                        lost.append((base + done + start, length))
            done += part


class Table:
    """An array of the dead kernel, of any size, read in pieces that are kept while they are likely to be used again."""

    __slots__ = ("_length", "_memory", "_pieces", "_vaddr")

    def __init__(self, memory: Memory, vaddr: int, length: int) -> None:
        """length: bytes of the array."""
        self._memory = memory
        self._vaddr = vaddr
        self._length = length
        self._pieces: dict[int, Partial] = {}

    def read(self, offset: int, length: int) -> bytes:
        """length bytes at an offset. Raises LostMemoryError, and KernelDataError for what is not within the array."""
        end = offset + length
        if not 0 <= offset <= end <= self._length:
            raise KernelDataError(f"{length} bytes at {offset} are outside an array of {self._length} bytes")
        parts = []
        while offset < end:
            start = offset - offset % _PIECE_BYTES
            stop = min(end, start + _PIECE_BYTES)
            parts.append(self._piece(start, offset - start, stop - start))
            offset = stop
        return b"".join(parts)

    def _piece(self, start: int, begin: int, end: int) -> bytes:
        """Bytes begin..end of the piece at start."""
        piece = self._pieces.get(start)
        if piece is None:
            if len(self._pieces) >= _PIECES_KEPT:
                del self._pieces[next(iter(self._pieces))]
            piece = self._memory.read_virtual_partial(self._vaddr + start, min(_PIECE_BYTES, self._length - start))
            self._pieces[start] = piece
        for lost, length in piece.lost:
            if begin < lost + length and lost < end:
                raise LostMemoryError(f"memory at virtual address {self._vaddr + start + lost:#x} is not in the core")
        return piece.data[begin:end]
