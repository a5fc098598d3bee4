from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.pages import ExcludeClass, PageState, Run
from netdump.wire import iter_runs, pack_runs, raw_bytes, unpack_runs
from netdump.wire._runs import check_runs
from tests.wire.examples import runs, sound_runs

AT = 1 << 20
PROPERTY = settings(derandomize=True, deadline=None, max_examples=300)


@PROPERTY
@given(sound_runs(AT))
def test_what_is_packed_is_unpacked(made: list[Run]) -> None:
    table = pack_runs(made)
    length = sum(run.length for run in made)
    assert unpack_runs(table, AT, length) == made
    assert check_runs(table, AT, length) == raw_bytes(made)
    assert list(iter_runs(table)) == [(run.state, run.exclude, run.length) for run in made]


@PROPERTY
@given(st.binary(max_size=64), st.integers(0, 1 << 40), st.integers(0, 1 << 31))
def test_any_bytes_are_runs_or_a_breach(table: bytes, offset: int, length: int) -> None:
    try:
        made = unpack_runs(table, offset, length)
    except RemoteProtocolError as error:
        assert error.reason == "bad-field"  # noqa: PT017 - either may happen
    else:
        assert pack_runs(made) == table


@PROPERTY
@given(st.lists(runs, max_size=3))
def test_any_runs_are_packed_or_refused(made: list[Run]) -> None:
    try:
        table = pack_runs(made)
    except LocalProtocolError as error:
        assert error.reason == "bad-field"  # noqa: PT017
        assert any(run.length >> 32 or (run.source and run.state is not PageState.ALIAS) for run in made)
    else:
        assert len(table) == sum(16 if run.state is PageState.ALIAS else 8 for run in made)


def test_one_bit_changes_the_runs_or_is_found() -> None:
    made = [
        Run(PageState.DATA, 100),
        Run(PageState.ALIAS, 64, source=4096),
        Run(PageState.EXCLUDED, 8, ExcludeClass.USER),
    ]
    table = pack_runs(made)
    for bit in range(8 * len(table)):
        other = bytearray(table)
        other[bit // 8] ^= 1 << bit % 8
        try:
            assert unpack_runs(bytes(other), AT, 172) != made
        except RemoteProtocolError:
            continue


def test_raw_bytes() -> None:
    assert raw_bytes([]) == 0
    assert raw_bytes([Run(PageState.DATA, 3), Run(PageState.LOST, 5), Run(PageState.DATA, 7)]) == 10


def test_an_endless_table_is_refused_unread() -> None:
    with pytest.raises(RemoteProtocolError, match="more than 4096 runs"):
        check_runs(bytes(65537), 0, 1)
