"""Sums over run tables equal sums over runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import RemoteProtocolError
from netdump.pages import ExcludeClass, PageState, Run
from netdump.store.totals import Totals, data_bytes
from netdump.wire import pack_runs, raw_bytes

RUNS = st.lists(
    st.builds(
        lambda state, length, reason, source: Run(
            state,
            length,
            reason if state is PageState.EXCLUDED else ExcludeClass.NONE,
            source if state is PageState.ALIAS else 0,
        ),
        st.sampled_from(PageState),
        st.integers(1, 1 << 30),
        st.sampled_from([reason for reason in ExcludeClass if reason]),
        st.integers(0, 1 << 40),
    ),
    max_size=30,
)


@settings(derandomize=True, deadline=None)
@given(RUNS, RUNS)
def test_totals(first: list[Run], second: list[Run]) -> None:
    totals, other = Totals(), Totals()
    totals.add_chunk(pack_runs(first), 100)
    other.add_chunk(pack_runs(second), 23)
    totals.add(other)
    runs = first + second
    assert data_bytes(pack_runs(runs)) == raw_bytes(runs)
    of = {state: sum(run.length for run in runs if run.state is state) for state in PageState}
    assert [totals.data, totals.zero, totals.alias, totals.excluded, totals.lost] == [of[state] for state in PageState]
    assert totals.stored == 123
    assert totals.image_bytes == sum(run.length for run in runs)
    assert totals.excluded_by == {
        reason: size
        for reason in ExcludeClass
        if reason and (size := sum(run.length for run in runs if run.exclude is reason))
    }


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pack_runs([Run(PageState.DATA, 1)])[:-1], "ends inside a run"),
        (b"\x05\0\0\0\0\0\0\1", "unknown page state 5"),
        (b"\x03\x63\0\0\0\0\0\1", "99 is not a valid"),
    ],
)
def test_a_table_that_was_never_checked(table: bytes, text: str) -> None:
    with pytest.raises((RemoteProtocolError, ValueError), match=text):
        Totals().add_chunk(table, 1)
