"""Writing kdump-compressed files, which crash, drgn (libkdumpfile) and makedumpfile read.

Owns the order of the file: headers, two bitmaps, page descriptors in the order of frames, page data. Bitmap 1 has the
frames that the core's headers name, bitmap 2 those that are stored; one in the first alone was left out by a filter.
Lost pages are in both, with a descriptor of zeros (offset 0), and make the dump INCOMPLETE: so makedumpfile writes what
did not fit on a disk, and readers refuse such a page instead of showing zeros. All zero pages share one page of data.

The image stands in the order of its program headers, the file in that of page frames: the restored image is where pages
are looked up, and the run tables are gone through twice, for the bitmaps and for the pages. Memory is constant: some
batches of pages under way between the threads that compress them.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netdump.analyze.frames import as_frames
from netdump.analyze.pagestore import iter_pages
from netdump.codec import Compressor
from netdump.errors import DamagedError
from netdump.namedtuple import NamedTuple
from netdump.pages import PageState
from netdump.remote.formats import Compression
from netdump.remote.kdump_bitmap import BitmapWriter
from netdump.remote.kdump_header import (
    PAGE_DESC_BYTES,
    Flag,
    Geometry,
    find_phys_base,
    pack_header,
    pack_page_desc,
    pack_sub_header,
)
from netdump.threads import Threads
from netdump.vmcore.physmap import ImageMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from netdump.analyze.pagestore import PageRun, Part
    from netdump.analyze.runspool import RunSpool
    from netdump.store.files import File
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts

ZLIB_LEVEL: Final = 1  # makedumpfile's
ZSTD_LEVEL: Final = 1
BATCH_BYTES: Final = 1 << 20
THREADS_MAX: Final = 8

_ZERO_DESCS: Final = 4096  # written at once

_DATA: Final = PageState.DATA  # there may be millions of runs, and looking a member up takes long in Python 3.11
_ZERO: Final = PageState.ZERO

_FLAGS: Final = {Compression.ZLIB: Flag.ZLIB, Compression.ZSTD: Flag.ZSTD, Compression.NONE: Flag.RAW}


@dataclass(frozen=True, slots=True)
class Core:
    """What is to be written. image: the restored one, as far as it goes; spool: of its run tables, open.

    headers, facts: read from it. level: the dump level that it was sent with.
    """

    image: File
    headers: ElfHeaders
    facts: KernelFacts
    spool: RunSpool
    page_bytes: int
    level: int


class _Job(NamedTuple):
    """Pages of data whose descriptors follow one another. number: of the first one's descriptor."""

    number: int
    pages: int
    offset: int
    parts: tuple[Part, ...]


_Sizes = list[tuple[int, Flag]]  # of the stored pages, in order; size 0 is a zero page


def write_kdump(file: File, core: Core, compression: Compression, progress: Callable[[int, int], None]) -> int:
    """Write a core to a new file and return its bytes. The file is whole then, but not durable.

    progress: called in this thread with bytes of pages written, and those of all pages. Raises BadHeadersError for a
    core that the format cannot hold, DamagedError, StorageFaultError, OSError.
    """
    image_map = ImageMap(core.headers)
    geometry, claimed = lay_out(core.headers, image_map, core.page_bytes, len(core.facts.notes))
    first = BitmapWriter(file, geometry.bitmap_position)
    for begin, end in claimed:
        first.set(begin, end)
    first.finish()
    return _Writer(file, core, geometry, compression).write(image_map, progress)


def lay_out(
    headers: ElfHeaders, image_map: ImageMap, page_bytes: int, notes_bytes: int = 0
) -> tuple[Geometry, list[tuple[int, int]]]:
    """Where things stand, and the ranges of frames that the headers name. Raises BadHeadersError as write_kdump."""
    claimed = list(as_frames(image_map.claimed(), page_bytes))
    return Geometry.of(headers, page_bytes, claimed[-1][1] if claimed else 0, notes_bytes), claimed


class _Writer:
    """One file that is being written."""

    def __init__(self, file: File, core: Core, geometry: Geometry, compression: Compression) -> None:
        self._file: Final = file
        self._core: Final = core
        self._geometry: Final = geometry
        self._packer: Final = _Packer(core.image, core.page_bytes, compression)
        self._flag: Final = _FLAGS[compression]
        self._end = 0  # of the data so far
        self._zero_desc = b""

    def write(self, image_map: ImageMap, progress: Callable[[int, int], None]) -> int:
        core, geometry = self._core, self._geometry
        stored, data, lost = self._write_bitmap(iter_pages(core.spool, image_map, core.page_bytes))
        self._end = geometry.descriptors_position + stored * PAGE_DESC_BYTES
        self._zero_desc = self._place_zero_page()
        self._write_pages(iter_pages(core.spool, image_map, core.page_bytes), data, progress)
        status = self._flag | (Flag.INCOMPLETE if lost else Flag.RAW)
        phys_base = find_phys_base(core.headers, core.facts.vmcoreinfo or b"")
        self._file.write_at(0, pack_header(geometry, core.facts, status))
        self._file.write_at(core.page_bytes, pack_sub_header(geometry, core.facts, phys_base, core.level))
        self._file.write_at(geometry.notes_position, core.facts.notes)
        return self._end

    def _write_bitmap(self, runs: Iterator[PageRun]) -> tuple[int, int, int]:
        """Write bitmap 2. Returns how many pages it has, how many of these are data, and lost."""
        geometry = self._geometry
        second = BitmapWriter(self._file, geometry.bitmap_position + geometry.bitmap_blocks * geometry.page_bytes)
        pages = dict.fromkeys(PageState, 0)
        for run in runs:
            pages[run.state] += run.pages
            second.set(run.first, run.first + run.pages)
        second.finish()
        return sum(pages.values()), pages[_DATA], pages[PageState.LOST]

    def _place_zero_page(self) -> bytes:
        """Write the page of zeros and return its descriptor."""
        content, flag = self._packer.pack(bytes(self._core.page_bytes))
        desc = pack_page_desc(self._geometry, self._end, len(content), flag)
        self._append(content)
        return desc

    def _write_pages(self, runs: Iterator[PageRun], data: int, progress: Callable[[int, int], None]) -> None:
        """Write descriptors and data. data: pages of it."""
        threads = min(THREADS_MAX, os.cpu_count() or 1)
        under_way: deque[tuple[list[_Job], Future[tuple[_Sizes, bytes]]]] = deque()
        done = 0
        with Threads(threads, "kdump") as pool:
            try:
                for batch in self._batches(runs):
                    under_way.append((batch, pool.submit(self._packer.run, batch)))
                    if len(under_way) > 2 * threads:
                        done += self._settle(*under_way.popleft())
                        progress(done * self._core.page_bytes, data * self._core.page_bytes)
                while under_way:
                    done += self._settle(*under_way.popleft())
                    progress(done * self._core.page_bytes, data * self._core.page_bytes)
            except BaseException:  # an interrupt too: what has not begun need not
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _batches(self, runs: Iterator[PageRun]) -> Iterator[list[_Job]]:
        """The pages of data in batches of BATCH_BYTES; descriptors of zero pages are written on the way."""
        room = most = max(1, BATCH_BYTES // self._core.page_bytes)
        batch: list[_Job] = []
        index = 0
        for run in runs:
            if run.state is _DATA:
                done = 0
                while done < run.pages:
                    count = min(room, run.pages - done)
                    batch.append(_Job(index + done, count, run.offset + done * self._core.page_bytes, run.parts))
                    done, room = done + count, room - count
                    if not room:
                        yield batch
                        batch, room = [], most
            elif run.state is _ZERO:
                self._write_zero_descs(index, run.pages)
            index += run.pages
        if batch:
            yield batch

    def _write_zero_descs(self, index: int, pages: int) -> None:
        for done in range(0, pages, _ZERO_DESCS):
            self._write_descs(index + done, self._zero_desc * min(_ZERO_DESCS, pages - done))

    def _settle(self, batch: list[_Job], packed: Future[tuple[_Sizes, bytes]]) -> int:
        """Write a batch. Returns its pages."""
        sizes, content = packed.result()
        position, taken = self._end, iter(sizes)
        for job in batch:
            descs = bytearray()
            for _ in range(job.pages):
                size, flag = next(taken)
                descs += pack_page_desc(self._geometry, position, size, flag) if size else self._zero_desc
                position += size
            self._write_descs(job.number, descs)
        self._append(content)
        return len(sizes)

    def _write_descs(self, index: int, descs: bytes | bytearray) -> None:
        self._file.write_at(self._geometry.descriptors_position + index * PAGE_DESC_BYTES, descs)

    def _append(self, content: bytes) -> None:
        self._file.write_at(self._end, content)
        self._end += len(content)


class _Packer:
    """Reads and compresses pages, in any thread."""

    def __init__(self, image: File, page_bytes: int, compression: Compression) -> None:
        self._image: Final = image
        self._page_bytes: Final = page_bytes
        self._zeros: Final = bytes(page_bytes)
        self._compression: Final = compression
        self._flag: Final = _FLAGS[compression]
        self._local: Final = threading.local()

    def run(self, batch: list[_Job]) -> tuple[_Sizes, bytes]:
        """The pages of a batch as they are stored: their sizes, and all of them joined."""
        sizes: _Sizes = []
        contents: list[bytes] = []
        for job in batch:
            data = self._read(job)
            for at in range(0, len(data), self._page_bytes):
                page = data[at : at + self._page_bytes]
                if page == self._zeros:
                    sizes.append((0, Flag.RAW))
                    continue
                content, flag = self.pack(page)
                sizes.append((len(content), flag))
                contents.append(content)
        return sizes, b"".join(contents)

    def pack(self, page: bytes) -> tuple[bytes, Flag]:
        """A page compressed, or as it is if that does not make it smaller."""
        if self._compression is Compression.ZLIB:
            content = zlib.compress(page, ZLIB_LEVEL)
        elif self._compression is Compression.ZSTD:
            content = self._compressor().compress(page)
        else:
            return page, Flag.RAW
        return (content, self._flag) if len(content) < len(page) else (page, Flag.RAW)

    def _compressor(self) -> Compressor:
        made = getattr(self._local, "compressor", None)
        if not isinstance(made, Compressor):
            made = self._local.compressor = Compressor(ZSTD_LEVEL)
        return made

    def _read(self, job: _Job) -> bytes:
        if not job.parts:
            return self._read_image(job.offset, job.pages * self._page_bytes)
        page = bytearray(self._page_bytes)
        for part in job.parts:
            page[part.at : part.at + part.length] = self._read_image(part.offset, part.length)
        return bytes(page)

    def _read_image(self, offset: int, length: int) -> bytes:
        data = self._image.read(offset, length)
        if len(data) != length:
            raise DamagedError(f"the restored image ends before byte {offset + length}: did somebody change it?")
        return data
