"""Dumps with a fixed pattern of pages, for readers that count them. The chunks are those of testing/sample_dump.py."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netdump.index.reading import Query
from netdump.pages import ExcludeClass, PageState, Run
from netdump.store.intake import verify_chunk
from netdump.store.origin import Origin
from netdump.testing.sample_dump import received_chunk
from netdump.wire import (
    Chunk,
    HeadlineDocument,
    chain_link,
    chain_start,
    pack_document,
    root_digest,
)

if TYPE_CHECKING:
    from netdump.index.catalog import LocalCatalog
    from netdump.store.store import Store
    from netdump.store.writer import DumpWriter

PAGE = 4096
LOG = b"[    1.0] Linux version 6.1.0\n[   14.6] Kernel panic - not syncing: sysrq triggered crash\n"
PANIC = "Kernel panic - not syncing: sysrq triggered crash"


def page_of(number: int) -> bytes:
    """A page that says which one it is in each word, so that no two can be taken for one another."""
    return struct.pack(">Q", number + 1) * (PAGE // 8)


def state_of(number: int) -> PageState:
    """data, with zero, excluded, lost and alias pages in between."""
    cycle = {3: PageState.ZERO, 5: PageState.EXCLUDED, 8: PageState.LOST, 9: PageState.ALIAS}
    return cycle.get(number % 10, PageState.DATA)


@dataclass
class Sample:
    """A dump to be: pages of image, cut into chunks of so many pages, so many chunks a segment."""

    pages: int = 64
    chunk_pages: int = 8
    segment_chunks: int = 2
    number: int = 1
    host: str = "web1"
    created: int = 1_795_377_839
    drill: bool = False
    level: int = 31
    log: bytes | None = LOG
    log_truncated: bool | None = None
    remark: str | None = None
    image: bytes = field(init=False)

    def __post_init__(self) -> None:
        image = bytearray()
        for number in range(self.pages):
            image += self._content(number)
        self.image = bytes(image)

    @property
    def id(self) -> str:
        return f"{self.number:x}".ljust(32, "0")

    def _content(self, number: int) -> bytes:
        state = state_of(number)
        if state is PageState.ALIAS:
            return self._content(self._source(number))
        return page_of(number + 1000 * (self.number & 0xFFFF)) if state is PageState.DATA else bytes(PAGE)

    @staticmethod
    def _source(number: int) -> int:
        # Every other alias has an alias as its source.
        return number - 10 if number % 20 == 19 and number > 10 else number - 3

    def _runs(self, first: int, count: int) -> tuple[list[Run], bytes]:
        runs: list[Run] = []
        raw = b""
        for number in range(first, first + count):
            state = state_of(number)
            source = self._source(number) * PAGE if state is PageState.ALIAS else 0
            reason = ExcludeClass.FREE if state is PageState.EXCLUDED else ExcludeClass.NONE
            if runs and runs[-1].state is state and state is PageState.DATA:
                runs[-1] = runs[-1]._replace(length=runs[-1].length + PAGE)
            else:
                runs.append(Run(state, PAGE, reason, source))
            raw += self._content(number) if state is PageState.DATA else b""
        return runs, raw

    def chunks(self) -> list[Chunk]:
        """As they arrive on the wire."""
        firsts = range(0, self.pages, self.chunk_pages)
        return [
            received_chunk(first * PAGE, *self._runs(first, min(self.chunk_pages, self.pages - first)))
            for first in firsts
        ]

    def root(self) -> bytes:
        chunks = self.chunks()
        chain = chain_start(bytes.fromhex(self.id), len(self.image))
        for chunk in chunks:
            chain = chain_link(chain, chunk.digest)
        return root_digest(chain, len(self.image), len(chunks))

    def headline(self) -> bytes:
        empty = HeadlineDocument(*[None] * len(HeadlineDocument._fields))
        return pack_document(
            empty._replace(
                log=self.log,
                log_truncated=self.log_truncated,
                remark=self.remark,
                kernel_release="6.1.0-56-cloud-amd64",
                kernel_version="#1 SMP PREEMPT_DYNAMIC",
                machine="x86_64",
                nodename="crashy",
                crash_time=1_795_377_830,
            )
        )

    def origin(self) -> Origin:
        return Origin(
            self.id, self.host, "ab" * 32, len(self.image), PAGE, self.level, self.drill, "test/1", self.created
        )

    def open(self, store: Store) -> DumpWriter:
        return store.open_writer(self.origin())

    def write(self, writer: DumpWriter, chunks: int | None = None) -> None:
        """Make the first so many chunks durable, as far as they are not; None: all, and the manifest."""
        writer.put_headline(self.headline())
        wanted = self.chunks()[:chunks]
        for number, chunk in enumerate(wanted):
            if chunk.offset >= writer.durable.offset:
                writer.append(chunk, len(verify_chunk(chunk)))
                if (number + 1) % self.segment_chunks == 0:
                    writer.publish()
        writer.publish()
        if chunks is None:
            writer.finish(self.root())

    def store(self, store: Store, chunks: int | None = None) -> str:
        """Write it whole, or its first so many chunks, and let go of it. Returns the id."""
        with self.open(store) as writer:
            self.write(writer, chunks)
        return self.id


def listed(catalog: LocalCatalog, query: Query | None = None) -> list[str]:
    return [record.id for record in catalog.list(query or Query())]
