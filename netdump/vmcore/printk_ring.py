"""The printk ring buffer of Linux 5.10 and later.

Owns its layout: a ring of descriptors, a ring of infos beside it, a ring of text. Must not know how a line looks.
Source: Linux kernel/printk/printk_ringbuffer.h; commit 896fbe20b4e2 ("printk: use the lockless ringbuffer") (in v5.10).
The writer died at any instruction, and pages may be lost: whatever does not hold together is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.memory import Memory, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_COUNT_BITS_MAX: Final = 26  # one descriptor per 32 bytes of text
_SIZE_BITS_MAX: Final = 31  # LOG_BUF_LEN_MAX, kernel/printk/printk.c
_STRUCT_BYTES_MAX: Final = 4096
_IDS_MAX: Final = 1 << 18  # descriptors looked at; the text kept is full long before

_COMMITTED: Final = 1
_FINALIZED: Final = 2


class Record(NamedTuple):
    """One message. ts_nsec: nanoseconds since boot; text: without a final line feed."""

    ts_nsec: int
    text: bytes


class _Block(NamedTuple):
    """Where the text of a record lies in the text ring, past the id that each block begins with."""

    start: int
    end: int


class _Ring:
    """The three rings of one printk_ringbuffer. Raises KernelDataError where they make no sense."""

    __slots__ = (
        "byteorder",
        "count",
        "desc_at",
        "desc_bytes",
        "descs",
        "head",
        "info_at",
        "info_bytes",
        "infos",
        "size_bits",
        "tail",
        "texts",
        "word",
    )

    def __init__(self, memory: Memory, info: Vmcoreinfo) -> None:
        self.byteorder = memory.byteorder
        self.word = word = memory.word_bytes
        counter = info.need("OFFSET", "atomic_long_t.counter")
        self.desc_bytes = _struct_bytes(info, "prb_desc")
        self.info_bytes = _struct_bytes(info, "printk_info")
        lpos = info.need("OFFSET", "prb_desc.text_blk_lpos")
        self.desc_at = (
            _member(info.need("OFFSET", "prb_desc.state_var") + counter, word, self.desc_bytes),
            _member(lpos + info.need("OFFSET", "prb_data_blk_lpos.begin"), word, self.desc_bytes),
            _member(lpos + info.need("OFFSET", "prb_data_blk_lpos.next"), word, self.desc_bytes),
        )
        self.info_at = (
            _member(info.need("OFFSET", "printk_info.ts_nsec"), 8, self.info_bytes),
            _member(info.need("OFFSET", "printk_info.text_len"), 2, self.info_bytes),
        )
        prb = memory.read_uint(info.need("SYMBOL", "prb"), word)
        descs = prb + info.need("OFFSET", "printk_ringbuffer.desc_ring")
        texts = prb + info.need("OFFSET", "printk_ringbuffer.text_data_ring")
        self.count = 1 << _bits(memory, descs + info.need("OFFSET", "prb_desc_ring.count_bits"), _COUNT_BITS_MAX)
        self.size_bits = _bits(memory, texts + info.need("OFFSET", "prb_data_ring.size_bits"), _SIZE_BITS_MAX)
        self.head = memory.read_uint(descs + info.need("OFFSET", "prb_desc_ring.head_id") + counter, word)
        self.tail = memory.read_uint(descs + info.need("OFFSET", "prb_desc_ring.tail_id") + counter, word)
        descs_at = memory.read_uint(descs + info.need("OFFSET", "prb_desc_ring.descs"), word)
        infos_at = memory.read_uint(descs + info.need("OFFSET", "prb_desc_ring.infos"), word)
        texts_at = memory.read_uint(texts + info.need("OFFSET", "prb_data_ring.data"), word)
        self.descs = Table(memory, descs_at, self.count * self.desc_bytes)
        self.infos = Table(memory, infos_at, self.count * self.info_bytes)
        self.texts = Table(memory, texts_at, 1 << self.size_bits)

    def record(self, number: int) -> Record | None:
        """The record with an id; None if it has no text or was not committed. Raises KernelDataError if damaged."""
        index = number % self.count
        desc = self.descs.read(index * self.desc_bytes, self.desc_bytes)
        state, begin, after = (int.from_bytes(desc[at : at + self.word], self.byteorder) for at in self.desc_at)
        shift = 8 * self.word - 2  # the state stands in the two top bits, the id in the others
        if state & (1 << shift) - 1 != number or state >> shift not in {_COMMITTED, _FINALIZED}:
            return None
        block = self._block(begin, after)
        if block is None:
            return None
        info = self.infos.read(index * self.info_bytes, self.info_bytes)
        time_at, length_at = self.info_at
        ts_nsec = int.from_bytes(info[time_at : time_at + 8], self.byteorder)
        length = int.from_bytes(info[length_at : length_at + 2], self.byteorder)
        return Record(ts_nsec, self.texts.read(block.start, min(length, block.end - block.start)))

    def _block(self, begin: int, after: int) -> _Block | None:
        """The block between two logical positions, which count bytes since boot; None for a record without text.

        A block that would not fit before the end of the ring lies at its start. One that fits exactly ends at index 0
        of the next turn and lies where it begins: Linux commit 67e1b0052f6b ("printk_ringbuffer: don't needlessly
        wrap data blocks around") (in v6.19), which tools that compare indexes get wrong. Earlier kernels never leave
        such a block.
        """
        size = 1 << self.size_bits
        if begin & after & 1 or (begin - after) % size == 0:  # FAILED_LPOS, NO_LPOS
            return None
        last = (after - 1) % (1 << 8 * self.word)
        start, end = begin % size, last % size + 1
        if begin >> self.size_bits != last >> self.size_bits:
            start = 0
        if start + self.word > end:
            raise KernelDataError(f"a block of the kernel log reaches from {begin:#x} to {after:#x}")
        return _Block(start + self.word, end)


def iter_ring(memory: Memory, info: Vmcoreinfo) -> Iterator[Record | None]:
    """The records of the log, newest first; None for one that is damaged or not in the core.

    Raises KernelDataError, before the first record, if the ring itself makes no sense.
    """
    ring = _Ring(memory, info)
    mask = (1 << 8 * ring.word - 2) - 1
    wanted = ((ring.head - ring.tail) & mask) + 1
    walked = min(wanted, ring.count, _IDS_MAX)
    for back in range(walked):
        try:
            record = ring.record((ring.head - back) & mask)
        except KernelDataError:
            yield None
        else:
            if record is not None:
                yield record
    if walked < wanted:
        yield None


def _struct_bytes(info: Vmcoreinfo, name: str) -> int:
    size = info.need("SIZE", name)
    if not 1 <= size <= _STRUCT_BYTES_MAX:
        raise KernelDataError(f"VMCOREINFO gives struct {name} {size} bytes")
    return size


def _member(offset: int, length: int, struct_bytes: int) -> int:
    """An offset within a structure, checked."""
    if offset + length > struct_bytes:
        raise KernelDataError(f"VMCOREINFO puts {length} bytes at {offset} of a structure of {struct_bytes} bytes")
    return offset


def _bits(memory: Memory, vaddr: int, limit: int) -> int:
    """The size of a ring as its number of bits."""
    bits = memory.read_uint(vaddr, 4)
    if not 1 <= bits <= limit:
        raise KernelDataError(f"a ring of the kernel log claims a size of 2^{bits}")
    return bits
