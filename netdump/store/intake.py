"""The checks a chunk or headline must pass before the store takes it: decoding and digest.

Owns what the wire's core leaves to a worker thread because it costs time. Must not write anything. Every function is
pure and safe for several threads; hashing and decompression release the GIL.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netdump.codec import decode
from netdump.errors import CodecError, RemoteProtocolError
from netdump.store.totals import data_bytes
from netdump.wire import HEADLINE_RAW_MAX, chunk_digest, unpack_document

if TYPE_CHECKING:
    from netdump.store.files import Buffer
    from netdump.wire import Chunk, Headline


def verify_chunk(chunk: Chunk) -> Buffer:
    """The raw data of a chunk whose frame and run table the wire's core has checked.

    Stored data comes back as the view into the frame that it is. Raises RemoteProtocolError (bad-codec, bad-digest).
    Spec: [W-51] to [W-53].
    """
    try:
        raw = decode(chunk.codec, chunk.data, data_bytes(chunk.table))
    except CodecError as error:
        raise RemoteProtocolError("bad-codec", f"the chunk at image offset {chunk.offset}: {error}") from None
    if chunk_digest(chunk.offset, chunk.length, chunk.table, raw) != chunk.digest:
        raise RemoteProtocolError("bad-digest", f"the chunk at image offset {chunk.offset} does not have its digest")
    return raw


def verify_headline(headline: Headline) -> bytes:
    """The raw headline document.

    Raises RemoteProtocolError (bad-codec, bad-digest, or the class of a broken rule). Spec: [W-42].
    """
    assert headline.raw_bytes <= HEADLINE_RAW_MAX
    try:
        raw = bytes(decode(headline.codec, headline.body, headline.raw_bytes, HEADLINE_RAW_MAX))
    except CodecError as error:
        raise RemoteProtocolError("bad-codec", f"the headline: {error}") from None
    if hashlib.sha256(raw).digest() != headline.digest:
        raise RemoteProtocolError("bad-digest", "the headline does not have its digest")
    unpack_document(raw)
    return raw
