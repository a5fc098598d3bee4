"""Telling of progress."""

from __future__ import annotations

from netdump.remote.progress import Follower
from tests.remote.fetching import Counting


def test_a_total_that_comes_late() -> None:
    counting = Counting()
    follower = Follower(counting, "writing")
    for done in (0, 10, 25, 30):
        follower(done, 30)
    assert (counting.total, counting.done, counting.stages) == (30, 30, ["writing"])
