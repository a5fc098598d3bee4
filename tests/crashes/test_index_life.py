"""One moment with every run, more at every landing (`index-crashes`); and an index that does not wait for the disk is
found out."""

from __future__ import annotations

import pytest

from tests.campaign.frame import Tally, look_at
from tests.crashes import index_life

pytestmark = pytest.mark.skipif(index_life.missing() is not None, reason="strace is not installed")


def test_recovery_from_a_moment() -> None:
    tally = Tally()
    look_at(24, index_life.look, tally)
    assert not tally.findings, tally.findings
    assert tally.counts["different states"] > 2


def test_an_index_that_does_not_wait_for_the_disk_is_found_out() -> None:
    *_, last = index_life.moments("synchronous=OFF")
    with pytest.raises(AssertionError, match="lost"):
        index_life.look_at(last, 0, Tally())
