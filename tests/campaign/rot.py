"""One wrong bit anywhere (tests/crashes/rot.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import rot


def run(budget: Budget) -> Tally:
    return numbered(budget, rot.look, range(budget.seed - 1, rot.cases()), batch=20)


CAMPAIGN = Campaign(
    "rot",
    "one wrong bit on the wire, in what is stored, in what fetch downloads, in the index: found, or without any effect",
    run,
    quick=4_000,
    least={"bits found": 3_500},
)
