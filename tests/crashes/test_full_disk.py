"""A real file system that is full."""

from __future__ import annotations

import pytest

from tests.campaign.frame import Tally
from tests.crashes import full_disk


@pytest.mark.e2e
def test_filled_up_ten_times() -> None:
    if (why := full_disk.missing()) is not None:
        pytest.skip(why)
    tally = Tally()
    full_disk.look(1, tally)
    assert tally.counts["fillings"] == 10
    assert tally.counts["deliveries that found it full"] >= 5
    assert tally.counts["index found it full"] >= 1
