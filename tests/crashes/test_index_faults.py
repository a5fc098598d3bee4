"""A few faults with every run, more at every landing (`index-faults`); and an index that swallows them is found out."""

from __future__ import annotations

import pytest

from netdump.errors import IndexFaultError
from tests.campaign.frame import Tally
from tests.crashes import index_faults
from tests.crashes.index_faults import Fault

pytestmark = pytest.mark.skipif(index_faults.missing() is not None, reason="strace is not installed")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("fdatasync", 20, "EIO", stays=False),  # of a journal or of the index, before a commit
        Fault("pwrite64", 200, "ENOSPC", stays=True),
        Fault("pread64", 20, "EIO", stays=False),
    ],
)
def test_a_fault(fault: Fault) -> None:
    tally = Tally()
    index_faults.look_at(fault, tally)
    assert tally.counts == {f"faults of {fault.call}": 1, "of them told": 1}


def test_an_index_that_cannot_take_back_a_failed_change_is_found_out() -> None:
    """What it leaves is by half, or makes no sense at all."""
    found = 0
    for number in range(60, 120, 12):
        try:
            index_faults.look_at(Fault("pwrite64", number, "EIO", stays=True), Tally(), "journal_mode=OFF")
        except (AssertionError, IndexFaultError):
            found += 1
    assert found
