"""The pace of a host: watched only while it may send."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.server.pace import Pace


def test_a_host_that_is_not_watched_is_never_slow() -> None:
    pace = Pace(1000, 10)
    assert pace.due() is None
    assert not pace.is_slow(0, 1e9)


def test_too_little_in_a_window() -> None:
    pace = Pace(1000, 10)
    pace.watch(500, 100.0)
    assert pace.due() == 110.0
    assert not pace.is_slow(500, 109.9), "the window is not over"
    assert pace.is_slow(10_499, 110.0)
    assert not pace.is_slow(10_500, 110.0)
    assert pace.due() == 120.0, "the next window has begun"
    assert pace.is_slow(10_500, 120.0)


def test_time_in_which_it_could_not_send_does_not_count() -> None:
    pace = Pace(1000, 10)
    pace.watch(0, 0.0)
    pace.pause()
    assert not pace.is_slow(0, 1000.0)
    pace.watch(0, 1000.0)
    pace.watch(5, 1005.0)  # watched already: nothing begins anew
    assert pace.due() == 1010.0
    assert pace.is_slow(5, 1010.0)


@given(st.integers(1, 5000), st.lists(st.integers(1, 30), min_size=1, max_size=50))
@settings(derandomize=True, deadline=None)
def test_a_steady_host_is_slow_exactly_if_its_rate_is_too_low(rate: int, steps: list[int]) -> None:
    pace = Pace(1000, 10)
    pace.watch(0, 0.0)
    now, slow = 0, False
    for step in steps:
        before, now = now, now + step
        due = pace.due()
        slow = slow or pace.is_slow(now * rate, now)
        if due is not None and before < due <= now and rate < 1000 and now - (due - 10) <= 10:
            assert slow
    if rate >= 1000:
        assert not slow
