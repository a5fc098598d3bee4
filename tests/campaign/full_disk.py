"""A real, small file system that is full again and again (tests/crashes/full_disk.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, seeded
from tests.crashes import full_disk


def run(budget: Budget) -> Tally:
    return seeded(budget, full_disk.look, batch=1)


CAMPAIGN = Campaign(
    "full-disk",
    "store and index on a small ext4, xfs or btrfs that is filled up ten times",
    run,
    missing=full_disk.missing,
)
