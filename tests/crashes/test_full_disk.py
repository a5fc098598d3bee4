"""A real file system that is full."""

from __future__ import annotations

import pytest

from tests.campaign.frame import Tally
from tests.crashes import full_disk


@pytest.mark.e2e
@pytest.mark.parametrize("kind", full_disk.KINDS)
def test_filled_up_ten_times(kind: str) -> None:
    if (why := full_disk.missing(kind)) is not None:
        pytest.skip(why)
    tally = Tally()
    full_disk.fill(kind, 1, tally)
    assert tally.counts[f"fillings of {kind}"] == 10
    assert tally.counts["deliveries that found it full"] >= 5
    if kind == "ext4":  # the others often keep room for the journal of the index
        assert tally.counts["index found it full"] >= 1
