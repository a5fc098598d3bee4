"""What a receiver checks beside the structure: data, bodies, digests, chain and root, as client and collector do it."""

from __future__ import annotations

import hashlib

from netdump import codec, wire
from netdump.errors import CodecError, RemoteProtocolError


class Contents:
    """Follows the messages of one dump, over several connections."""

    def __init__(self) -> None:
        self._passed: dict[tuple[int, int], bytes] = {}  # chain values that the client knows, by offset and chunks
        self.connect()

    def connect(self) -> None:
        """A new connection."""
        self._offset, self._chunks, self._chain, self._image_bytes, self._acked = 0, 0, b"", 0, 0

    def check(self, message: wire.Message) -> None:
        """Take a message that its receiver has found in order. Raises RemoteProtocolError."""
        match message:
            case wire.Hello():
                self._image_bytes = message.image_bytes
                self._passed[0, 0] = wire.chain_start(message.dump_id, message.image_bytes)
            case wire.Resume():
                if self._passed.get((message.offset, message.chunks), message.chain) != message.chain:
                    raise RemoteProtocolError("bad-root", "another chain value than the client's")
                self._offset, self._chunks, self._chain = message.offset, message.chunks, message.chain
                self._acked = message.offset
            case wire.Ack():
                self._acked = message.offset
            case wire.Error(code=wire.ErrorCode.FENCED):
                self._passed = {place: chain for place, chain in self._passed.items() if place[0] <= self._acked}
            case wire.Headline():
                self._check_headline(message)
            case wire.Chunk():
                self._check_chunk(message)
            case wire.Finish():
                if message.root != wire.root_digest(self._chain, self._image_bytes, self._chunks):
                    raise RemoteProtocolError("bad-root", "another root than the collector's")
            case _:
                pass

    def _check_chunk(self, chunk: wire.Chunk) -> None:
        runs = wire.unpack_runs(chunk.table, chunk.offset, chunk.length)
        raw = _decoded(chunk.codec, chunk.data, wire.raw_bytes(runs), wire.ZSTD_WINDOW_MAX)
        if wire.chunk_digest(chunk.offset, chunk.length, chunk.table, raw) != chunk.digest:
            raise RemoteProtocolError("bad-digest", "the chunk's")
        self._chain = wire.chain_link(self._chain, chunk.digest)
        self._offset, self._chunks = chunk.offset + chunk.length, self._chunks + 1
        self._passed[self._offset, self._chunks] = self._chain

    def _check_headline(self, headline: wire.Headline) -> None:
        raw = _decoded(headline.codec, headline.body, headline.raw_bytes, wire.HEADLINE_RAW_MAX)
        if hashlib.sha256(raw).digest() != headline.digest:
            raise RemoteProtocolError("bad-digest", "the headline's")
        wire.unpack_document(bytes(raw))


def _decoded(codec_id: int, data: codec.Buffer, raw_bytes: int, window_max: int) -> codec.Buffer:
    try:
        return codec.decode(codec_id, data, raw_bytes, window_max)
    except CodecError as error:
        raise RemoteProtocolError("bad-codec", str(error)) from error
