"""Buckets: how fast they empty and fill, whom they bind, what they forget."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.server.ratelimit import SOURCES_MAX, RateLimit, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_sources(address: str, source: str) -> None:
    assert source_of(address) == source


def test_a_source_empties_its_bucket_and_time_fills_it() -> None:
    limit = RateLimit(100, 3, now=0.0)
    assert [limit.allow("192.0.2.1", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.allow("192.0.2.2", 0.0), "others are not concerned"
    assert not limit.allow("192.0.2.1", 19.9)
    assert limit.allow("192.0.2.1", 20.0)
    assert not limit.allow("192.0.2.1", 20.0)
    assert [limit.allow("192.0.2.1", 1e6) for _ in range(4)] == [True, True, True, False], (
        "it holds no more than it held"
    )


def test_another_window() -> None:
    limit = RateLimit(100, 2, now=0.0, window_s=1000.0)
    assert [limit.allow("web1", 0.0) for _ in range(3)] == [True, True, False]
    assert [limit.allow("web1", at) for at in (499.0, 500.0, 500.0)] == [False, True, False]


def test_all_together() -> None:
    limit = RateLimit(5, 3, now=0.0)
    assert sum(limit.allow(f"192.0.2.{n}", 0.0) for n in range(9)) == 5


def test_refusals_cost_the_others_nothing() -> None:
    limit = RateLimit(5, 1, now=0.0)
    assert sum(limit.allow("192.0.2.1", 0.0) for _ in range(100)) == 1
    assert sum(limit.allow(f"192.0.3.{n}", 0.0) for n in range(9)) == 4


def test_memory_is_bounded() -> None:
    limit = RateLimit(100_000, 1, now=0.0)
    for n in range(SOURCES_MAX + 100):
        limit.allow(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
    assert len(limit._sources) == SOURCES_MAX


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    limit = RateLimit(10, 1, now=100.0)
    assert limit.allow("192.0.2.1", 100.0)
    assert not limit.allow("192.0.2.1", 0.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10)), max_size=60), st.integers(1, 9), st.integers(1, 9))
@settings(derandomize=True, deadline=None)
def test_never_more_than_rate_and_burst(calls: list[tuple[str, float]], total: int, each: int) -> None:
    limit = RateLimit(total, each, now=0.0)
    now, granted = 0.0, {"a": 0, "b": 0, "c": 0}
    for source, step in calls:
        now += step
        granted[source] += limit.allow(source, now)
    assert sum(granted.values()) <= total + total * now / 60 + 1e-6
    assert all(count <= each + each * now / 60 + 1e-6 for count in granted.values())
