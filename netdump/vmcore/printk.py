"""The kernel log in a core, as text.

Owns the form of a line and the limits of a log. Must not know how either ring is laid out (printk_ring.py,
printk_records.py).

Lines equal those of `makedumpfile --dump-dmesg`: "[seconds.micros] text", seconds padded to 5 places; further lines
of one record are indented by the width of its prefix; bytes that are neither printable ASCII nor white space stand as
\\xNN; caller ids are not printed. (makedumpfile 1.7 writes bytes from 0x80 on as \\xffffffNN where C's char is
signed; \\xNN is what it means.)
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.printk_records import iter_records
from netdump.vmcore.printk_ring import Record, iter_ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netdump.vmcore.memory import Memory
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

LOG_BYTES_MAX: Final = 0x20_0000
"""Most bytes of text that are kept: 2 MiB, the newest."""

_SPECIAL: Final = re.compile(rb"[^\t\v\f\r -~]")


class Log(NamedTuple):
    """text: lines, newest last. truncated: lines are missing, because they were too many, lost or damaged."""

    text: bytes
    truncated: bool


def read_log(memory: Memory, info: Vmcoreinfo, limit: int = LOG_BYTES_MAX) -> Log:
    """Read the log, at most limit bytes of it. What is damaged is left out; as much as can be had is given.

    Raises KernelDataError if nothing can be had: no log is known, or it makes no sense, or it is not in the core.
    """
    if info.symbol("prb") is not None:
        return _newest(iter_ring(memory, info), limit)
    if info.symbol("log_first_idx") is not None:
        return _newest(_newest_first(iter_records(memory, info), limit), limit)
    raise KernelDataError("VMCOREINFO names no kernel log: the kernel is older than 3.5, or it is not Linux")


def _newest(records: Iterator[Record | None], limit: int) -> Log:
    """The log made of records, which come newest first; None stands for one that cannot be read."""
    lines: list[bytes] = []
    room = limit
    truncated = False
    for record in records:
        if record is None:
            truncated = True
            continue
        line = format_record(record)
        room -= len(line)
        if room < 0:
            truncated = True
            break
        lines.append(line)
    lines.reverse()
    return Log(b"".join(lines), truncated)


def _newest_first(records: Iterable[Record | None], limit: int) -> Iterator[Record | None]:
    """Turn records around, which come oldest first. Keeps no more of them than limit bytes can hold, and one None."""
    kept: deque[Record] = deque()
    size = 0
    whole = True
    for record in records:
        if record is None:
            whole = False
            continue
        kept.append(record)
        size += len(record.text) + _PREFIX_BYTES_MIN
        while size > limit + _PREFIX_BYTES_MIN + len(kept[0].text):
            size -= len(kept.popleft().text) + _PREFIX_BYTES_MIN
            whole = False
    yield from reversed(kept)
    if not whole:
        yield None


_PREFIX_BYTES_MIN: Final = len("[    0.000000] \n")


def format_record(record: Record) -> bytes:
    """One record as lines, each with its line feed. Source: makedumpfile printk.c dump_record."""
    seconds, nanos = divmod(record.ts_nsec, 1_000_000_000)
    prefix = b"[%5d.%06d] " % (seconds, nanos // 1000)
    text = record.text
    if _SPECIAL.search(text):
        indent = b"\n" + b" " * len(prefix)
        text = _SPECIAL.sub(lambda match: indent if match[0] == b"\n" else b"\\x%02x" % match[0][0], text)
    return prefix + text + b"\n"
