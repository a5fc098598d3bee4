"""How large a dump would be at each level: what the page filter would leave out, and how well a sample compresses.

Owns the arithmetic and the sample. Must not know who asks, or how it is shown. Memory is constant: of each kind of page
at most a few hundred probes are remembered. All of the machine's struct pages are read once, none of its memory but the
probes.

The sample is systematic: every n-th page of a kind, n doubling (and every other probe being dropped) as often as there
get to be too many. Where the first one is, is drawn from a seed, so the same core gives the same answer.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from netdump.codec import Compressor
from netdump.namedtuple import NamedTuple
from netdump.pages import ExcludeClass
from netdump.vmcore.filter import LEVEL_ALL, open_filter
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import CLASSIFY_PAGES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.filter import PageFilter
    from netdump.vmcore.kernel import KernelFacts
    from netdump.vmcore.source import Source

PROBES: Final = 512
"""Probes of each kind of page, at least, where there are so many; at most twice as many."""

PROBE_PAGES: Final = 16
"""Pages of a probe, less where the run of pages is shorter."""

_BATCH_BYTES: Final = 0x4_0000  # compressed at once, as the client does
_LEVEL_BITS: Final = {
    ExcludeClass.CACHE: 2 | 4,
    ExcludeClass.CACHE_PRIVATE: 4,
    ExcludeClass.USER: 8,
    ExcludeClass.FREE: 16,
    ExcludeClass.UNACCEPTED: 16,
    ExcludeClass.HWPOISON: 2 | 4 | 8 | 16,  # at level 1 the client needs no filter
    ExcludeClass.OFFLINE: 2 | 4 | 8 | 16,
}


class KindFigures(NamedTuple):
    """Pages of one kind. pages: of all. The others are of the sample: pages, those of zeros, and bytes compressed."""

    pages: int
    sampled: int
    zero: int
    packed_bytes: int

    def zero_pages(self) -> int:
        """How many of all are zero, by what the sample says."""
        return round(self.pages * self.zero / self.sampled) if self.sampled else 0

    def unseen_pages(self) -> int:
        """How many may be data at most (95 %) though all that were looked at are zero; 0 if some are not, or all were.

        By the rule of three, a probe counting once: its pages stand side by side and are alike.
        """
        if not self.sampled or self.zero < self.sampled or self.sampled == self.pages:
            return 0
        return min(self.pages - self.sampled, 3 * self.pages * PROBE_PAGES // self.sampled)

    def packed(self, page_bytes: int) -> float:
        """Bytes of all, compressed, by what the sample says."""
        data = self.sampled - self.zero
        ratio = self.packed_bytes / (data * page_bytes) if data else 1.0
        return (self.pages - self.zero_pages()) * page_bytes * ratio


class Forecast(NamedTuple):
    """A dump at one level, in bytes. excluded, zero: not sent; data: sent, before compression; wire: after it.

    unseen: of what is taken for zero, how much may be data all the same, as the sample found none of it; 0 where every
    page was looked at or some data was found.
    """

    level: int
    excluded: int
    zero: int
    data: int
    wire: int
    unseen: int


class Estimate(NamedTuple):
    """What was found. kinds: by class, NONE being the kernel's own pages. remark: why some are not told apart."""

    page_bytes: int
    kinds: dict[ExcludeClass, KindFigures]
    remark: str | None

    @property
    def memory_bytes(self) -> int:
        """All that was looked at."""
        return sum(kind.pages for kind in self.kinds.values()) * self.page_bytes

    def forecast(self, level: int) -> Forecast:
        """A dump at a level, 0 to 31."""
        kept = [figures for exclude, figures in self.kinds.items() if not _LEVEL_BITS.get(exclude, 0) & level]
        pages = sum(figures.pages for figures in kept)
        zero = sum(figures.zero_pages() for figures in kept)
        wire = round(sum(figures.packed(self.page_bytes) for figures in kept))
        size = self.page_bytes
        unseen = sum(figures.unseen_pages() for figures in kept)
        return Forecast(
            level, self.memory_bytes - pages * size, zero * size, (pages - zero) * size, wire, unseen * size
        )


def estimate(
    source: Source,
    headers: ElfHeaders,
    facts: KernelFacts,
    *,
    compression: int = 1,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Estimate:
    """Look through a core, or the running kernel.

    compression: of zstd, 0 for none. progress: is told bytes of memory, as they are looked at. Raises KernelDataError
    if the core does not tell what is needed to tell pages apart.
    """
    image_map = ImageMap(headers)
    page_filter = open_filter(source, headers, facts, LEVEL_ALL, image_map)
    generator = random.Random(seed)  # noqa: S311 - for a sample
    samples = {exclude: _Sample(generator.randrange(PROBE_PAGES)) for exclude in ExcludeClass}
    for runs in _iter_slabs(image_map, page_filter, facts.page_bytes):
        for offset, exclude, pages in runs:
            samples[exclude].add(offset, pages)
        progress(sum(pages for _, _, pages in runs) * facts.page_bytes)
    compressor = Compressor(compression) if compression else None
    kinds: dict[ExcludeClass, KindFigures] = {
        exclude: _measure(source, sample, facts.page_bytes, compressor)
        for exclude, sample in samples.items()
        if sample.pages and exclude not in {ExcludeClass.HWPOISON, ExcludeClass.OFFLINE}
    }
    for exclude in (ExcludeClass.HWPOISON, ExcludeClass.OFFLINE):  # never read: it may stop the machine
        if samples[exclude].pages:
            kinds[exclude] = KindFigures(samples[exclude].pages, 0, 0, 0)
    return Estimate(facts.page_bytes, kinds, page_filter.remark)


def memory_bytes(headers: ElfHeaders) -> int:
    """How much estimate() will look at."""
    return sum(end - start for start, end, _ in ImageMap(headers).memory())


def _iter_slabs(
    image_map: ImageMap, page_filter: PageFilter, page_bytes: int
) -> Iterator[list[tuple[int, ExcludeClass, int]]]:
    """Runs (image offset, class, pages) of all memory, some at a time, each page once; parts of pages count as pages.

    The offset is that of the whole page, which may begin before the segment does.
    """
    for stretch in image_map.stretches(0, page_bytes):
        if stretch.paddr is None or stretch.source is not None:
            continue
        shift = stretch.paddr - stretch.start
        page, end = stretch.paddr // page_bytes, -(-(stretch.end + shift) // page_bytes)
        while page < end:
            count = min(end - page, CLASSIFY_PAGES_MAX - page % CLASSIFY_PAGES_MAX)
            runs = []
            for exclude, pages in page_filter.classify(page * page_bytes, count):
                runs.append((max(0, page * page_bytes - shift), exclude, pages))
                page += pages
            yield runs


class _Sample:
    """Probes of one kind: (image offset of a run, pages into it, pages), ascending. pages: of that kind so far."""

    __slots__ = ("_next", "_step", "pages", "probes")

    def __init__(self, first: int) -> None:
        self.pages = 0
        self.probes: list[tuple[int, int, int]] = []
        self._step = PROBE_PAGES
        self._next = first

    def add(self, offset: int, pages: int) -> None:
        """A run of pages of this kind."""
        while self._next < self.pages + pages:
            into = self._next - self.pages
            self.probes.append((offset, into, min(PROBE_PAGES, pages - into)))
            self._next += self._step
            if len(self.probes) >= 2 * PROBES:
                del self.probes[1::2]
                self._step *= 2  # the next one is as far from the last one that is left
        self.pages += pages


def _measure(source: Source, sample: _Sample, page_bytes: int, compressor: Compressor | None) -> KindFigures:
    """Read the probes, and compress what is not zero, some at a time."""
    pages = zero = packed = 0
    batch = bytearray()
    zeros = bytes(page_bytes)
    for offset, into, count in sample.probes:
        start = offset + into * page_bytes
        data = bytearray(min(count * page_bytes, max(0, source.size - start)))
        source.read_into(start, memoryview(data))
        for at in range(0, len(data), page_bytes):
            pages += 1
            page = data[at : at + page_bytes]
            if page == zeros[: len(page)]:
                zero += 1
            else:
                batch += page.ljust(page_bytes, b"\0")
        if len(batch) >= _BATCH_BYTES:
            packed += _packed(batch, compressor)
            batch.clear()
    return KindFigures(sample.pages, pages, zero, packed + _packed(batch, compressor))


def _packed(batch: bytearray, compressor: Compressor | None) -> int:
    """Bytes of a batch as the client would send it."""
    return min(len(batch), len(compressor.compress(bytes(batch)))) if compressor and batch else len(batch)
