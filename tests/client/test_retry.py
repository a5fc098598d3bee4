from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.client.retry import Backoff, system_random


def test_doubles_from_floor_to_ceiling() -> None:
    backoff = Backoff(0.5, 30, lambda: 0.999999999)
    delays = [round(backoff.next_delay(), 3) for _ in range(9)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_takes_up_to_half_away() -> None:
    assert Backoff(4, 4, lambda: 0.0).next_delay() == 2
    assert Backoff(4, 4, lambda: 0.5).next_delay() == 3


def test_reset_begins_again() -> None:
    backoff = Backoff(1, 30, lambda: 0.0)
    first = [backoff.next_delay() for _ in range(4)]
    backoff.reset()
    assert [backoff.next_delay() for _ in range(4)] == first


@settings(derandomize=True, deadline=None)
@given(
    floor=st.floats(0.01, 60),
    factor=st.floats(1, 1000),
    draw=st.floats(0, 1, exclude_max=True),
    count=st.integers(1, 2000),
)
def test_every_delay_is_within_bounds(floor: float, factor: float, draw: float, count: int) -> None:
    backoff = Backoff(floor, floor * factor, lambda: draw)
    for _ in range(min(count, 60)):
        assert floor / 2 <= backoff.next_delay() <= floor * factor
    for _ in range(count):
        delay = backoff.next_delay()
    assert delay <= floor * factor


def test_system_random_is_a_fraction_and_varies() -> None:
    draws = {system_random() for _ in range(100)}
    assert len(draws) > 90
    assert all(0 <= draw < 1 for draw in draws)
