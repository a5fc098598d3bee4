"""The numbers of netdump/1 as constants. tests/protocol/test_registry.py holds them equal to protocol/registry.toml.

Owns names and numbers, and the table of fields that every message has. Must not hold behaviour. Sizes are in bytes,
times in seconds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

ALPN: Final = "netdump/1"
PORT_INGEST: Final = 7461
PORT_API: Final = 7462

FRAME_HEADER_BYTES: Final = 8
CRITICAL_BIT: Final = 0x8000
FIELD_HEADER_BYTES: Final = 6
PAYLOAD_MAX: Final = 65536
FIELDS_MAX: Final = 64
TEXT_MAX: Final = 1024

IMAGE_BYTES_MAX: Final = 1 << 52
PAGE_BYTES_MIN: Final = 4096
PAGE_BYTES_MAX: Final = 65536
CHUNK_LENGTH_MAX: Final = 1 << 30
CHUNK_DATA_MAX: Final = 1 << 20
CHUNK_RUNS_MAX: Final = 4096
CHUNK_COST_FLOOR: Final = 4096
HEADLINE_RAW_MAX: Final = 8 << 20
ZSTD_WINDOW_MAX: Final = 1 << 20
RECEIPT_MAX: Final = 16384
CREDIT_MIN: Final = 2 << 20
CREDIT_MAX: Final = 256 << 20
DEFER_MIN: Final = 1
DEFER_MAX: Final = 86400
KEEPALIVE_MIN: Final = 1
KEEPALIVE_MAX: Final = 60
IDLE_MIN: Final = 3
IDLE_MAX: Final = 600
CHATTER_MAX: Final = 1024
CHATTER_PER_SECOND: Final = 16
OPENING_TIMEOUT: Final = 10

SEGMENT_MAGIC: Final = b"NDSEG/1\n"
SEGMENT_END_MAGIC: Final = b"NDSEGEND"
SEGMENT_HEADER_BYTES: Final = 72
SEGMENT_ENTRY_BYTES: Final = 64
SEGMENT_TRAILER_BYTES: Final = 96
SEGMENT_CHUNKS_MAX: Final = 1 << 20

DOMAIN_CHUNK: Final = b"netdump/1 chunk\n"
DOMAIN_START: Final = b"netdump/1 start\n"
DOMAIN_LINK: Final = b"netdump/1 link\n"
DOMAIN_ROOT: Final = b"netdump/1 root\n"
DOMAIN_ID: Final = b"netdump/1 id\n"


class MessageType(IntEnum):
    """What a frame is: bits 14..0 of its type. Spec: wire.md 4."""

    HELLO = 1
    RESUME = 2
    DEFER = 3
    DECLINE = 4
    HEADLINE = 5
    CHUNK = 6
    ACK = 7
    KEEPALIVE = 8
    FINISH = 9
    RECEIPT = 10
    ERROR = 11


class CodecId(IntEnum):
    """How a body or the data of a chunk is encoded. Spec: [W-51]."""

    STORED = 0
    ZSTD = 1


class _Slugged(IntEnum):
    """A code that has a name on the wire's pages: lower case, with hyphens."""

    @property
    def slug(self) -> str:
        """The name as registry.toml writes it."""
        return self.name.lower().replace("_", "-")


class DeclineCode(_Slugged):
    """Why a collector does not want a dump. Spec: wire.md 8."""

    NOT_OWNER = 1
    MISMATCH = 2
    TOO_LARGE = 3
    QUOTA = 4
    DAMAGED = 5


class ErrorCode(_Slugged):
    """Why a connection failed. Spec: wire.md 8."""

    BAD_FRAME = 1
    BAD_FIELD = 2
    UNEXPECTED_MESSAGE = 3
    UNKNOWN_CRITICAL = 4
    TOO_LARGE = 5
    BAD_ORDER = 6
    BAD_CODEC = 7
    BAD_DIGEST = 8
    BAD_ROOT = 9
    BAD_ACK = 10
    CREDIT_EXCEEDED = 11
    IDLE_TIMEOUT = 12
    FENCED = 13
    STORAGE = 14
    SHUTTING_DOWN = 15
    NOT_ALLOWED = 16
    INTERNAL = 17


ERROR_RETRYABLE: Final[Mapping[ErrorCode, bool]] = {
    ErrorCode.BAD_FRAME: False,
    ErrorCode.BAD_FIELD: False,
    ErrorCode.UNEXPECTED_MESSAGE: False,
    ErrorCode.UNKNOWN_CRITICAL: False,
    ErrorCode.TOO_LARGE: False,
    ErrorCode.BAD_ORDER: False,
    ErrorCode.BAD_CODEC: True,
    ErrorCode.BAD_DIGEST: True,
    ErrorCode.BAD_ROOT: True,
    ErrorCode.BAD_ACK: True,
    ErrorCode.CREDIT_EXCEEDED: False,
    ErrorCode.IDLE_TIMEOUT: True,
    ErrorCode.FENCED: True,
    ErrorCode.STORAGE: True,
    ErrorCode.SHUTTING_DOWN: True,
    ErrorCode.NOT_ALLOWED: False,
    ErrorCode.INTERNAL: True,
}

MESSAGE_PAYLOAD_MAX: Final[Mapping[MessageType, int]] = {
    **dict.fromkeys(MessageType, PAYLOAD_MAX),
    MessageType.HEADLINE: 0x80_1000,
    MessageType.CHUNK: 0x11_1000,
}


class Field(NamedTuple):
    """One field of a message or of the headline document.

    kind: ``u8 u16 u32 u64 text bytes`` or ``bytes:N``. allowed: the values an integer may have, the lengths that bytes
    may have; None: any that the kind can hold. Spec: wire.md 3 and 4.
    """

    id: int
    name: str
    kind: str
    required: bool = True
    critical: bool = True
    allowed: Container[int] | None = None


def _optional(number: int, name: str, kind: str, allowed: Container[int] | None = None) -> Field:
    """A field that may be missing and that an old peer may skip."""
    return Field(number, name, kind, required=False, critical=False, allowed=allowed)


def _within(low: int, high: int) -> range:
    """The values low to high, both included."""
    return range(low, high + 1)


_FLAG: Final = _within(0, 1)
_PAGE_SIZES: Final = frozenset({4096, 8192, 16384, 32768, 65536})

FIELDS: Final[Mapping[MessageType, tuple[Field, ...]]] = {
    MessageType.HELLO: (
        Field(1, "dump_id", "bytes:16"),
        Field(2, "image_bytes", "u64", allowed=_within(1, IMAGE_BYTES_MAX)),
        Field(3, "page_bytes", "u32", allowed=_PAGE_SIZES),
        Field(4, "level", "u8", allowed=_within(0, 31)),
        _optional(5, "agent", "text"),
        _optional(6, "attempt", "u32"),
        _optional(7, "drill", "u8", _FLAG),
    ),
    MessageType.RESUME: (
        Field(1, "offset", "u64", allowed=_within(0, IMAGE_BYTES_MAX)),
        Field(2, "chain", "bytes:32"),
        Field(3, "chunks", "u64"),
        Field(4, "headline", "u8", allowed=_FLAG),
        Field(5, "credit", "u32", allowed=_within(0, CREDIT_MAX)),
        Field(6, "keepalive", "u16", allowed=_within(KEEPALIVE_MIN, KEEPALIVE_MAX)),
        Field(7, "idle", "u16", allowed=_within(IDLE_MIN, IDLE_MAX)),
    ),
    MessageType.DEFER: (
        Field(1, "seconds", "u32", allowed=_within(DEFER_MIN, DEFER_MAX)),
        _optional(2, "text", "text"),
    ),
    MessageType.DECLINE: (Field(1, "code", "u16"), _optional(2, "text", "text")),
    MessageType.HEADLINE: (
        Field(1, "codec", "u8", allowed=frozenset(CodecId)),
        Field(2, "raw_bytes", "u32", allowed=_within(0, HEADLINE_RAW_MAX)),
        Field(3, "digest", "bytes:32"),
        Field(4, "body", "bytes"),
    ),
    MessageType.CHUNK: (
        Field(1, "offset", "u64"),
        Field(2, "length", "u32", allowed=_within(1, CHUNK_LENGTH_MAX)),
        Field(3, "runs", "bytes"),
        Field(4, "digest", "bytes:32"),
        Field(5, "codec", "u8", allowed=frozenset(CodecId)),
        Field(6, "data", "bytes"),
    ),
    MessageType.ACK: (
        Field(1, "offset", "u64"),
        _optional(2, "credit", "u32", _within(CREDIT_MIN, CREDIT_MAX)),
    ),
    MessageType.KEEPALIVE: (),
    MessageType.FINISH: (
        Field(1, "image_bytes", "u64"),
        Field(2, "chunks", "u64"),
        Field(3, "root", "bytes:32"),
        _optional(4, "remark", "text"),
    ),
    MessageType.RECEIPT: (Field(1, "root", "bytes:32"), Field(2, "document", "bytes", allowed=_within(1, RECEIPT_MAX))),
    MessageType.ERROR: (Field(1, "code", "u16"), _optional(2, "text", "text")),
}

HEADLINE_FIELDS: Final[tuple[Field, ...]] = (
    _optional(1, "ehdr", "bytes"),
    _optional(2, "phdrs", "bytes"),
    _optional(3, "notes", "bytes"),
    _optional(4, "vmcoreinfo", "bytes"),
    _optional(5, "log", "bytes"),
    _optional(6, "kernel_release", "text"),
    _optional(7, "kernel_version", "text"),
    _optional(8, "machine", "text"),
    _optional(9, "nodename", "text"),
    _optional(10, "crash_time", "u64"),
    _optional(11, "cpus", "u32"),
    _optional(12, "log_truncated", "u8"),
    _optional(13, "remark", "text"),
)
