"""Names in a dump's folder are made of ids and numbers only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import DumpNotFoundError
from netdump.store.layout import PARTIAL, checked_id, is_dump_id, open_segment_name, segment_name, segment_range


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_segment_name_is_its_range(start: int, end: int) -> None:
    name = segment_name(start, end)
    assert name == f"{start:016x}-{end:016x}.seg"
    assert segment_range(name) == (start, end)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_other_names_are_none(text: str) -> None:
    assert segment_range(text) is None
    assert not is_dump_id(text)


@pytest.mark.parametrize(
    "change", [str.upper, lambda n: n + "\n", lambda n: n + PARTIAL, lambda n: "/" + n, lambda n: n[1:]]
)
def test_nearly_a_segment_name(change: object) -> None:
    assert callable(change)
    assert segment_range(change(segment_name(0xAB, 0xCD))) is None


def test_an_open_segment_does_not_count() -> None:
    assert open_segment_name(1).endswith(PARTIAL)
    assert segment_range(open_segment_name(1)) is None


@pytest.mark.parametrize(
    "text", ["", "..", "0" * 31, "0" * 33, "0" * 31 + "A", "0" * 31 + "/", "0" * 32 + "\n", "٠" * 32]
)
def test_what_is_not_an_id(text: str) -> None:
    assert not is_dump_id(text)
    with pytest.raises(DumpNotFoundError):
        checked_id(text)


def test_an_id() -> None:
    assert checked_id("0123456789abcdef" * 2) == "0123456789abcdef" * 2
