"""Dumps made of built cores, with any stretch marked as excluded or lost: what filters and broken memory leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from netdump.pages import ExcludeClass, PageState, Run
from netdump.store.intake import verify_chunk
from netdump.store.origin import Origin
from netdump.store.runtables import RunTable
from netdump.testing.sample_dump import received_chunk
from netdump.wire import HeadlineDocument, chain_link, chain_start, pack_document, pack_runs, root_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from netdump.store.store import Store
    from netdump.store.writer import DumpWriter
    from netdump.testing.elf_writer import Core
    from netdump.wire import Chunk

PAGE = 4096
Mark = tuple[PageState, ExcludeClass, int]  # state, class, source


def excluded(reason: ExcludeClass) -> Mark:
    return PageState.EXCLUDED, reason, 0


LOST: Mark = (PageState.LOST, ExcludeClass.NONE, 0)
DATA: Mark = (PageState.DATA, ExcludeClass.NONE, 0)
ZERO: Mark = (PageState.ZERO, ExcludeClass.NONE, 0)


def alias(source: int) -> Mark:
    return PageState.ALIAS, ExcludeClass.NONE, source


@dataclass
class BuiltDump:
    """marks: (start, end) image offsets -> what stands there; elsewhere zero pages are zero and all else is data."""

    core: Core
    marks: Mapping[tuple[int, int], Mark] = field(default_factory=dict)
    chunk_pages: int = 5
    vmcoreinfo: bytes | None = None
    id: str = "ab" * 16

    def __post_init__(self) -> None:
        image = bytearray(self.core.build())
        for (start, end), (state, _, source) in self.marks.items():
            if state is PageState.ALIAS:
                image[start:end] = image[source : source + end - start]
            elif state is not PageState.DATA:
                image[start:end] = bytes(end - start)
        self.image = bytes(image)

    def mark_of(self, offset: int) -> Mark:
        for (start, end), (state, reason, source) in self.marks.items():
            if start <= offset < end:
                return state, reason, source + offset - start if state is PageState.ALIAS else 0
        page = self.image[offset // PAGE * PAGE : offset // PAGE * PAGE + PAGE]
        return DATA if any(page) else ZERO

    def _runs(self, start: int, end: int) -> list[Run]:
        edges = {start, end, *range(-(-start // PAGE) * PAGE, end, PAGE)}
        edges |= {edge for mark in self.marks for edge in mark if start < edge < end}
        runs: list[Run] = []
        ordered = sorted(edges)
        for at, stop in pairwise(ordered):
            state, reason, source = self.mark_of(at)
            last = runs[-1] if runs else None
            joins = last is not None and (last.state, last.exclude) == (state, reason)
            if last is not None and joins and (state is not PageState.ALIAS or last.source + last.length == source):
                runs[-1] = last._replace(length=last.length + stop - at)
            else:
                runs.append(Run(state, stop - at, reason, source))
        return runs

    def chunks(self) -> Iterator[Chunk]:
        for start, end in self._cuts():
            runs = self._runs(start, end)
            raw, at = b"", start
            for run in runs:
                raw += self.image[at : at + run.length] if run.state is PageState.DATA else b""
                at += run.length
            yield received_chunk(start, runs, raw)

    def tables(self) -> list[RunTable]:
        return [RunTable(start, end - start, pack_runs(self._runs(start, end))) for start, end in self._cuts()]

    def _cuts(self) -> Iterator[tuple[int, int]]:
        step = self.chunk_pages * PAGE
        for start in range(0, len(self.image), step):
            yield start, min(start + step, len(self.image))

    def headline(self) -> bytes:
        head = self.core.headers()
        ehdr = 64 if self.core.bits == 64 else 52
        return pack_document(
            HeadlineDocument(
                ehdr=head[:ehdr], phdrs=head[ehdr:], kernel_release="6.1.0", machine="x86_64", nodename="h"
            )
        )

    def write(self, writer: DumpWriter, chunks: int | None = None) -> None:
        writer.put_headline(self.headline())
        received = list(self.chunks())
        chain = chain_start(bytes.fromhex(self.id), len(self.image))
        for number, chunk in enumerate(received[:chunks]):
            writer.append(chunk, len(verify_chunk(chunk)))
            chain = chain_link(chain, chunk.digest)
            if number % 2:
                writer.publish()
        writer.publish()
        if chunks is None:
            writer.finish(root_digest(chain, len(self.image), len(received)))

    def store(self, store: Store, chunks: int | None = None) -> str:
        origin = Origin(self.id, "web1", "ab" * 32, len(self.image), PAGE, 31, False, "test/1", 1_795_377_839)
        with store.open_writer(origin) as writer:
            self.write(writer, chunks)
        return self.id
