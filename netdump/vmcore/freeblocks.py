"""Free blocks among many pages: found by their first pages, taken only if nothing is inside.

Owns the marking of free blocks that lie within a slab. Must not read memory.

How: a few blocks are looked at one by one. Many are found as strings: one byte string has the order at the head of each
block and zeros elsewhere, so that a block is one byte and the zeros behind it.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, Final

from netdump.pages import ExcludeClass
from netdump.vmcore.pagecodes import SLAB_PAGES, repeat, table
from netdump.vmcore.structpage import ORDER_MAX, byte_place

if TYPE_CHECKING:
    from netdump.vmcore.pagecodes import Codes, PageCodes
    from netdump.vmcore.structpage import PageRules

_FEW: Final = 256  # one by one up to here: 0.65 us each, where all at once take 180 to 300 us

# Heads of free blocks in a string: their order plus this; all else is 0.
_ORDER_ZERO: Final = 0x10
_BAD_ORDER: Final = 0x7F
_HEAD: Final = re.compile(b"[\x10-\x7f]")
_BLOCK: Final = re.compile(b"[\x10-\x7f]\0*")
_JOINED_MAX: Final = 400  # blocks put together one by one; beyond, replacing is faster: 6 us for each order
_FILLS: Final = tuple(
    bytes((ExcludeClass.FREE,)) * min(SLAB_PAGES + 1, 1 << max(0, byte - _ORDER_ZERO)) for byte in range(_BAD_ORDER + 1)
)
_ONLY_FREE: Final = table(lambda byte: byte if byte == ExcludeClass.FREE else 0)
_SIGNS: Final = repeat(0x80, SLAB_PAGES)

_ROOM: Final = bytes(
    0x80 | (_ORDER_ZERO + ((index & -index).bit_length() - 1 if index else ORDER_MAX)) for index in range(SLAB_PAGES)
)
"""By index of a page in an aligned slab: highest order of a block that may begin there, as above, the top bit set."""

_ROOM_ALL: Final = int.from_bytes(_ROOM, "little")


class FreeBlocks:
    """Marks free blocks by the rules of one kernel, which must tell free pages and their orders."""

    __slots__ = (
        "_blocks",
        "_codes",
        "_low_place",
        "_members",
        "_order_member",
        "_orders",
        "_patterns",
        "_rules",
        "_value",
    )

    def __init__(self, rules: PageRules, codes: PageCodes) -> None:
        assert rules.types.buddy is not None
        assert rules.private is not None
        self._rules = rules
        self._codes = codes
        self._value = rules.types.buddy
        self._members = _members(rules, rules.private)
        self._order_member = 0 if rules.private < rules.mapcount else 1
        self._blocks = {  # what a first page says -> pages of the block, their codes, their classes
            self._as_they_lie(order, self._value): (1 << order, bytes(1 << order), _FILLS[_ORDER_ZERO + order])
            for order in range(min(rules.orders, SLAB_PAGES.bit_length()))
        }
        self._low_place = byte_place(rules, rules.private, rules.word, 0)
        self._orders = table(lambda order: order + _ORDER_ZERO if order < rules.orders else _BAD_ORDER)
        self._patterns = tuple(
            (order, bytes((order,)) + bytes(len(_FILLS[order]) - 1), _FILLS[order])
            for order in range(_ORDER_ZERO, _ORDER_ZERO + min(rules.orders, SLAB_PAGES.bit_length()))
        )

    def mark(self, data: bytearray, pfn: int, codes: Codes, classes: bytearray) -> list[int]:
        """Set the class of all pages of the blocks that lie within the slab and are what they say.

        data: struct pages from frame pfn on. Returns the heads of blocks that are left, as pages of the slab: those
        that reach beyond it or hold other things.
        """
        kinds = codes.kinds
        if kinds is None:
            return []
        if kinds.count(self._codes.free_byte) <= _FEW:
            return self._mark_few(data, pfn, codes, kinds, classes)
        return self._mark_many(data, pfn, codes, classes)

    def _as_they_lie(self, order: int, kind: int) -> tuple[int, int]:
        """The two members as _members unpacks them."""
        return (kind, order) if self._order_member else (order, kind)

    def _order(self, data: bytearray, page: int) -> int | None:
        """Order of the free block that begins with a page, None if none does."""
        members = self._members.unpack_from(data, page * self._rules.size)
        order: int = members[self._order_member]
        return order if members[1 - self._order_member] == self._value else None

    def _mark_few(self, data: bytearray, pfn: int, codes: Codes, kinds: bytearray, classes: bytearray) -> list[int]:
        left = []
        size, members_of, block_of = self._rules.size, self._members.unpack_from, self._blocks.get
        holds = (codes.codes or bytes(len(classes))).startswith
        find, free = kinds.find, self._codes.free_byte
        view = memoryview(classes)  # bytes go into it in 65 ns, into a bytearray in 200
        page = find(free)
        while page >= 0:
            after = find(free, page + 1)
            members = members_of(data, page * size)
            block = block_of(members)
            if block is not None:
                pages, nothing, marks = block
                cut_short = page < after < page + pages or page + pages > len(view)
                if not (cut_short or (pfn + page) % pages) and holds(nothing, page):
                    view[page : page + pages] = marks
                else:
                    left.append(page)
            elif members[1 - self._order_member] == self._value:  # of an order that does not fit in
                left.append(page)
            page = after
        return left

    def _mark_many(self, data: bytearray, pfn: int, codes: Codes, classes: bytearray) -> list[int]:
        pages, size = len(classes), self._rules.size
        orders = data[self._low_place : pages * size : size].translate(self._orders)
        number = int.from_bytes(orders, "little") & self._codes.exact(data, pages, self._value)
        if not number:
            return []
        heads = number.to_bytes(pages, "little")
        first = ((number & -number).bit_length() - 1) // 8
        if pages == SLAB_PAGES:
            misplaced = ~(_ROOM_ALL - number) & _SIGNS
        else:
            room = int.from_bytes(_ROOM[pfn % SLAB_PAGES :][:pages], "little")
            misplaced = ~(room - number) & _SIGNS & (1 << 8 * pages) - 1
        if misplaced or self._order(data, first) != heads[first] - _ORDER_ZERO:
            return [match.start() for match in _HEAD.finditer(heads)]
        marked, left = self._fill(heads, first)
        free = int.from_bytes(marked, "little")
        if free * (0xFF // ExcludeClass.FREE) & codes.number:
            return [match.start() for match in _HEAD.finditer(heads)]
        if codes.codes is not None:
            classes[:] = (int.from_bytes(classes, "little") | free).to_bytes(pages, "little")
        else:
            classes[:] = marked
        return left

    def _fill(self, heads: bytes, first: int) -> tuple[bytes, list[int]]:
        """Classes of free pages from the heads, the first of which is known, and the heads of blocks cut short."""
        blocks = _BLOCK.findall(heads)
        if len(blocks) <= _JOINED_MAX:
            marked = bytes(first) + b"".join([_FILLS[block[0]].ljust(len(block), b"\0") for block in blocks])
            if len(marked) == len(heads):
                return marked, []
        marked = heads
        for order, block, marks in self._patterns:
            if order in marked:
                marked = marked.replace(block, marks)
        left = [match.start() for match in _HEAD.finditer(marked)]
        return marked.translate(_ONLY_FREE), left


def _members(rules: PageRules, private: int) -> Struct:
    """The two members of a struct page that tell of a free block, as they lie: its order (in private) and _mapcount."""
    order, kind = (private, rules.word, "Q" if rules.word == 8 else "I"), (rules.mapcount, 4, "I")
    (first, length, one), (second, _, other) = sorted((order, kind))
    return Struct(f"{'<' if rules.byteorder == 'little' else '>'}{first}x{one}{second - first - length}x{other}")
