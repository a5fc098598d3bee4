from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.wire import TEXT_MAX, MessageType, printable
from netdump.wire._fields import pack_fields, unpack_fields
from netdump.wire._registry import FIELDS, Field

PROPERTY = settings(derandomize=True, deadline=None, max_examples=300)
TABLE = (
    Field(1, "number", "u16", allowed=range(10)),
    Field(3, "name", "text", required=False, critical=False),
    Field(4, "exact", "bytes:4"),
    Field(9, "rest", "bytes", required=False, allowed=range(1, 3)),
)


def packed(*values: object) -> bytes:
    return b"".join(pack_fields(TABLE, values, "TEST"))


def test_both_ways() -> None:
    raw = packed(7, "é", b"abcd", b"x")
    assert raw.hex(" ") == (
        "80 01 00 00 00 02 00 07 00 03 00 00 00 02 c3 a9 80 04 00 00 00 04 61 62 63 64 80 09 00 00 00 01 78"
    )
    values = unpack_fields(TABLE, memoryview(raw), "TEST")
    assert values == [7, "é", b"abcd", b"x"]
    assert isinstance(values[2], bytes)
    assert isinstance(values[3], memoryview)


def test_missing_is_none() -> None:
    assert unpack_fields(TABLE, memoryview(packed(0, None, b"abcd", None)), "TEST") == [0, None, b"abcd", None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((None, None, b"abcd", None), "needs the field number"),
        ((10, None, b"abcd", None), "must not be 10"),
        ((-1, None, b"abcd", None), "cannot be"),
        ((65536, None, b"abcd", None), "cannot be"),
        (("7", None, b"abcd", None), "cannot be a str"),
        ((7, b"bytes", b"abcd", None), "cannot be a bytes"),
        ((7, "a\n", b"abcd", None), "control characters"),
        ((7, "\ud800", b"abcd", None), "not UTF-8"),
        ((7, "x" * 1025, b"abcd", None), "has 1025 bytes"),
        ((7, None, b"abc", None), "has 3 bytes, not 4"),
        ((7, None, "abcd", None), "cannot be a str"),
        ((7, None, b"abcd", b""), "must not be 0"),
    ],
)
def test_what_may_not_be_sent(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message) as caught:
        packed(*values)
    assert caught.value.reason == "bad-field"


@PROPERTY
@given(st.sampled_from(MessageType), st.binary(max_size=80))
def test_any_payload_is_read_or_a_breach(number: MessageType, payload: bytes) -> None:
    try:
        values = unpack_fields(FIELDS[number], memoryview(payload), number.name)
    except RemoteProtocolError:
        return
    assert len(values) == len(FIELDS[number])


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 70), st.booleans(), st.binary(max_size=5)), max_size=70))
def test_any_fields_are_read_or_a_breach(fields: list[tuple[int, bool, bytes]]) -> None:
    """The syntax alone decides first, then unknown critical fields."""
    payload = b"".join(
        (number | critical << 15).to_bytes(2, "big") + len(raw).to_bytes(4, "big") + raw
        for number, critical, raw in fields
    )
    ids = [number for number, _, _ in fields]
    expected = ""
    if len(fields) > 64 and sorted(set(ids[:64])) == ids[:64]:
        expected = "too-large"
    elif sorted(set(ids)) != ids:
        expected = "bad-frame"
    elif any(critical for _, critical, _ in fields):
        expected = "unknown-critical"
    try:
        values = unpack_fields((), memoryview(payload), "TEST")
    except RemoteProtocolError as error:
        assert error.reason == expected  # noqa: PT017 - either may happen
    else:
        assert (values, expected) == ([], "")


@PROPERTY
@given(st.text(max_size=2000))
def test_printable_may_always_be_sent(text: str) -> None:
    shown = printable(text)
    assert len(shown.encode()) <= TEXT_MAX
    raw = packed(7, shown, b"abcd", None)
    assert unpack_fields(TABLE, memoryview(raw), "TEST")[1] == shown


def test_printable() -> None:
    assert printable("plain é") == "plain é"
    assert printable("two\nlines\x1b[2J\x85") == "two lines [2J "
    assert printable("\ud800") == "?"
    assert printable("é" * 600) == "é" * 512
    assert printable("x" + "é" * 600) == "x" + "é" * 511
