"""The index on a disk that fails, at each call by which SQLite reads or writes (tests/crashes/index_faults.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import index_faults


def run(budget: Budget) -> Tally:
    return numbered(budget, index_faults.look, range(budget.seed - 1, len(index_faults.faults())), batch=4)


CAMPAIGN = Campaign(
    "index-faults",
    "EIO and ENOSPC at each call of SQLite on the index: declared errors, nothing by half, goes on when they end",
    run,
    quick=12,
    missing=index_faults.missing,
)
