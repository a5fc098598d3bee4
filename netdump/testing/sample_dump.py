"""Small dumps with everything in them, from a seed: image, chunks as received, headline, receipt.

The image has stretches of all states, page-sized and odd, aliases of anything before them (of aliases too), and data
that never repeats, so that a chunk at the wrong place cannot pass unseen. Where the chunks are cut depends on its own
seed: a client may cut differently after a RESUME (wire.md 6).
"""

from __future__ import annotations

import hashlib
import struct
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from netdump.codec import Compressor
from netdump.pages import ExcludeClass, PageState, Run
from netdump.store.origin import Origin
from netdump.store.sealed import seal
from netdump.wire import (
    CHUNK_DATA_MAX,
    Chunk,
    CodecId,
    HeadlineDocument,
    chain_link,
    chain_start,
    chunk_digest,
    pack,
    pack_document,
    pack_runs,
    raw_bytes,
    root_digest,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netdump.store.manifest import Manifest

_PAGE: Final = 4096
_CLASSES: Final = [ExcludeClass.CACHE, ExcludeClass.USER, ExcludeClass.FREE]
_COMPRESSOR: Final = Compressor(1)


class SampleDump:
    """One dump. image: what must come back."""

    def __init__(
        self, seed: int = 1, image_bytes: int = 200_000, chunk_bytes: int = 16_384, host: str = "web1"
    ) -> None:
        """chunk_bytes: image bytes in a chunk, at most."""
        random = Random(seed)
        self.chunk_bytes: Final = chunk_bytes
        self.runs: Final = list(_random_runs(random, image_bytes))
        self.image: Final = _fill(self.runs, seed)
        self.origin: Final = Origin(
            id=hashlib.sha256(f"sample {seed}".encode()).hexdigest()[:32],
            host=host,
            host_key=hashlib.sha256(host.encode()).hexdigest(),
            image_bytes=image_bytes,
            page_bytes=_PAGE,
            level=0,
            drill=False,
            agent="sample/1",
            created=1_700_000_000,
        )
        self.headline: Final = pack_document(HeadlineDocument(log=b"[    0.000000] Kernel panic\n", machine="x86_64"))
        self._seed = seed

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All of it, cut once."""
        return list(self.cut(0, self._seed))

    @cached_property
    def root(self) -> bytes:
        """The root of those chunks."""
        return self.root_of(self.chunks)

    @property
    def dump_id(self) -> bytes:
        """The id, 16 bytes."""
        return self.origin.dump_id

    def cut(self, offset: int, seed: int) -> Iterator[Chunk]:
        """Chunks from that image offset to the end, each as a collector receives it, cut as seed says."""
        random = Random(seed)
        while offset < len(self.image):
            length = min(random.randint(1, self.chunk_bytes), len(self.image) - offset)
            codec = random.choice([CodecId.STORED, CodecId.ZSTD])
            yield self.chunk(offset, length, codec)
            offset += length

    def chunk(self, offset: int, length: int, codec: CodecId = CodecId.ZSTD) -> Chunk:
        """The chunk of that range."""
        runs = list(slice_runs(self.runs, offset, length))
        pieces, place = [], offset
        for run in runs:
            if run.state is PageState.DATA:
                pieces.append(self.image[place : place + run.length])
            place += run.length
        return received_chunk(offset, runs, b"".join(pieces), codec)

    def chain_at(self, chunks: Iterable[Chunk]) -> bytes:
        """The chain value behind these chunks, which begin at offset 0."""
        chain = chain_start(self.dump_id, len(self.image))
        for chunk in chunks:
            chain = chain_link(chain, chunk.digest)
        return chain

    def root_of(self, chunks: list[Chunk]) -> bytes:
        """The root of a dump that was cut into these chunks."""
        return root_digest(self.chain_at(chunks), len(self.image), len(chunks))

    def receipt(self, manifest: Manifest, collector: str = "collector.example") -> bytes:
        """A receipt for it, signed by nobody."""
        return seal(
            {
                "format": "netdump-receipt/1",
                "id": manifest.id,
                "host": manifest.host,
                "image_bytes": manifest.image_bytes,
                "chunks": manifest.chunks,
                "root": manifest.root.hex(),
                "completed": manifest.completed,
                "collector": collector,
                "certificate": "",
                "signature": "",
            }
        )


def received_chunk(offset: int, runs: list[Run], raw: bytes, codec: CodecId = CodecId.ZSTD) -> Chunk:
    """A chunk as a collector receives it: with its frame.

    Without raw data it is stored, whatever codec says ([W-51]).
    """
    length, table = sum(run.length for run in runs), pack_runs(runs)
    if codec is CodecId.STORED or not raw:
        codec, data = CodecId.STORED, raw
    else:
        data = _COMPRESSOR.compress(raw)
    frame = pack(Chunk(offset, length, table, chunk_digest(offset, length, table, raw), codec, data))
    chunk = unpack(frame)
    assert isinstance(chunk, Chunk)
    assert raw_bytes(runs) == len(raw) <= CHUNK_DATA_MAX
    return chunk


def _random_runs(random: Random, image_bytes: int) -> Iterator[Run]:
    """Runs that tile the image; neighbours may be one, slice_runs() joins them."""
    offset = 0
    while offset < image_bytes:
        length = random.choice([_PAGE, 2 * _PAGE, 5 * _PAGE, random.randint(1, 9000)])
        length = min(length, image_bytes - offset)
        state = random.choices(list(PageState), weights=[5, 2, 2, 2, 1])[0]
        if state is PageState.ALIAS:
            length = min(length, offset)
            if length:
                yield Run(state, length, source=random.randint(0, offset - length))
        else:
            yield Run(state, length, random.choice(_CLASSES) if state is PageState.EXCLUDED else ExcludeClass.NONE)
        offset += length


def _fill(runs: list[Run], seed: int) -> bytes:
    """The image. Its data are made of numbered words, so that no two stretches are alike."""
    image = bytearray()
    for run in runs:
        if run.state is PageState.DATA:
            first, count = (seed << 32) + len(image) // 8, run.length // 8 + 1
            image += struct.pack(f">{count}Q", *range(first, first + count))[: run.length]
        elif run.state is PageState.ALIAS:
            image += image[run.source : run.source + run.length]
        else:
            image += bytes(run.length)
    return bytes(image)


def slice_runs(runs: list[Run], offset: int, length: int) -> Iterator[Run]:
    """The runs of a range of the image, neighbours that are one joined ([W-47]). runs: of the whole image."""
    start, before = 0, None
    for run in runs:
        if start >= offset + length:
            break
        begin, end = max(offset, start), min(offset + length, start + run.length)
        if begin < end:
            source = run.source + begin - start if run.state is PageState.ALIAS else 0
            part = run._replace(length=end - begin, source=source)
            if before is not None and _is_one(before, part):
                before = before._replace(length=before.length + part.length)
            else:
                if before is not None:
                    yield before
                before = part
        start += run.length
    if before is not None:
        yield before


def _is_one(before: Run, after: Run) -> bool:
    return (before.state, before.exclude) == (after.state, after.exclude) and (
        before.state is not PageState.ALIAS or after.source == before.source + before.length
    )
