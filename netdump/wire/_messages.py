"""The vocabulary: one NamedTuple a message, members in the order of the field ids (wire.md 4).

Owns shapes only. A message object may hold impossible values; pack refuses them, unpack never yields them. Integers are
in bytes, seconds or image offsets as the page says; digests and ids are bytes.
"""

from __future__ import annotations

from typing import Final

from netdump.namedtuple import NamedTuple
from netdump.wire._registry import CodecId, DeclineCode, ErrorCode, MessageType

Buffer = bytes | bytearray | memoryview


class Hello(NamedTuple):
    """Which dump is offered. dump_id: 16 bytes. attempt: earlier connections for this dump. Spec: wire.md 4.1."""

    dump_id: bytes
    image_bytes: int
    page_bytes: int
    level: int
    agent: str = ""
    attempt: int = 0
    drill: bool = False


class Resume(NamedTuple):
    """Go on from here. headline: it is durable. credit: bytes of cost, 0: no chunks yet. keepalive, idle: seconds.

    Spec: wire.md 4.2.
    """

    offset: int
    chain: bytes
    chunks: int
    headline: bool
    credit: int
    keepalive: int
    idle: int


class Defer(NamedTuple):
    """Not now. Spec: wire.md 4.3."""

    seconds: int
    text: str = ""


class Decline(NamedTuple):
    """Never this dump, here. code: a bare number when this side does not know it. Spec: wire.md 4.4."""

    code: DeclineCode | int
    text: str = ""


class Headline(NamedTuple):
    """What is known before any page. body: the document as codec says; digest: of it raw. Spec: wire.md 4.5."""

    codec: CodecId
    raw_bytes: int
    digest: bytes
    body: Buffer


class Chunk(NamedTuple):
    """A range of the image. table: the run table (field ``runs``). data: encoded as codec says.

    frame: of a received chunk the whole frame, header included, into which data is a view; else empty.
    Spec: wire.md 4.6.
    """

    offset: int
    length: int
    table: bytes
    digest: bytes
    codec: CodecId
    data: Buffer
    frame: Buffer = b""


class Ack(NamedTuple):
    """Durable up to offset. credit: replaces the credit from now on; None: as before. Spec: wire.md 4.7."""

    offset: int
    credit: int | None = None


class Keepalive(NamedTuple):
    """I am alive. Spec: wire.md 4.8."""


class Finish(NamedTuple):
    """That was all. chunks: of the whole dump. remark: what came up after the headline [W-66]. Spec: wire.md 4.9."""

    image_bytes: int
    chunks: int
    root: bytes
    remark: str = ""


class Receipt(NamedTuple):
    """The dump is complete and durable. document: the signed statement, store.md 6. Spec: wire.md 4.10."""

    root: bytes
    document: bytes


class Error(NamedTuple):
    """The connection has failed. An unknown code arrives as INTERNAL, [W-71]. Spec: wire.md 4.11."""

    code: ErrorCode
    text: str = ""


Message = Hello | Resume | Defer | Decline | Headline | Chunk | Ack | Keepalive | Finish | Receipt | Error

CLASS_OF: Final[dict[MessageType, type[Message]]] = {
    MessageType.HELLO: Hello,
    MessageType.RESUME: Resume,
    MessageType.DEFER: Defer,
    MessageType.DECLINE: Decline,
    MessageType.HEADLINE: Headline,
    MessageType.CHUNK: Chunk,
    MessageType.ACK: Ack,
    MessageType.KEEPALIVE: Keepalive,
    MessageType.FINISH: Finish,
    MessageType.RECEIPT: Receipt,
    MessageType.ERROR: Error,
}
TYPE_OF: Final[dict[type[Message], MessageType]] = {shape: number for number, shape in CLASS_OF.items()}
