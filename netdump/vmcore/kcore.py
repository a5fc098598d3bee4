"""/proc/kcore: the memory of the running kernel, as a core that changes while it is read.

Owns which of its segments are memory. Must not know what is looked for in it.

It shows all of the kernel's address space: memory itself, and vmalloc, modules and the memory map, whose segments have
no physical address (Linux fs/proc/kcore.c, since v4.19). Its offsets are addresses, far beyond those of any file.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import SourceUnreadableError
from netdump.vmcore.elf import PT_LOAD, decode_headers
from netdump.vmcore.filesource import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netdump.vmcore.elf import ElfHeaders, Segment

KCORE: Final = "/proc/kcore"
IOMEM: Final = "/proc/iomem"

_OFFSET_MAX: Final = 1 << 63


def open_kcore(path: str = KCORE, reserved: Iterable[range] = ()) -> tuple[FileSource, ElfHeaders]:
    """Open the running kernel's memory. The headers have its segments with a physical address, and its notes.

    reserved: physical addresses that are to be left out, see crash_kernel_memory. With 32 bits only low memory is
    there. The source is the caller's to close; what it reads may differ from call to call.
    Raises SourceUnreadableError, and what headers deserve (CoreError).
    """
    try:
        source = FileSource(path)
    except SourceUnreadableError as error:
        if isinstance(error.__cause__, PermissionError):
            whom = (
                "it is closed to root as well, by lockdown=confidentiality or in a container; name a core file instead"
                if error.__cause__.errno == errno.EPERM
                else "only root may read it; run this as root (sudo), or name a core file instead"
            )
            raise SourceUnreadableError(f"{path} cannot be opened: {whom}") from error
        if isinstance(error.__cause__, FileNotFoundError):
            raise SourceUnreadableError(f"{path} is not there: this kernel was built without PROC_KCORE") from error
        raise
    try:
        headers = decode_headers(source.read, source.size, path, end_max=_OFFSET_MAX)
    except BaseException:
        source.close()
        raise
    kept = [segment for segment in headers.segments if segment.type != PT_LOAD or segment.paddr != headers.none]
    for hole in reserved:
        kept = [part for segment in kept for part in _without(segment, hole)]
    return source, headers._replace(segments=tuple(kept))


def crash_kernel_memory(path: str = IOMEM) -> list[range]:
    """Physical addresses reserved for the capture kernel, which no dump shows. Empty if that cannot be known."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = [line.strip().partition(" : ") for line in file]
    except OSError:
        return []
    found = []
    for place, _, what in lines:
        start, _, end = place.partition("-")
        if what == "Crash kernel" and start and end:
            with suppress(ValueError):
                found.append(range(int(start, 16), int(end, 16) + 1))
    return [memory for memory in found if len(memory) > 1]  # 0-0: not for this user's eyes


def _without(segment: Segment, hole: range) -> list[Segment]:
    """What is left of a segment without some physical memory."""
    start, end = segment.paddr, segment.paddr + segment.filesz
    if segment.type != PT_LOAD or hole.stop <= start or end <= hole.start:
        return [segment]
    parts = [(start, min(end, hole.start)), (max(start, hole.stop), end)]
    return [
        segment._replace(
            offset=segment.offset + low - start,
            vaddr=segment.vaddr + low - start,
            paddr=low,
            filesz=high - low,
            memsz=high - low,
        )
        for low, high in parts
        if low < high
    ]
