"""An image that exists only in memory, for tests of everything that does not care where chunks come from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netdump.client.stream import InlineStream, ThreadedStream
from netdump.codec import Compressor
from netdump.pages import PageState, Run
from netdump.vmcore.plan import PlannedChunk
from netdump.wire import CodecId, Headline, HeadlineDocument, pack_document

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from netdump.client.stream import ChunkStream, Workers

PAGE = 4096


def content(pages: int) -> bytes:
    """Pages with a counter pattern, every fifth zero, so that none can be taken for another."""
    page = (b"" if number % 5 == 4 else number.to_bytes(8, "big") * (PAGE // 8) for number in range(1, pages + 1))
    return b"".join(one.ljust(PAGE, b"\0") for one in page)


class PretendImage:
    """What delivery and session need of an image. chunk_pages: in one chunk."""

    def __init__(self, data: bytes, chunk_pages: int = 4, name: str = "00112233") -> None:
        self.data = data
        self.size = len(data)
        self.page_bytes = PAGE
        self.level = 0
        self.unfiltered: str | None = None
        self.late = ""
        self.name = name
        self.dump_id = hashlib.sha256(data + name.encode()).digest()[:16]
        self.headlines = 0
        self._chunk_bytes = chunk_pages * PAGE

    def headline(self) -> Headline:
        self.headlines += 1
        raw = pack_document(HeadlineDocument(kernel_release="6.1.0-test"))
        return Headline(CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw)

    def afterword(self) -> str:
        return self.late

    def catch_up(self, offset: int) -> Iterator[int]:
        return iter(())

    def planned(self, start: int) -> Generator[PlannedChunk, None, None]:
        while start < self.size:
            end = min(self.size, start + self._chunk_bytes)
            states = [(offset, min(offset + PAGE, end)) for offset in range(start, end, PAGE)]
            runs: list[Run] = []
            data = b""
            for low, high in states:
                piece = self.data[low:high]
                state = PageState.DATA if any(piece) else PageState.ZERO
                data += piece if state is PageState.DATA else b""
                if runs and runs[-1].state is state:
                    runs[-1] = runs[-1]._replace(length=runs[-1].length + len(piece))
                else:
                    runs.append(Run(state, len(piece)))
            yield PlannedChunk(start, end - start, tuple(runs), memoryview(data))
            start = end

    def stream(self, start: int) -> ChunkStream:
        return InlineStream(self.planned(start), Compressor(1), lambda _: None)


class RecycledImage(PretendImage):
    """Its chunks lie in buffers as the planner's do, but are overwritten as soon as they are given back.

    workers: who compresses; None: nobody, chunks are sent as they are.
    """

    def __init__(self, data: bytes, chunk_pages: int, workers: Workers | None = None) -> None:
        super().__init__(data, chunk_pages)
        self.out = 0
        self._workers = workers

    def stream(self, start: int) -> ChunkStream:
        if self._workers is None:
            return InlineStream(self._borrowed(start), None, self._release)
        return ThreadedStream(self._borrowed(start), self._workers, self._release)

    def _borrowed(self, start: int) -> Generator[PlannedChunk, None, None]:
        for chunk in self.planned(start):
            self.out += 1
            yield chunk._replace(data=memoryview(bytearray(chunk.data)))

    def _release(self, data: memoryview) -> None:
        self.out -= 1
        data[:] = b"\xee" * len(data)
        data.release()
