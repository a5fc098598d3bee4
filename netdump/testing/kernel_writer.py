"""Writes what netdump reads of a dead kernel: VMCOREINFO, its name, its log in either form; any word, any byte order.

kernel = DeadKernel()
kernel.add_uts(nodename="web1", release="6.1.0")
kernel.add_printk_ring([Message(1_000_000, b"hello")])
core = Core([kernel.load()], notes=[NoteSegment(kernel.note())])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netdump.testing.elf_writer import ByteOrder, Load, note

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMITTED = 1
FINALIZED = 2
REUSABLE = 3

_FAILED_LPOS = 1
_NO_LPOS = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One printk message. state: of its descriptor, as the kernel left it. lost: its text could not be stored."""

    ts_nsec: int
    text: bytes
    state: int = FINALIZED
    lost: bool = False


class DeadKernel:
    """Kernel memory, filled from its start on, and the VMCOREINFO that describes it."""

    def __init__(
        self,
        word: int = 8,
        byteorder: ByteOrder = "little",
        vaddr: int = 0xFFFFFFFF81000000,
        paddr: int = 0x1000000,
    ) -> None:
        self.word = word
        self.byteorder: ByteOrder = byteorder
        self.vaddr = vaddr & (1 << 8 * word) - 1
        self.paddr = paddr
        self.memory = bytearray()
        self.lines: dict[str, str] = {"OSRELEASE": "6.1.0-test", "PAGESIZE": "4096"}

    def put(self, data: bytes, align: int = 64) -> int:
        """Put data behind what is there, and return its virtual address."""
        self.memory += bytes(-len(self.memory) % align)
        address = self.vaddr + len(self.memory)
        self.memory += data
        return address

    def uint(self, value: int, size: int | None = None) -> bytes:
        """An unsigned number, a word unless size says otherwise."""
        size = size or self.word
        return (value % (1 << 8 * size)).to_bytes(size, self.byteorder)

    def symbol(self, name: str, address: int) -> None:
        """Name an address in VMCOREINFO."""
        self.lines[f"SYMBOL({name})"] = f"{address:x}"

    def struct(self, name: str, size: int, **offsets: int) -> None:
        """Describe a structure in VMCOREINFO."""
        self.lines[f"SIZE({name})"] = str(size)
        for member, offset in offsets.items():
            self.lines[f"OFFSET({name}.{member})"] = str(offset)

    def vmcoreinfo(self) -> bytes:
        """The text."""
        return "".join(f"{key}={value}\n" for key, value in self.lines.items()).encode()

    def note(self) -> bytes:
        """The VMCOREINFO note."""
        return note(b"VMCOREINFO", 0, self.vmcoreinfo(), self.byteorder)

    def load(self) -> Load:
        """The segment with this memory, whole pages."""
        size = -(-len(self.memory) // 4096) * 4096
        return Load(self.paddr, size, {0: bytes(self.memory)}, vaddr=self.vaddr)

    def add_uts(
        self, nodename: str, release: str = "6.1.0-test", version: str = "#1 SMP", machine: str = "x86_64"
    ) -> None:
        """init_uts_ns, behind a member of 4 bytes."""
        fields = ("Linux", nodename, release, version, machine, "(none)")
        names = b"".join(text.encode().ljust(65, b"\0") for text in fields)
        self.symbol("init_uts_ns", self.put(bytes(4) + names))
        self.lines["OFFSET(uts_namespace.name)"] = "4"

    def add_printk_ring(
        self, messages: Sequence[Message], count_bits: int = 6, size_bits: int = 12, perfect_fit: bool = True
    ) -> None:
        """The log as Linux 5.10 and later keep it; old messages are overwritten as the kernel would.

        count_bits, size_bits: sizes of the rings. perfect_fit: a block may end at the end of the ring, as since Linux
        commit 67e1b0052f6b (in v6.19).
        """
        ring = _PrintkRing(self, count_bits, size_bits, perfect_fit)
        for message in messages:
            ring.append(message)
        ring.store()

    def add_printk_records(
        self, messages: Sequence[Message], buffer_bytes: int = 4096, name: str = "printk_log"
    ) -> None:
        """The log as Linux 3.5 to 5.9 keep it. name: of the structure, "log" before 3.11."""
        header_bytes = 16
        self.struct(name, header_bytes, ts_nsec=0, len=8, text_len=10, dict_len=12)
        buffer = bytearray(buffer_bytes)
        first = position = 0
        oldest: list[int] = []  # where the records in the buffer begin, oldest first
        for message in messages:
            length = header_bytes + len(message.text)
            length += -length % 4
            if position + length + header_bytes > buffer_bytes:  # room must remain for the mark that leads to the start
                buffer[position : position + header_bytes] = bytes(header_bytes)
                oldest = [start for start in oldest if start < position]
                position = 0
            oldest = [start for start in oldest if not position <= start < position + length + header_bytes]
            head = self.uint(message.ts_nsec, 8) + self.uint(length, 2) + self.uint(len(message.text), 2) + bytes(4)
            buffer[position : position + length] = (head + message.text).ljust(length, b"\0")
            oldest.append(position)
            position += length
            first = oldest[0]
        self.symbol("log_buf", self.put(self.uint(self.put(bytes(buffer)))))
        self.symbol("log_buf_len", self.put(self.uint(buffer_bytes, 4)))
        self.symbol("log_first_idx", self.put(self.uint(first, 4)))
        self.symbol("log_next_idx", self.put(self.uint(position, 4)))


class _PrintkRing:
    """The lockless ring buffer, written by one writer. Source: Linux kernel/printk/printk_ringbuffer.c."""

    def __init__(self, kernel: DeadKernel, count_bits: int, size_bits: int, perfect_fit: bool) -> None:
        self.kernel = kernel
        self.count_bits, self.size_bits = count_bits, size_bits
        self.perfect_fit = perfect_fit
        self.count, self.size = 1 << count_bits, 1 << size_bits
        self.words = 1 << 8 * kernel.word
        self.ids = self.words >> 2
        self.head_id = -(self.count + 1) % self.ids  # DESC0_ID
        self.tail_id = self.head_id
        self.head_lpos = self.tail_lpos = -self.size % self.words  # BLK0_LPOS
        self.descs = [(REUSABLE << 8 * kernel.word - 2 | self.head_id, _FAILED_LPOS, _FAILED_LPOS)] * self.count
        self.infos = [(0, 0, 0)] * self.count  # seq, ts_nsec, text_len
        self.text = bytearray(self.size)
        self.seq = 0

    def append(self, message: Message) -> None:
        """prb_reserve, prb_commit."""
        kernel = self.kernel
        self.head_id = (self.head_id + 1) % self.ids
        if (self.head_id - self.tail_id) % self.ids >= self.count:
            self._drop_oldest()
        begin = after = _FAILED_LPOS if message.lost else _NO_LPOS
        if message.text and not message.lost:
            size = -(-(kernel.word + len(message.text)) // kernel.word) * kernel.word
            begin, after, index = self._allocate(size)
            self.text[index : index + size] = (kernel.uint(self.head_id) + message.text).ljust(size, b"\xa5")
        slot = self.head_id % self.count
        self.descs[slot] = (message.state << 8 * kernel.word - 2 | self.head_id, begin, after)
        self.infos[slot] = (self.seq, message.ts_nsec, len(message.text))
        self.seq += 1

    def _allocate(self, size: int) -> tuple[int, int, int]:
        """data_alloc: begin, next, and the index at which the block lies."""
        begin = self.head_lpos
        after = (begin + size) % self.words
        last = (after - 1) % self.words if self.perfect_fit else after
        index = begin % self.size
        if begin // self.size != last // self.size:
            after = (last // self.size * self.size + size) % self.words
            index = 0
        while (after - self.tail_lpos) % self.words > self.size:
            self._drop_oldest()
        self.head_lpos = after
        return begin, after, index

    def _drop_oldest(self) -> None:
        """desc_push_tail, data_push_tail."""
        slot = self.tail_id % self.count
        _, begin, after = self.descs[slot]
        self.descs[slot] = (REUSABLE << 8 * self.kernel.word - 2 | self.tail_id, begin, after)
        if not begin & 1:
            self.tail_lpos = after
        self.tail_id = (self.tail_id + 1) % self.ids

    def store(self) -> None:
        """Put the rings into the kernel's memory and describe them."""
        kernel, word = self.kernel, self.kernel.word
        uint = kernel.uint
        descs = kernel.put(b"".join(uint(part) for desc in self.descs for part in desc))
        infos = kernel.put(
            b"".join(uint(seq, 8) + uint(ts, 8) + uint(length, 2) + bytes(6 + 64) for seq, ts, length in self.infos)
        )
        text = kernel.put(bytes(self.text))
        ring = uint(self.count_bits, 4).ljust(word, b"\0")
        ring += b"".join(map(uint, (descs, infos, self.head_id, self.tail_id, 0)))
        ring += uint(self.size_bits, 4).ljust(word, b"\0")
        ring += b"".join(map(uint, (text, self.head_lpos, self.tail_lpos, 0)))
        kernel.symbol("prb", kernel.put(uint(kernel.put(ring))))
        kernel.struct("printk_ringbuffer", 11 * word, desc_ring=0, text_data_ring=6 * word, fail=10 * word)
        kernel.struct("prb_desc_ring", 6 * word, count_bits=0, descs=word, infos=2 * word, head_id=3 * word)
        kernel.struct("prb_desc_ring", 6 * word, tail_id=4 * word)
        kernel.struct("prb_desc", 3 * word, state_var=0, text_blk_lpos=word)
        kernel.struct("prb_data_blk_lpos", 2 * word, begin=0, next=word)
        kernel.struct("printk_info", 88, seq=0, ts_nsec=8, text_len=16, caller_id=20, dev_info=24)
        kernel.struct("prb_data_ring", 4 * word, size_bits=0, data=word, head_lpos=2 * word, tail_lpos=3 * word)
        kernel.struct("atomic_long_t", word, counter=0)
