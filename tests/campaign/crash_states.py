"""Power cuts at every moment of the life of a dump, and every state they may leave (tests/crashes/store_life.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, seeded
from tests.crashes import store_life


def run(budget: Budget) -> Tally:
    return seeded(
        budget,
        store_life.look,
        batch=40,  # states that are the same are near each other
    )


CAMPAIGN = Campaign(
    "crash-states",
    "the store recovers from every state that a power cut may leave: lost, torn, reordered, long without content",
    run,
    quick=3000,
    least={"different states": 10_000},
)
