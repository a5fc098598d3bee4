"""SIGKILL of a real collector at each named point (tests/crashes/failpoints.py)."""

from __future__ import annotations

from dataclasses import replace

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import failpoints


def run(budget: Budget) -> Tally:
    return numbered(replace(budget, jobs=1), failpoints.look, range(len(failpoints.points())), batch=1)


CAMPAIGN = Campaign(
    "failpoints",
    "a real collector killed around each write, sync, rename, index commit and word to the host, by name",
    run,
)
