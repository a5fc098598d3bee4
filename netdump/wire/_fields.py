"""The field syntax: a payload, or the headline document, <-> the values of a table of fields (wire.md 3).

Owns everything that is true of any payload. Must not know which message it reads.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.wire._registry import CRITICAL_BIT, FIELD_HEADER_BYTES, FIELDS_MAX, TEXT_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.wire._messages import Buffer
    from netdump.wire._registry import Field

Value = int | str | bytes | memoryview
"""What a field holds: int for u8 to u64, str for text, bytes for bytes:N, a view into the payload for bytes."""

_HEADER: Final = struct.Struct(">HI")
_INTEGER_BYTES: Final = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")

_Raw = tuple[int, int, int]  # type word, start and end of the value


def _split(payload: memoryview) -> list[_Raw]:
    """Where the fields of a payload stand. Raises RemoteProtocolError (bad-frame, too-large). Spec: [W-14]."""
    fields: list[_Raw] = []
    position, before = 0, -1
    while position < len(payload):
        if len(fields) == FIELDS_MAX:
            raise RemoteProtocolError("too-large", f"more than {FIELDS_MAX} fields in one payload")
        start = position + FIELD_HEADER_BYTES
        if start > len(payload):
            raise RemoteProtocolError("bad-frame", "the payload ends inside a field header")
        word, size = _HEADER.unpack_from(payload, position)
        number = word & ~CRITICAL_BIT
        if number <= before:
            raise RemoteProtocolError("bad-frame", f"field {number} stands after field {before}")
        if size > len(payload) - start:
            raise RemoteProtocolError("bad-frame", f"field {number} ends after its payload")
        position, before = start + size, number
        fields.append((word, start, position))
    return fields


def unpack_fields(table: Sequence[Field], payload: memoryview, name: str) -> list[Value | None]:
    """The values of a payload, one for each field of the table, in its order; None where a field is missing.

    name: of the message, for error texts. Raises RemoteProtocolError in the order of [W-20].
    """
    known = {field.id: place for place, field in enumerate(table)}
    values: list[Value | None] = [None] * len(table)
    for word, start, end in _split(payload):
        number = word & ~CRITICAL_BIT
        place = known.get(number)
        if place is not None:
            values[place] = _unpack_value(table[place], payload[start:end], name)
        elif word & CRITICAL_BIT:
            raise RemoteProtocolError("unknown-critical", f"{name} has an unknown critical field {number}")
    for field, value in zip(table, values, strict=True):
        if field.required and value is None:
            raise RemoteProtocolError("bad-field", f"{name} lacks the field {field.name}")
    return values


def _unpack_value(field: Field, raw: memoryview, name: str) -> Value:
    """One value, checked for size, form and range. Spec: [W-15], [W-16], [W-19]."""
    value: Value
    integer = _INTEGER_BYTES.get(field.kind)
    if integer is not None:
        if len(raw) != integer:
            raise RemoteProtocolError("bad-field", f"{name}.{field.name} has {len(raw)} bytes, not {integer}")
        value = measure = int.from_bytes(raw, "big")
    elif field.kind == "text":
        return _unpack_text(raw, f"{name}.{field.name}")
    else:
        value, measure = raw, len(raw)
        if field.kind != "bytes":
            exact = int(field.kind.removeprefix("bytes:"))
            if len(raw) != exact:
                raise RemoteProtocolError("bad-field", f"{name}.{field.name} has {len(raw)} bytes, not {exact}")
            value = bytes(raw)
    if field.allowed is not None and measure not in field.allowed:
        raise RemoteProtocolError("bad-field", f"{name}.{field.name} must not be {measure}")
    return value


def _unpack_text(raw: memoryview, name: str) -> str:
    """A text. Spec: [W-16]."""
    if len(raw) > TEXT_MAX:
        raise RemoteProtocolError("bad-field", f"{name} has {len(raw)} bytes, allowed are {TEXT_MAX}")
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("bad-field", f"{name} is not UTF-8") from None
    if _CONTROL.search(text):
        raise RemoteProtocolError("bad-field", f"{name} has control characters")
    return text


def pack_fields(table: Sequence[Field], values: Sequence[object], name: str) -> list[Buffer]:
    """The payload as pieces to be joined, for the values of the table's fields, in its order; None leaves a field out.

    Raises LocalProtocolError for a value that unpack_fields would refuse.
    """
    pieces: list[Buffer] = []
    for field, value in zip(table, values, strict=True):
        if value is None:
            if field.required:
                raise LocalProtocolError("bad-field", f"{name} needs the field {field.name}")
            continue
        raw = _pack_value(field, value, name)
        try:
            _unpack_value(field, memoryview(raw), name)
        except RemoteProtocolError as error:
            raise LocalProtocolError(error.reason, str(error)) from None
        pieces.append(_HEADER.pack(field.id | (CRITICAL_BIT if field.critical else 0), len(raw)))
        pieces.append(raw)
    return pieces


def _pack_value(field: Field, value: object, name: str) -> Buffer:
    """The bytes of one value. Raises LocalProtocolError (bad-field) if it is of another kind than the field."""
    integer = _INTEGER_BYTES.get(field.kind)
    if integer is not None and isinstance(value, int) and 0 <= value < 1 << 8 * integer:
        return int(value).to_bytes(integer, "big")
    if field.kind == "text" and isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if field.kind.startswith("bytes") and isinstance(value, bytes | bytearray | memoryview):
        return value
    raise LocalProtocolError("bad-field", f"{name}.{field.name} cannot be a {type(value).__name__} of this value")


def printable(text: str) -> str:
    """A text that may be sent: without control characters and lone surrogates, at most TEXT_MAX bytes. Spec: [W-16]."""
    raw = _CONTROL.sub(" ", text).encode("utf-8", "replace")
    return raw[:TEXT_MAX].decode("utf-8", "ignore")
