from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.pages import PageState, Run
from netdump.wire import (
    CHUNK_DATA_MAX,
    FRAME_MAX,
    HEADLINE_RAW_MAX,
    Chunk,
    CodecId,
    Decline,
    Error,
    ErrorCode,
    FrameHeader,
    Headline,
    Message,
    MessageType,
    Receipt,
    pack,
    pack_runs,
    unpack,
    unpack_header,
)
from tests.wire.examples import EXAMPLES, FIRST, HEADLINE, RECEIPT, messages

PROPERTY = settings(derandomize=True, deadline=None, max_examples=300)


def bare(message: Message) -> Message:
    """A message without the frame it came in."""
    return message._replace(frame=b"") if isinstance(message, Chunk) else message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_both_ways(message: Message) -> None:
    frame = pack(message)
    assert bare(unpack(frame)) == message
    assert bare(unpack(memoryview(frame))) == message
    assert pack(unpack(frame)) == frame
    assert unpack_header(frame[:8]) == FrameHeader(MessageType[type(message).__name__.upper()], len(frame) - 8)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_neither_less_nor_more_than_a_frame(message: Message) -> None:
    frame = pack(message)
    for other in [frame[:size] for size in range(len(frame))] + [frame + b"\0", frame + frame]:
        with pytest.raises(RemoteProtocolError) as caught:
            unpack(other)
        assert caught.value.reason == "bad-frame"


def test_an_unknown_frame_can_only_be_skipped() -> None:
    frame = bytes.fromhex("7f00 0000 00000000")
    assert unpack_header(frame) == FrameHeader(None, 0)
    with pytest.raises(RemoteProtocolError) as caught:
        unpack(frame)
    assert caught.value.reason == "unexpected-message"


def test_a_chunk_keeps_its_frame() -> None:
    frame = pack(FIRST)
    for given_as in (frame, bytearray(frame)):
        for form in (given_as, memoryview(given_as)):
            got = unpack(form)
            assert isinstance(got, Chunk)
            assert got.frame is form
            assert isinstance(got.data, memoryview)
            assert got.data.obj is given_as


@pytest.mark.parametrize("message", [HEADLINE, RECEIPT])
def test_other_messages_keep_nothing_of_their_frame(message: Message) -> None:
    """Its memory will hold another one."""
    frame = bytearray(pack(message))
    kept = unpack(frame)
    frame[:] = bytes(len(frame))
    assert kept == message


def test_codes() -> None:
    frame = bytearray(pack(Error(ErrorCode.BAD_FRAME)))
    frame[-1] = 99
    assert unpack(frame) == Error(ErrorCode.INTERNAL)
    assert unpack(pack(Decline(99))) == Decline(99)


@PROPERTY
@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_breach(frame: bytes) -> None:
    try:
        message = unpack(frame)
    except RemoteProtocolError:
        return
    assert isinstance(message, Message)


@PROPERTY
@given(st.sampled_from(EXAMPLES).map(pack), st.data())
def test_any_change_is_a_message_or_a_breach(frame: bytes, data: st.DataObject) -> None:
    """What is accepted is packed again as what is the same message."""
    at = data.draw(st.integers(0, len(frame) - 1))
    other = frame[:at] + data.draw(st.binary(min_size=1, max_size=3)) + frame[at + 1 :]
    try:
        message = unpack(other)
    except RemoteProtocolError:
        return
    assert bare(unpack(pack(message))) == bare(message)


@PROPERTY
@given(messages)
def test_what_is_packed_is_unpacked(message: Message) -> None:
    try:
        frame = pack(message)
    except LocalProtocolError:
        return
    assert bare(unpack(frame)) == message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (FIRST._replace(length=501), "bad-field"),
        (FIRST._replace(data=b""), "bad-codec"),
        (Receipt(bytes(32), bytes(16385)), "bad-field"),
        (Headline(CodecId.STORED, 1, bytes(32), b""), "bad-codec"),
        (Headline(CodecId.ZSTD, 1, bytes(32), bytes(0x80_1000)), "too-large"),
        (FIRST._replace(codec=CodecId.ZSTD, data=bytes(0x11_1000)), "too-large"),
    ],
)
def test_what_may_not_be_sent(message: Message, reason: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        pack(message)
    assert caught.value.reason == reason


def test_the_largest() -> None:
    """Data that does not shrink fits with a full run table and what zstd may add."""
    table = pack_runs([Run(PageState.DATA, CHUNK_DATA_MAX // 2048), Run(PageState.LOST, 1)] * 2048)
    length = CHUNK_DATA_MAX + 2048
    chunk = Chunk(0, length, table, bytes(32), CodecId.ZSTD, os.urandom(CHUNK_DATA_MAX + CHUNK_DATA_MAX // 200))
    assert bare(unpack(pack(chunk))) == chunk
    headline = Headline(CodecId.STORED, HEADLINE_RAW_MAX, bytes(32), bytes(HEADLINE_RAW_MAX))
    frame = pack(headline)
    assert unpack(frame) == headline
    assert len(frame) <= FRAME_MAX
