"""Frames: a message <-> its bytes (wire.md 3 and 4).

Owns the frame header and what a message must be as a whole. Must not know what was sent before: order, credit and
states belong to the connection.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.namedtuple import NamedTuple
from netdump.wire._fields import pack_fields, unpack_fields
from netdump.wire._messages import CLASS_OF, TYPE_OF, Chunk, Decline, Error, Headline, Hello, Resume
from netdump.wire._registry import (
    CREDIT_MIN,
    CRITICAL_BIT,
    FIELDS,
    FRAME_HEADER_BYTES,
    MESSAGE_PAYLOAD_MAX,
    PAYLOAD_MAX,
    CodecId,
    DeclineCode,
    ErrorCode,
    MessageType,
)
from netdump.wire._runs import check_runs

if TYPE_CHECKING:
    from netdump.wire._messages import Buffer, Message

FRAME_MAX: Final = FRAME_HEADER_BYTES + max(MESSAGE_PAYLOAD_MAX.values())
"""Bytes of the longest frame there is."""

_HEADER: Final = struct.Struct(">HHI")
_KNOWN: Final = {int(number): number for number in MessageType}
_DECLINES: Final = {int(code): code for code in DeclineCode}
_ERRORS: Final = {int(code): code for code in ErrorCode}


class FrameHeader(NamedTuple):
    """A frame header that is in order. type: None for an unknown message, to be skipped. length: of the payload."""

    type: MessageType | None
    length: int


def unpack_header(raw: Buffer) -> FrameHeader:
    """Read a frame header; raw: exactly 8 bytes. Raises RemoteProtocolError. Spec: [W-11] to [W-13], [W-18]."""
    word, reserved, length = _HEADER.unpack(raw)
    number = word & ~CRITICAL_BIT
    known = _KNOWN.get(number)
    if known is None and word & CRITICAL_BIT:
        raise RemoteProtocolError("unknown-critical", f"unknown critical message {number}")
    if reserved:
        raise RemoteProtocolError("bad-frame", "reserved bits of a frame header are set")
    limit = PAYLOAD_MAX if known is None else MESSAGE_PAYLOAD_MAX[known]
    if length > limit:
        raise RemoteProtocolError("too-large", f"a payload of {length} bytes for message {number}, allowed are {limit}")
    return FrameHeader(known, length)


def unpack(frame: Buffer) -> Message:
    """The message of exactly one whole frame. A Chunk keeps the frame and its data is a view into it.

    Raises RemoteProtocolError; an unknown message that a connection would skip is unexpected-message here.
    """
    if len(frame) < FRAME_HEADER_BYTES:
        raise RemoteProtocolError("bad-frame", "the frame ends inside its header")
    header = unpack_header(frame[:FRAME_HEADER_BYTES])
    if len(frame) != FRAME_HEADER_BYTES + header.length:
        raise RemoteProtocolError("bad-frame", f"{len(frame)} bytes are not one frame of {header.length} bytes payload")
    if header.type is None:
        raise RemoteProtocolError("unexpected-message", "an unknown message, which can only be skipped")
    return unpack_measured(header.type, frame)[0]


def unpack_measured(number: MessageType, frame: Buffer) -> tuple[Message, int]:
    """The message of a whole frame whose header is in order, and the bytes of raw data it calls for (check_message).

    Raises RemoteProtocolError in the order of [W-20].
    """
    payload = memoryview(frame)[FRAME_HEADER_BYTES:]
    values: list[Any] = unpack_fields(FIELDS[number], payload, number.name)
    if number is MessageType.CHUNK:
        offset, length, table, digest, codec, data = values
        message: Message = Chunk(offset, length, bytes(table), digest, CodecId(codec), data, frame)
    else:
        message = _build(number, values)
    return message, check_message(message)


def _build(number: MessageType, values: list[Any]) -> Message:
    """A message other than CHUNK from the values of its fields; missing ones get their default."""
    shape = CLASS_OF[number]
    for place, name in enumerate(shape._fields):
        if values[place] is None:
            values[place] = shape._field_defaults[name]
        elif isinstance(values[place], memoryview):
            values[place] = bytes(values[place])
    message = shape._make(values)
    match message:
        case Hello():
            return message._replace(drill=bool(message.drill))
        case Resume():
            return message._replace(headline=bool(message.headline))
        case Decline():
            return message._replace(code=_DECLINES.get(message.code, message.code))
        case Headline():
            return message._replace(codec=CodecId(message.codec))
        case Error():
            return message._replace(code=_ERRORS.get(message.code, ErrorCode.INTERNAL))
        case _:
            return message


def check_message(message: Message) -> int:
    """Check what a message must be as a whole, fields being in order; return the bytes of raw data of a chunk, or 0.

    Chunk data and headline bodies that are compressed are not looked into: that is work for another thread.
    Raises RemoteProtocolError.
    """
    match message:
        case Resume():
            if (message.chunks == 0) != (message.offset == 0) or message.chunks > message.offset:  # [W-35]
                raise RemoteProtocolError("bad-field", f"{message.chunks} chunks before offset {message.offset}")
            if 0 < message.credit < CREDIT_MIN:  # [W-37]
                raise RemoteProtocolError("bad-field", f"a credit of {message.credit} bytes")
            if message.idle < 3 * message.keepalive:
                raise RemoteProtocolError("bad-field", f"idle {message.idle} s is less than 3 times keepalive")
        case Headline():
            if message.codec == CodecId.STORED and len(message.body) != message.raw_bytes:  # [W-42]
                raise RemoteProtocolError("bad-codec", f"a stored headline is not of {message.raw_bytes} bytes")
        case Chunk():
            return _check_chunk(message)
        case _:
            pass
    return 0


def _check_chunk(chunk: Chunk) -> int:
    """The run table, and what [W-51] says without a look into compressed data."""
    raw_bytes = check_runs(chunk.table, chunk.offset, chunk.length)
    if chunk.codec == CodecId.STORED:
        if len(chunk.data) != raw_bytes:
            raise RemoteProtocolError("bad-codec", f"{len(chunk.data)} stored bytes for {raw_bytes} of raw data")
    elif raw_bytes == 0:
        raise RemoteProtocolError("bad-codec", "a chunk without raw data has compressed data")
    return raw_bytes


def pack(message: Message) -> bytes:
    """The frame of a message, in the one form that this library sends: optional fields at their default are left out.

    Raises LocalProtocolError for a message that unpack would refuse.
    """
    return b"".join(pack_measured(message)[0])


def pack_measured(message: Message) -> tuple[tuple[bytes, Buffer], int]:
    """What pack returns, in two parts, and the bytes of raw data of a chunk, or 0. Raises LocalProtocolError.

    The second part is the value of the last field as the message has it: of a chunk its data, not copied.
    """
    number = TYPE_OF[type(message)]
    table = FIELDS[number]
    values: list[object] = list(message[: len(table)])
    for place, field in enumerate(table):
        if not field.required and values[place] == message._field_defaults[message._fields[place]]:
            values[place] = None
    pieces = pack_fields(table, values, number.name)
    try:
        raw_bytes = check_message(message)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.reason, str(error)) from None
    length = sum(map(len, pieces))
    if length > MESSAGE_PAYLOAD_MAX[number]:
        raise LocalProtocolError("too-large", f"a payload of {length} bytes for {number.name}")
    last = pieces.pop() if pieces else b""
    return (b"".join((_HEADER.pack(number | CRITICAL_BIT, 0, length), *pieces)), last), raw_bytes
