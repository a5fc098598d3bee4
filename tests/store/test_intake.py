"""A chunk or headline that does not decode, or has another digest, is not taken ([W-42], [W-51] to [W-53])."""

from __future__ import annotations

import hashlib

import pytest

from netdump.codec import Compressor
from netdump.errors import RemoteProtocolError
from netdump.pages import PageState, Run
from netdump.store.intake import verify_chunk, verify_headline
from netdump.testing.sample_dump import SampleDump, received_chunk
from netdump.wire import HEADLINE_RAW_MAX, CodecId, Headline

SAMPLE = SampleDump()
RAW = bytes(range(256)) * 16


@pytest.mark.parametrize("codec", CodecId)
def test_raw_data_comes_back(codec: CodecId) -> None:
    chunk = received_chunk(0, [Run(PageState.DATA, len(RAW)), Run(PageState.ZERO, 10)], RAW, codec)
    assert bytes(verify_chunk(chunk)) == RAW


def test_stored_data_is_not_copied() -> None:
    chunk = received_chunk(0, [Run(PageState.DATA, len(RAW))], RAW, CodecId.STORED)
    assert verify_chunk(chunk) is chunk.data


def test_a_chunk_without_data() -> None:
    assert bytes(verify_chunk(received_chunk(0, [Run(PageState.ZERO, 10)], b""))) == b""


def test_every_field_is_under_the_digest() -> None:
    chunk = received_chunk(4096, [Run(PageState.DATA, len(RAW)), Run(PageState.ZERO, 10)], RAW, CodecId.STORED)
    other = received_chunk(4096, [Run(PageState.DATA, len(RAW)), Run(PageState.LOST, 10)], RAW)
    for changed in (
        chunk._replace(offset=0),
        chunk._replace(length=5),
        chunk._replace(table=other.table),
        chunk._replace(digest=bytes(32)),
        chunk._replace(data=RAW[:-1] + b"x"),
    ):
        with pytest.raises(RemoteProtocolError) as error:
            verify_chunk(changed)
        assert error.value.reason == "bad-digest"


def test_data_that_does_not_decode() -> None:
    chunk = received_chunk(0, [Run(PageState.DATA, len(RAW))], RAW, CodecId.ZSTD)
    for data in (b"", b"junk", bytes(chunk.data)[:-1], bytes(chunk.data) + b"x", Compressor(1).compress(RAW[:-1])):
        with pytest.raises(RemoteProtocolError, match="image offset 0") as error:
            verify_chunk(chunk._replace(data=data))
        assert error.value.reason == "bad-codec"


def headline(raw: bytes, codec: CodecId) -> Headline:
    body = raw if codec is CodecId.STORED else Compressor(3).compress(raw)
    return Headline(codec, len(raw), hashlib.sha256(raw).digest(), body)


@pytest.mark.parametrize("codec", CodecId)
@pytest.mark.parametrize("raw", [b"", SAMPLE.headline])
def test_a_headline(codec: CodecId, raw: bytes) -> None:
    assert verify_headline(headline(raw, codec)) == raw


def test_a_headline_of_the_largest_size() -> None:
    log = bytes([128 + 5, 5]) + (HEADLINE_RAW_MAX - 6).to_bytes(4, "big")
    raw = b"\0\5" + log[2:] + b"x" * (HEADLINE_RAW_MAX - 6)
    assert len(raw) == HEADLINE_RAW_MAX
    assert verify_headline(headline(raw, CodecId.ZSTD)) == raw


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": bytes(32)}, "bad-digest"),
        ({"raw_bytes": 1}, "bad-codec"),
        ({"body": b"junk"}, "bad-codec"),
    ],
)
@pytest.mark.parametrize("codec", CodecId)
def test_a_bad_headline(codec: CodecId, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        verify_headline(headline(SAMPLE.headline, codec)._replace(**changes))  # type: ignore[arg-type]
    assert error.value.reason == reason


def test_a_headline_that_is_no_document() -> None:
    with pytest.raises(RemoteProtocolError) as error:
        verify_headline(headline(b"no fields", CodecId.STORED))
    assert error.value.reason == "bad-frame"
