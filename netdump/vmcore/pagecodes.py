"""Many struct pages at a time, as code bytes: one byte for each page, with the same meaning for every kernel.

Owns the columns: which bytes of a struct page matter, and how they are brought together. Must not know classes.

How: one byte of every struct page is taken by a strided slice (0.5 ns a page), mapped by bytes.translate to bits that
mean the same for every column (0.4 ns), and all columns are ORed as one big integer (0.05 ns, and 0.8 ns into an
integer and again out of it). Whether a byte occurs at all is asked first where it seldom does: that is 0.02 ns a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.vmcore.structpage import byte_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.vmcore.structpage import PageRules
    from netdump.vmcore.zonebyte import ZoneByte

SLAB_PAGES: Final = 8192
"""Most pages of one call; a slab of their struct pages stays in the processor's second-level cache."""

# Bits of a code byte. TAIL must be twice HEAD (see Codes.headless).
LRU: Final = 1
PRIVATE: Final = 2
SWAPCACHE: Final = 4
ODD: Final = 8  # poisoned, or of a page type that needs a closer look
ANON: Final = 16
HEAD: Final = 32
TAIL: Final = 64
SLAB: Final = 128

_TYPE_CODES: Final = {"slab": SLAB, "hugetlb": ODD, "unaccepted": ODD}

_TOP: Final = 3  # significance of a byte of _mapcount
_ZEROS: Final = bytes(SLAB_PAGES)
_ZERO_VIEW: Final = memoryview(_ZEROS)


def repeat(byte: int, pages: int) -> int:
    """A big integer of so many bytes, all the same."""
    return int.from_bytes(bytes((byte,)) * pages, "little")


def table(value: Callable[[int], int]) -> bytes:
    """A translation table from a function of the byte."""
    return bytes(value(byte) for byte in range(256))


_HEADS: Final = repeat(HEAD, SLAB_PAGES)
_SLABS: Final = repeat(SLAB, SLAB_PAGES)
_IS_FF: Final = table(lambda byte: 0xFF if byte == 0xFF else 0)
_IS_SPEAKER: Final = table(lambda code: 1 if code & (LRU | TAIL) else 0)
_ONES: Final = repeat(1, SLAB_PAGES)
_EQUALS: Final = tuple(bytes(wanted) + b"\xff" + bytes(255 - wanted) for wanted in range(256))


class Codes:
    """What a run of struct pages says, one byte a page.

    codes: code bytes, None if all are 0. offline: an integer with the first page in its lowest byte, 0xff for pages
    whose type says so. kinds: the byte of _mapcount that tells free pages, which is PageCodes.free_byte for those that
    may be the first of a free block: the rest of their _mapcount tells. None: there is no such page.
    """

    __slots__ = ("_number", "codes", "kinds", "offline")

    def __init__(self, codes: bytearray | None, number: int | None, offline: int, kinds: bytearray | None) -> None:
        """number: see the property, None if it is to be made when it is asked for."""
        self.codes = codes
        self.offline = offline
        self.kinds = kinds
        self._number = number

    @property
    def number(self) -> int:
        """The code bytes as an integer, the first page in its lowest byte."""
        if self._number is None:
            self._number = 0 if self.codes is None else int.from_bytes(self.codes, "little")
        return self._number

    def are_zero(self, start: int, end: int) -> bool:
        """Whether the code bytes of a range of pages are all 0."""
        return self.codes is None or self.codes.startswith(_ZERO_VIEW[: end - start], start)

    def heads(self) -> tuple[int, int]:
        """How many compound pages begin here, and how many of them the page behind does not know of."""
        if self.codes is None:
            return 0, 0
        number = self.number
        heads = number & _HEADS
        count = heads.bit_count()
        followed = (heads & number >> 9).bit_count() + bool(self.codes[-1] & HEAD)  # behind the last one nobody looks
        return count, count - followed


class _TypeColumn(NamedTuple):
    """One byte of _mapcount. place: offset in the struct page.

    certain: whether it tells a type by itself; else the top byte must be 0xff too, for mapcounts are small. free: what
    it is for free pages. coded: what it is for pages that codes are about, and the table to their codes. offline: what
    it is for offline pages, and the table from it to 0xff. Each may be empty: another byte tells.
    """

    place: int
    certain: bool
    free: bytes
    coded: tuple[bytes, bytes]
    offline: tuple[bytes, bytes]


class PageCodes:
    """Makes code bytes by the rules of one kernel."""

    __slots__ = ("_flags", "_rules", "_top_place", "_types", "_zone_byte", "free_byte")

    def __init__(self, rules: PageRules, zone_byte: ZoneByte) -> None:
        self._rules = rules
        self._flags = tuple(_flag_columns(rules))
        self._types = tuple(_type_columns(rules))
        self._top_place = byte_place(rules, rules.mapcount, 4, _TOP)
        self._zone_byte = zone_byte
        self.free_byte = b"".join(column.free for column in self._types)

    def read(self, data: bytearray, pages: int, pfn: int) -> Codes:
        """Code bytes of the first pages struct pages in data, of frames from pfn on; 1 .. SLAB_PAGES of them."""
        size, end = self._rules.size, pages * self._rules.size
        zeros = _ZEROS if pages == SLAB_PAGES else _ZEROS[:pages]
        coded: list[bytearray] = []
        for place, meaning in self._flags:
            column = data[place:end:size]
            if column == zeros:  # comparing costs next to nothing: it ends at the first byte that differs
                continue
            column = column.translate(meaning)
            if column != zeros:
                coded.append(column)
        number = offline = 0
        kinds = None
        for kind in self._types:
            column = data[kind.place : end : size]
            if kind.free and kind.free in column:
                kinds = column
            number |= self._hits(kind.coded, column, kind, data)
            offline |= self._hits(kind.offline, column, kind, data)
        codes = coded[0] if coded else None
        if number or len(coded) > 1:
            for column in coded:
                number |= int.from_bytes(column, "little")
            codes = bytearray(number.to_bytes(pages, "little"))
        said = Codes(codes, number or None, offline, kinds)
        if codes is None and kinds is None and not offline:
            return said  # what says nothing need not be believed: memory that was never put online, device memory
        strange = self._zone_byte.strange(data, pages, pfn, lambda: self._speakers(said, pages))
        if not strange:
            return said
        # What is slab and nothing else is kept, whatever it is within.
        number = said.number & ~strange | strange & _SLABS
        return Codes(bytearray(number.to_bytes(pages, "little")), number, offline & ~strange, kinds)

    def _speakers(self, said: Codes, pages: int) -> bytearray:
        """1 for pages on lists, of compound pages and of free blocks: they may say where they are."""
        speakers = bytearray(pages) if said.codes is None else said.codes.translate(_IS_SPEAKER)
        if said.kinds is None:
            return speakers
        free = int.from_bytes(said.kinds.translate(_EQUALS[self.free_byte[0]]), "little")
        either = int.from_bytes(speakers, "little") | free & _ONES
        return bytearray(either.to_bytes(pages, "little"))

    def _hits(self, table: tuple[bytes, bytes], column: bytearray, kind: _TypeColumn, data: bytearray) -> int:
        """A column through a table, as an integer; only pages whose top byte allows it."""
        about, meaning = table
        for byte in about:
            if byte in column:
                hits = int.from_bytes(column.translate(meaning), "little")
                return hits if kind.certain else hits & self.top(data, len(column))
        return 0

    def exact(self, data: bytearray, pages: int, value: int) -> int:
        """0xff for pages whose _mapcount is a value in every byte."""
        size, result = self._rules.size, -1
        for significance in range(4):
            place = byte_place(self._rules, self._rules.mapcount, 4, significance)
            wanted = value >> 8 * significance & 0xFF
            column = data[place : pages * size : size].translate(_EQUALS[wanted])
            result &= int.from_bytes(column, "little")
        return result

    def top(self, data: bytearray, pages: int) -> int:
        """0xff for pages whose _mapcount is negative and small: a page type of old, not a count."""
        size = self._rules.size
        return int.from_bytes(data[self._top_place : pages * size : size].translate(_IS_FF), "little")


def _flag_columns(rules: PageRules) -> Iterator[tuple[int, bytes]]:
    """(offset, table from the byte there to code bits) for each byte whose single bits matter."""
    meanings: dict[int, dict[int, int]] = {}

    def add(offset: int, mask: int, code: int) -> None:
        if mask:
            significance, bit = divmod(mask.bit_length() - 1, 8)
            place = byte_place(rules, offset, rules.word, significance)
            bits = meanings.setdefault(place, {})
            bits[1 << bit] = bits.get(1 << bit, 0) | code

    add(rules.tail, 1, TAIL)
    add(rules.flags, rules.tail_mask, TAIL)
    if rules.mapping is not None:
        add(rules.mapping, 1, ANON)
    for mask, code in (
        (rules.lru_mask, LRU),
        (rules.private_mask, PRIVATE),
        (rules.swapcache_mask, SWAPCACHE),
        (rules.poison_mask, ODD),
        (rules.head_mask, HEAD),
        (rules.slab_mask, SLAB),
    ):
        add(rules.flags, mask, code)
    for place, bits in sorted(meanings.items()):
        yield place, bytes(_joined(bits, byte) for byte in range(256))


def _joined(bits: dict[int, int], byte: int) -> int:
    """The code bits of all bits that a byte has."""
    result = 0
    for bit, code in bits.items():
        if byte & bit:
            result |= code
    return result


def _type_columns(rules: PageRules) -> Iterator[_TypeColumn]:
    """A column for each byte of _mapcount that tells a page type from the plain value -1."""
    types = rules.types
    columns: dict[int, dict[int, str]] = {}
    for name, value in types._asdict().items():
        if value is not None:
            significance = next(at for at in (_TOP, 0, 1, 2) if value >> 8 * at & 0xFF != 0xFF)
            columns.setdefault(significance, {})[value >> 8 * significance & 0xFF] = name
    for significance, kinds in sorted(columns.items()):
        yield _TypeColumn(
            byte_place(rules, rules.mapcount, 4, significance),
            significance == _TOP,
            bytes(byte for byte, name in kinds.items() if name == "buddy"),
            _mapping({byte: _TYPE_CODES[name] for byte, name in kinds.items() if name in _TYPE_CODES}),
            _mapping({byte: 0xFF for byte, name in kinds.items() if name == "offline"}),
        )


def _mapping(pairs: dict[int, int]) -> tuple[bytes, bytes]:
    """The bytes that pairs are about, and a translation table; what pairs does not name becomes 0."""
    return bytes(pairs), bytes(pairs.get(byte, 0) for byte in range(256))
