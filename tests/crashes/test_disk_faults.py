"""A part of the faults with every run, and a store that is broken on purpose."""

from __future__ import annotations

import pytest

from tests.campaign.frame import Tally, look_at
from tests.crashes import disk_faults
from tests.crashes.broken_store import trust_a_second_sync


def test_some_faults() -> None:
    tally = Tally()
    for case in range(5, disk_faults.cases(), 181):
        look_at(case, disk_faults.look, tally)
    assert not tally.findings, tally.findings
    assert tally.counts["deliveries interrupted"] > 10


def test_trust_in_a_second_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trust_a_second_sync(monkeypatch)
    tally = Tally()
    for case in range(2, disk_faults.cases() // 2, 3):  # EIO, once
        look_at(case, disk_faults.look, tally)
        if tally.findings:
            return
    pytest.fail("nothing was found")


@pytest.mark.parametrize("name", disk_faults.DEEDS)
def test_every_fault_of_what_else_is_done_with_a_dump(name: str) -> None:
    assert disk_faults.look_at_deed(name) > 20
