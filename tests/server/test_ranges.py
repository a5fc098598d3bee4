"""Byte ranges: what is asked, what is ignored, what cannot be met (RFC 9110 section 14)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.server.ranges import Span, UnsatisfiableRangeError, parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", Span(0, 100)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=10-19", Span(10, 20)),
        (" bytes=10-19 ", Span(10, 20)),
        ("bytes=99-", Span(99, 100)),
        ("bytes=90-1000", Span(90, 100)),
        ("bytes=90-9999999999999999999", Span(90, 100)),
        ("bytes=-1", Span(99, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=٣-", None),
        ("bytes 0-1", None),
        ("pages=0-1", None),
        ("bytes=99999999999999999999-", None),
    ],
)
def test_of_a_hundred_bytes(header: str | None, span: Span | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=-5", 0)]
)
def test_cannot_be_met(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)


@given(st.integers(0, 40), st.integers(0, 40) | st.none(), st.integers(0, 30))
@settings(derandomize=True, deadline=None)
def test_is_what_slicing_yields(first: int, last: int | None, size: int) -> None:
    content = bytes(range(size))
    try:
        span = parse_range(f"bytes={first}-{'' if last is None else last}", size)
    except UnsatisfiableRangeError:
        assert not content[first:]
        return
    if span is None:
        assert last is not None
        assert last < first
    else:
        assert content[span.start : span.end] == content[first : None if last is None else last + 1]
        assert 0 <= span.start < span.end <= size


@given(st.text(max_size=30))
@settings(derandomize=True, deadline=None)
def test_anything_else_is_ignored_or_refused(header: str) -> None:
    try:
        span = parse_range(header, 10)
    except UnsatisfiableRangeError:
        return
    assert span is None or 0 <= span.start < span.end <= 10
