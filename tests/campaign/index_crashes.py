"""Power cuts while SQLite works on the index, and every state they may leave (tests/crashes/index_life.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import index_life


def run(budget: Budget) -> Tally:
    return numbered(budget, index_life.look, index_life.cases()[budget.seed - 1 :], batch=2)


CAMPAIGN = Campaign(
    "index-crashes",
    "the index opens with every commit that had returned, and none by half, whatever a power cut leaves",
    run,
    quick=6,
    missing=index_life.missing,
)
