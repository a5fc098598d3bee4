"""The record buffer of printk in Linux 3.5 to 5.9.

Owns its layout: records of any length, each leading to the next by its length; a length of 0 leads to the start of
the buffer. Must not know how a line looks. Source: Linux commit 7ff9554bb578 ("printk: convert byte-buffer to
variable-length record buffer") (in v3.5). A damaged buffer yields the records up to the damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.memory import Memory, Table
from netdump.vmcore.printk_ring import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_BUFFER_BYTES_MAX: Final = 1 << 31  # LOG_BUF_LEN_MAX, kernel/printk/printk.c
_HEADER_BYTES_MAX: Final = 4096
_RECORDS_MAX: Final = 1 << 19  # 40 MB of common records


class _Layout(NamedTuple):
    """Bytes of a record's header, and where its members stand."""

    header_bytes: int
    ts_nsec: int
    length: int
    text_length: int


def _layout(info: Vmcoreinfo) -> _Layout:
    """struct printk_log; struct log before Linux commit 62e32ac3505a ("printk: rename struct log …") (in v3.11)."""
    name = "log" if info.size("printk_log") is None else "printk_log"
    layout = _Layout(
        info.need("SIZE", name),
        info.need("OFFSET", f"{name}.ts_nsec"),
        info.need("OFFSET", f"{name}.len"),
        info.need("OFFSET", f"{name}.text_len"),
    )
    members_end = max(layout.ts_nsec + 8, layout.length + 2, layout.text_length + 2)
    if not members_end <= layout.header_bytes <= _HEADER_BYTES_MAX:
        raise KernelDataError(f"VMCOREINFO describes struct {name} in a way that makes no sense")
    return layout


def iter_records(memory: Memory, info: Vmcoreinfo) -> Iterator[Record | None]:
    """The records of the log, oldest first; None, once and last, if part of the buffer is damaged or not in the core.

    Raises KernelDataError, before the first record, if the buffer itself makes no sense.
    """
    layout = _layout(info)
    start = memory.read_uint(info.need("SYMBOL", "log_buf"), memory.word_bytes)
    length = memory.read_uint(info.need("SYMBOL", "log_buf_len"), 4)
    first = memory.read_uint(info.need("SYMBOL", "log_first_idx"), 4)
    after = memory.read_uint(info.need("SYMBOL", "log_next_idx"), 4)
    if not layout.header_bytes <= length <= _BUFFER_BYTES_MAX or max(first, after) > length:
        raise KernelDataError(f"the kernel log claims {length} bytes, from {first} to {after}")
    buffer = Table(memory, start, length)
    position, wrapped = first, False
    for _ in range(_RECORDS_MAX):
        if position == after:
            return
        try:
            header = buffer.read(position, layout.header_bytes)
            step = _uint(header, layout.length, 2, memory)
            if step == 0:
                if wrapped:  # a cycle
                    break
                position, wrapped = 0, True
                header = buffer.read(0, layout.header_bytes)
                step = _uint(header, layout.length, 2, memory)
            text_length = _uint(header, layout.text_length, 2, memory)
            if layout.header_bytes + text_length > step:
                break
            text = buffer.read(position + layout.header_bytes, text_length)
        except KernelDataError:
            break
        yield Record(_uint(header, layout.ts_nsec, 8, memory), text)
        position += step
    yield None


def _uint(header: bytes, offset: int, length: int, memory: Memory) -> int:
    return int.from_bytes(header[offset : offset + length], memory.byteorder)
