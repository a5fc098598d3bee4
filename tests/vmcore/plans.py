"""Plans of cores in memory, and a page filter that goes by the number of a page."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from netdump.pages import ExcludeClass, PageState
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import LIMITS, Limits, PlannedChunk, iter_chunks
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from netdump.testing.elf_writer import Core

DATA, ZERO, ALIAS, EXCLUDED, LOST = PageState
PAGE = 4096
SMALL = 16  # a page size for small cores of odd shapes


def planned(core: Core, limits: Limits = LIMITS) -> list[PlannedChunk]:
    """All chunks of a core, held at once."""
    image = core.build()
    pool = BufferPool(max(limits.data, PAGE), 1000)
    return list(iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool, limits=limits))


def excluded(page: int) -> ExcludeClass:
    """What the filter says of a page: the same for three of them in a row, nothing of about a third."""
    return ExcludeClass(zlib.crc32(b"%d" % (page // 3)) % 4 and zlib.crc32(b"%d" % (page // 3)) % 9)
