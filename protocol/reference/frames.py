"""Frames, fields and messages as in wire.md sections 3, 4 and 8: what one message says by itself.

Knows nothing of the messages before (connection.py) and does not look into runs and data of a chunk (chunks.py).
The numbers are those of the prose, written again, so that a test can hold them against registry.toml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CRITICAL = 0x8000
HEADER_BYTES = 8
FIELD_HEADER_BYTES = 6
PAYLOAD_MAX = 65_536
FIELDS_MAX = 64
TEXT_MAX = 1_024
MIB = 1 << 20
IMAGE_MAX = 1 << 52
U32_MAX = (1 << 32) - 1
U64_MAX = (1 << 64) - 1

FENCED = 13
ERRORS = {
    1: "bad-frame", 2: "bad-field", 3: "unexpected-message", 4: "unknown-critical", 5: "too-large", 6: "bad-order",
    7: "bad-codec", 8: "bad-digest", 9: "bad-root", 10: "bad-ack", 11: "credit-exceeded", 12: "idle-timeout",
    FENCED: "fenced", 14: "storage", 15: "shutting-down", 16: "not-allowed", 17: "internal",
}  # fmt: skip
DECLINES = {1: "not-owner", 2: "mismatch", 3: "too-large", 4: "quota", 5: "damaged"}

Value = int | str | bytes


class WireError(Exception):
    """The connection has failed; code is a name of ERRORS, rule the requirement that was broken."""

    def __init__(self, code: str, rule: str, why: str) -> None:
        super().__init__(f"{code} [{rule}]: {why}")
        self.code, self.rule = code, rule


class Field(NamedTuple):
    """A known field. kind: u8 .. u64, bytes:N, bytes or text; low and high bound a number, or the size of bytes."""

    name: str
    kind: str
    low: int = 0
    high: int = U64_MAX
    required: bool = True
    power_of_two: bool = False

    @property
    def critical(self) -> bool:
        """Whether a sender marks it so: all required fields are, no optional one is."""
        return self.required


class Kind(NamedTuple):
    """A known message: its name, who sends it, its limit and its fields by id."""

    name: str
    sender: str
    fields: Mapping[int, Field]
    payload_max: int = PAYLOAD_MAX


class Header(NamedTuple):
    """A frame header that was accepted; kind is None for an unknown message that is to be skipped."""

    kind: Kind | None
    length: int


class Message(NamedTuple):
    """A decoded message; fields that were absent or unknown are not in values."""

    kind: Kind
    values: Mapping[str, Value]

    def number(self, field: str) -> int:
        """Value of an integer field that is there."""
        value = self.values[field]
        assert isinstance(value, int)
        return value

    def octets(self, field: str) -> bytes:
        """Value of a field of bytes that is there."""
        value = self.values[field]
        assert isinstance(value, bytes)
        return value


def _fields(*fields: Field) -> dict[int, Field]:
    return dict(enumerate(fields, start=1))


_TEXT = Field("text", "text", required=False)
_CODEC = Field("codec", "u8", 0, 1)

HELLO = Kind("HELLO", "client", _fields(
    Field("dump_id", "bytes:16"),
    Field("image_bytes", "u64", 1, IMAGE_MAX),
    Field("page_bytes", "u32", 4_096, 65_536, power_of_two=True),
    Field("level", "u8", 0, 31),
    Field("agent", "text", required=False),
    Field("attempt", "u32", required=False),
    Field("drill", "u8", 0, 1, required=False),
))  # fmt: skip
_RESUME_OFFSET = Field("offset", "u64", 0, IMAGE_MAX)
_RESUME_IDLE = Field("idle", "u16", 3, 600)
RESUME = Kind("RESUME", "collector", _fields(
    _RESUME_OFFSET,
    Field("chain", "bytes:32"),
    Field("chunks", "u64"),
    Field("headline", "u8", 0, 1),
    Field("credit", "u32", 0, 256 * MIB),
    Field("keepalive", "u16", 1, 60),
    _RESUME_IDLE,
))  # fmt: skip
DEFER = Kind("DEFER", "collector", _fields(Field("seconds", "u32", 1, 86_400), _TEXT))
DECLINE = Kind("DECLINE", "collector", _fields(Field("code", "u16"), _TEXT))
HEADLINE = Kind("HEADLINE", "client", _fields(
    _CODEC,
    Field("raw_bytes", "u32", 0, 8 * MIB),
    Field("digest", "bytes:32"),
    Field("body", "bytes"),
), payload_max=0x80_1000)  # fmt: skip
CHUNK = Kind("CHUNK", "client", _fields(
    Field("offset", "u64"),
    Field("length", "u32", 1, 1 << 30),
    Field("runs", "bytes"),
    Field("digest", "bytes:32"),
    _CODEC,
    Field("data", "bytes"),
), payload_max=0x11_1000)  # fmt: skip
ACK = Kind("ACK", "collector", _fields(Field("offset", "u64"), Field("credit", "u32", 2 * MIB, 256 * MIB, False)))
KEEPALIVE = Kind("KEEPALIVE", "both", {})
FINISH = Kind("FINISH", "client", _fields(
    Field("image_bytes", "u64"),
    Field("chunks", "u64"),
    Field("root", "bytes:32"),
    Field("remark", "text", required=False),
))  # fmt: skip
RECEIPT = Kind("RECEIPT", "collector", _fields(Field("root", "bytes:32"), Field("document", "bytes", 1, 16_384)))
ERROR = Kind("ERROR", "both", _fields(Field("code", "u16"), _TEXT))

MESSAGES = dict(
    enumerate((HELLO, RESUME, DEFER, DECLINE, HEADLINE, CHUNK, ACK, KEEPALIVE, FINISH, RECEIPT, ERROR), start=1)
)

HEADLINE_DOCUMENT = _fields(*(
    Field(name, kind, required=False)
    for name, kind in (
        ("ehdr", "bytes"), ("phdrs", "bytes"), ("notes", "bytes"), ("vmcoreinfo", "bytes"), ("log", "bytes"),
        ("kernel_release", "text"), ("kernel_version", "text"), ("machine", "text"), ("nodename", "text"),
        ("crash_time", "u64"), ("cpus", "u32"), ("log_truncated", "u8"), ("remark", "text"),
    )
))  # fmt: skip


def read_header(header: bytes) -> Header:
    """Judge the 8 bytes of a frame header, before any of the payload is awaited [W-12] [W-13] [W-18].

    The order is that of [W-20]: type, reserved, length. Raises WireError.
    """
    number = int.from_bytes(header[0:2], "big")
    kind = MESSAGES.get(number & ~CRITICAL)
    if kind is None and number & CRITICAL:
        raise WireError("unknown-critical", "W-18", f"message type {number & ~CRITICAL} is not known")
    if header[2:4] != b"\0\0":
        raise WireError("bad-frame", "W-12", "reserved is not 0")
    length = int.from_bytes(header[4:8], "big")
    limit = kind.payload_max if kind else PAYLOAD_MAX
    if length > limit:
        raise WireError("too-large", "W-13", f"a payload of {length} bytes, {limit} are allowed")
    return Header(kind, length)


def iter_fields(payload: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Give id, critical and value of each field of payload, in order [W-14]. Raises WireError, possibly between two."""
    position, last, count = 0, -1, 0
    while position < len(payload):
        count += 1
        if count > FIELDS_MAX:
            raise WireError("too-large", "W-14", f"more than {FIELDS_MAX} fields")
        if position + FIELD_HEADER_BYTES > len(payload):
            raise WireError("bad-frame", "W-14", "a field header is cut")
        number = int.from_bytes(payload[position : position + 2], "big")
        length = int.from_bytes(payload[position + 2 : position + 6], "big")
        position += FIELD_HEADER_BYTES
        if number & ~CRITICAL <= last:
            raise WireError("bad-frame", "W-14", f"field {number & ~CRITICAL} does not ascend")
        if length > len(payload) - position:
            raise WireError("bad-frame", "W-14", f"field {number & ~CRITICAL} does not end within the payload")
        yield number & ~CRITICAL, bool(number & CRITICAL), payload[position : position + length]
        position, last = position + length, number & ~CRITICAL


def read_fields(payload: bytes, known: Mapping[int, Field], image_bytes: int = IMAGE_MAX) -> dict[str, Value]:
    """Decode the fields of payload: first the syntax of all, then each by its id, then who is missing [W-20].

    image_bytes: size of the image, a bound of RESUME's offset. Raises WireError.
    """
    values: dict[str, Value] = {}
    for number, critical, raw in list(iter_fields(payload)):
        field = known.get(number)
        if field is not None:
            value = values[field.name] = _read_value(field, raw)
            _check_tied(field, value, values, image_bytes)
        elif critical:
            raise WireError("unknown-critical", "W-17", f"field {number} is not known")
    for field in known.values():
        if field.required and field.name not in values:
            raise WireError("bad-field", "W-19", f"{field.name} is missing")
    return values


def _read_value(field: Field, raw: bytes) -> Value:
    """Decode one value by the kind of its field, and hold it against its range [W-15] [W-16] [W-19]."""
    if field.kind == "text":
        return read_text(field.name, raw)
    kind, _, size = field.kind.partition(":")
    if kind == "bytes":
        if size and len(raw) != int(size):
            raise WireError("bad-field", "W-15", f"{field.name} has {len(raw)} bytes instead of {size}")
        if not field.low <= len(raw) <= field.high:
            raise WireError("bad-field", "W-19", f"{field.name} has {len(raw)} bytes")
        return raw
    if len(raw) * 8 != int(kind[1:]):
        raise WireError("bad-field", "W-15", f"{field.name} has {len(raw)} bytes as a {kind}")
    number = int.from_bytes(raw, "big")
    if not field.low <= number <= field.high or (field.power_of_two and number.bit_count() != 1):
        raise WireError("bad-field", "W-19", f"{field.name} is {number}")
    return number


def _check_tied(field: Field, value: Value, values: Mapping[str, Value], image_bytes: int) -> None:
    """Hold a value against the bounds of its table that are not numbers: image_bytes and keepalive (wire.md 4.2)."""
    if field is _RESUME_OFFSET and value > image_bytes:  # type: ignore[operator]
        raise WireError("bad-field", "W-19", f"offset {value!r} is beyond the image")
    if field is _RESUME_IDLE and value < 3 * values.get("keepalive", 0):  # type: ignore[operator]
        raise WireError("bad-field", "W-19", f"idle {value!r} is less than 3 times keepalive")


def read_text(name: str, raw: bytes) -> str:
    """A text by [W-16], or WireError."""
    if len(raw) > TEXT_MAX:
        raise WireError("bad-field", "W-16", f"{name} has {len(raw)} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("bad-field", "W-16", f"{name} is not UTF-8") from error
    if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in text):
        raise WireError("bad-field", "W-16", f"{name} holds control characters")
    return text


def read_message(kind: Kind, payload: bytes, image_bytes: int = IMAGE_MAX) -> Message:
    """Decode the payload of a known message for an image of image_bytes. Raises WireError.

    What is left for connection.py, chunks.py and check_resume are the rules of the message as a whole [W-20].
    """
    return Message(kind, read_fields(payload, kind.fields, image_bytes))


def iter_messages(stream: bytes) -> Iterator[Message | Header]:
    """Decode the frames of one direction one by one; a skipped unknown one is given as its Header.

    Raises WireError, or EOFError for a stream that ends within a frame [W-76].
    """
    position = 0
    while position < len(stream):
        if position + HEADER_BYTES > len(stream):
            raise EOFError("the stream ends within a frame header")
        header = read_header(stream[position : position + HEADER_BYTES])
        position += HEADER_BYTES
        if position + header.length > len(stream):
            raise EOFError("the stream ends within a payload")
        payload = stream[position : position + header.length]
        position += header.length
        yield read_message(header.kind, payload) if header.kind else header


def check_resume(resume: Message) -> None:
    """Hold the chunks of a RESUME against its offset: none exactly at 0, and no more than bytes [W-35]."""
    offset, chunks = resume.number("offset"), resume.number("chunks")
    if (chunks == 0) != (offset == 0) or chunks > offset:
        raise WireError("bad-field", "W-35", f"{chunks} chunks before offset {offset}")
    if 0 < resume.number("credit") < 2 * MIB:
        raise WireError("bad-field", "W-37", f"a credit of {resume.number('credit')}")


def error_name(code: int) -> str:
    """Name of an ERROR code; unknown ones are internal [W-71]."""
    return ERRORS.get(code, "internal")


def decline_name(code: int) -> str:
    """Name of a DECLINE code; an unknown one says no more than that the dump is declined [W-39]."""
    return DECLINES.get(code, "unknown")
