"""Power cuts while a collector is made, hands out tokens, enrols and revokes (tests/crashes/folder_life.py)."""

from __future__ import annotations

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import folder_life


def run(budget: Budget) -> Tally:
    return numbered(budget, folder_life.look, range(budget.seed - 1, len(folder_life.life().moments)), batch=5)


CAMPAIGN = Campaign(
    "folder-crashes",
    "init, tokens, enrolment and revocation recovered from every state that a power cut may leave",
    run,
    quick=1000,
    least={"states": 300},
)
