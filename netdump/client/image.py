"""What is sent: one image, its identity and its headline.

Owns how the parts of netdump.vmcore are put together for sending. Knows no collector: the same image can be offered
to several.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netdump.client.stream import InlineStream, ThreadedStream
from netdump.codec import Compressor
from netdump.errors import KernelDataError, NotElfError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.identity import ingredients
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.notes import is_of_process
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import Limits, catch_up, iter_chunks
from netdump.vmcore.source import open_source
from netdump.wire import (
    HEADLINE_RAW_MAX,
    TEXT_MAX,
    CodecId,
    Headline,
    HeadlineDocument,
    dump_identity,
    pack_document,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from netdump.client.stream import ChunkStream, Packer, Workers
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.filter import PageFilter
    from netdump.vmcore.kernel import KernelFacts
    from netdump.vmcore.oldmem import ElfcoreHeader
    from netdump.vmcore.plan import PlannedChunk
    from netdump.vmcore.source import Kind, Source

UNFILTERED_LEVELS = frozenset({0, 1})  # 1 leaves out zero pages, which are never sent as data anyway
NAME_DIGITS = 12  # of the dump id, in messages

PARTS_BYTES_MAX = HEADLINE_RAW_MAX - 0x1_0000  # in a headline; leaves room for its texts and the headers of its fields
LOG_CUT = "the kernel log lacks its oldest lines, for a headline holds no more"

# Raw data in one chunk. On one CPU as much as the protocol allows: each chunk takes Python some 80 µs. With threads, of
# which each holds a chunk, a quarter of that: it stays in the memory budget. The ratio is the same.
CHUNK_DATA_BYTES = 0x10_0000
CHUNK_DATA_BYTES_THREADED = 0x4_0000


class Summary(NamedTuple):
    """What the image is, for whoever watches. None: not known."""

    release: str | None
    nodename: str | None
    crash_time: int | None
    remarks: tuple[str, ...]


class Image:
    """An open image.

    size: bytes. level: as HELLO says it. capture: it is memory, not a copy of it in a file. For one thread.
    """

    def __init__(self, source: Source, level: int, remark: str = "", circumstances: str = "") -> None:
        """Read headers and notes, and find out how pages can be told apart if the level leaves any out.

        remark: for the headline. circumstances: likewise; of which the collector is told in any case. Raises CoreError.
        The source is closed with the image, also if this raises.
        """
        try:
            self._headers = parse_headers(source.read, source.size, source.name)
            self._map = ImageMap(self._headers)
            facts = read_facts(source, self._headers, self._map)
            _check_kind(source, self._headers, facts)
            parts = ingredients(source, self._headers, facts.notes)
            self._filter, self._unfiltered = _page_filter(source, self._headers, facts, level, self._map)
        except BaseException:
            source.close()
            raise
        self._source = source
        self.level = level
        self.size = source.size
        self.path = source.name
        self.capture = not isinstance(source, FileSource)
        self.page_bytes = facts.page_bytes
        self.dump_id = dump_identity(level, self.size, *parts)
        remarks = (*facts.remarks, *([self.unfiltered] if self.unfiltered else []))
        self.summary = Summary(facts.release, facts.nodename, facts.crash_time, remarks)
        self._pool: BufferPool | None = None
        self._headline = build_headline(self._headers, facts, [*filter(None, (remark, circumstances)), *remarks])
        self._untold = circumstances
        self._planned = 0  # up to that offset the filter has been asked
        self._told = len(self._filter.reasons) if self._filter else 0

    @property
    def unfiltered(self) -> str | None:
        """Why pages are sent though the level asks to leave them out; None: none are. It may come up while sending."""
        return self._unfiltered or (self._filter.remark if self._filter else None)

    def afterword(self) -> str:
        """What came up since the collector got its headline, as the remark of FINISH [W-66].

        Of `unfiltered`, and all circumstances if an earlier run has sent the headline.
        """
        reasons = self._filter.reasons[self._told :] if self._filter else ()
        return printable("; ".join(filter(None, (*reasons, self._untold))))

    @property
    def name(self) -> str:
        """The dump id, shortened: what people call the dump."""
        return self.dump_id.hex()[:NAME_DIGITS]

    def headline(self) -> Headline:
        """The HEADLINE message, to be sent; the same every time."""
        self._untold = ""
        return self._headline

    def catch_up(self, offset: int) -> Generator[int, None, None]:
        """Let the filter look at all before an image offset that a collector has from an earlier run of the client.

        So that it ends as one run would have ended: what it has lost its trust in is not left out behind the offset.
        To be exhausted before `stream`; what was looked at is not looked at again. Yields the offset that is reached,
        every few milliseconds.
        """
        if self._filter is not None and self._planned < offset:
            for reached in catch_up(self._map, self.page_bytes, self._planned, offset, self._filter.classify):
                self._planned = reached
                yield reached

    def stream(self, start: int, compressor: Packer | None, workers: Workers | None) -> ChunkStream:
        """Begin the chunks at image offset start: in line with compressor, or with workers if there are any.

        One stream at a time: the one before must be closed. workers: the same at every call.
        """
        if self._pool is None:
            self._pool = self._make_pool(workers)
        planned = self._plan(start, self._pool)
        if workers is None:
            return InlineStream(planned, compressor, self._pool.release)
        return ThreadedStream(planned, workers, self._pool.release)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _make_pool(self, workers: Workers | None) -> BufferPool:
        if workers is None:
            return BufferPool(CHUNK_DATA_BYTES, InlineStream.BUFFERS)
        return BufferPool(max(CHUNK_DATA_BYTES_THREADED, self.page_bytes), ThreadedStream.buffers(workers.count))

    def _plan(self, start: int, pool: BufferPool) -> Generator[PlannedChunk, None, None]:
        limits = Limits(data=pool.buffer_bytes)
        classify = self._filter.classify if self._filter else None
        memory = self._source, self._map, self.page_bytes
        chunks = iter_chunks(*memory, start, classify=classify, pool=pool, limits=limits)
        try:
            for chunk in chunks:
                self._planned = max(self._planned, chunk.offset + chunk.length)
                yield chunk
        finally:
            chunks.close()


def open_image(
    path: str,
    level: int,
    *,
    kind: Kind = "auto",
    elfcorehdr: ElfcoreHeader | None = None,
    remark: str = "",
    circumstances: str = "",
) -> Image:
    """Open a core and find out what it is. remark, circumstances: see Image. Raises CoreError."""
    return Image(open_source(path, kind, elfcorehdr), level, remark, circumstances)


def _check_kind(source: Source, headers: ElfHeaders, facts: KernelFacts) -> None:
    """Raises NotElfError for the core of a process in a file. What a capture kernel finds is sent in any case."""
    if isinstance(source, FileSource) and is_of_process(facts.notes, headers.byteorder):
        raise NotElfError(f"{source.name} is a core of a process, not of a kernel; is it the right file?")


def _page_filter(
    source: Source, headers: ElfHeaders, facts: KernelFacts, level: int, image_map: ImageMap
) -> tuple[PageFilter | None, str | None]:
    """The filter for a level, or why there is none. Pages are never left out on doubt."""
    if level in UNFILTERED_LEVELS:
        return None, None
    from netdump.vmcore.filter import open_filter  # noqa: PLC0415 - a quarter of what this package takes to load

    try:
        return open_filter(source, headers, facts, level, image_map), None
    except KernelDataError as error:
        return None, f"sent unfiltered: {error}"


def build_headline(headers: ElfHeaders, facts: KernelFacts, remarks: Sequence[str]) -> Headline:
    """Make the HEADLINE message: everything that is known before any page ([W-41])."""
    raw = _pack_bounded(_document(headers, facts, remarks))
    digest = hashlib.sha256(raw).digest()
    body = Compressor(1).compress(raw)
    if len(body) < len(raw):
        return Headline(CodecId.ZSTD, len(raw), digest, body)
    return Headline(CodecId.STORED, len(raw), digest, raw)


def _document(headers: ElfHeaders, facts: KernelFacts, remarks: Sequence[str]) -> HeadlineDocument:
    text = printable("; ".join(remarks))
    return HeadlineDocument(
        ehdr=headers.ehdr,
        phdrs=headers.phdrs,
        notes=facts.notes,
        vmcoreinfo=facts.vmcoreinfo,
        log=facts.log.text if facts.log else None,
        kernel_release=_text(facts.release),
        kernel_version=_text(facts.version),
        machine=_text(facts.machine),
        nodename=_text(facts.nodename),
        crash_time=facts.crash_time,
        cpus=facts.cpus or None,
        log_truncated=(facts.log.truncated or None) if facts.log else None,
        remark=text or None,
    )


def _text(value: str | None) -> str | None:
    return printable(value)[:TEXT_MAX] if value else None


def _pack_bounded(document: HeadlineDocument) -> bytes:
    """Pack; of a machine so large that it does not fit, leave out what the image holds anyway, then old log lines."""
    if _bytes_of(document) > PARTS_BYTES_MAX:
        document = document._replace(phdrs=None, notes=None)
    if _bytes_of(document) > PARTS_BYTES_MAX:
        document = document._replace(vmcoreinfo=None)
    if document.log and (excess := _bytes_of(document) - PARTS_BYTES_MAX) > 0:
        remark = printable("; ".join(filter(None, (LOG_CUT, document.remark))))
        document = document._replace(log=document.log[excess:], log_truncated=True, remark=remark)
    return pack_document(document)


def _bytes_of(document: HeadlineDocument) -> int:
    """Of the fields that may be large; the others have at most TEXT_MAX bytes each."""
    parts = (document.ehdr, document.phdrs, document.notes, document.vmcoreinfo, document.log)
    return sum(len(part) for part in parts if part)
