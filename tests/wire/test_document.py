from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.wire import HEADLINE_RAW_MAX, HeadlineDocument, pack_document, unpack_document

PROPERTY = settings(derandomize=True, deadline=None, max_examples=300)
texts = st.one_of(st.none(), st.text(max_size=20))
binaries = st.one_of(st.none(), st.binary(max_size=40))

documents = st.builds(
    HeadlineDocument,
    *[binaries] * 5,
    *[texts] * 4,
    st.one_of(st.none(), st.integers(0, 1 << 65)),
    st.one_of(st.none(), st.integers(0, 1 << 33)),
    st.one_of(st.none(), st.booleans()),
    texts,
)


@PROPERTY
@given(documents)
def test_what_is_packed_is_unpacked(document: HeadlineDocument) -> None:
    try:
        raw = pack_document(document)
    except LocalProtocolError as error:
        assert error.reason == "bad-field"  # noqa: PT017 - a text or number that may not be sent
    else:
        assert unpack_document(raw) == document


@PROPERTY
@given(st.binary(max_size=100))
def test_any_bytes_are_a_document_or_a_breach(raw: bytes) -> None:
    try:
        document = unpack_document(raw)
    except RemoteProtocolError:
        return
    assert isinstance(document, HeadlineDocument)


def test_absent_is_not_empty() -> None:
    assert unpack_document(pack_document(HeadlineDocument())) == HeadlineDocument()
    assert unpack_document(pack_document(HeadlineDocument(log=b""))).log == b""
    assert unpack_document(pack_document(HeadlineDocument(log_truncated=False))).log_truncated is False


def test_any_buffer() -> None:
    raw = pack_document(HeadlineDocument(machine="x86_64"))
    assert unpack_document(bytearray(raw)) == unpack_document(memoryview(raw)) == HeadlineDocument(machine="x86_64")


def test_the_largest() -> None:
    largest = HeadlineDocument(log=bytes(HEADLINE_RAW_MAX - 6))
    raw = pack_document(largest)
    assert len(raw) == HEADLINE_RAW_MAX
    assert unpack_document(raw) == largest
    with pytest.raises(LocalProtocolError) as local:
        pack_document(HeadlineDocument(log=bytes(HEADLINE_RAW_MAX - 5)))
    with pytest.raises(RemoteProtocolError) as remote:
        unpack_document(bytes(HEADLINE_RAW_MAX + 1))
    assert local.value.reason == remote.value.reason == "too-large"
