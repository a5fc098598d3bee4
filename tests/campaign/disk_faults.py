"""A fault of the disk at every operation of the life of a dump (tests/crashes/disk_faults.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import disk_faults


def run(budget: Budget) -> Tally:
    return numbered(budget, disk_faults.look, range(budget.seed - 1, disk_faults.cases()), batch=10)


CAMPAIGN = Campaign(
    "disk-faults",
    "ENOSPC, EDQUOT and EIO, once and lasting, at every operation of a dump of 64 chunks",
    run,
    quick=1_250,
    least={"faults": 1_000, "deliveries interrupted": 1_000},
)
