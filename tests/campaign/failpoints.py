"""SIGKILL of a real collector at each named point (tests/crashes/failpoints.py); a case is a number, or a name."""

from __future__ import annotations

from typing import Final

from tests.campaign.frame import Budget, Campaign, Tally, numbered
from tests.crashes import failpoints

STRIDE: Final = 29  # consecutive cases are of different deeds, so that a few of them have something of everything
QUICK: Final = 8


def run(budget: Budget) -> Tally:
    """All points there are, from the seed on."""
    if budget.case is not None and not budget.case.isdecimal():
        assert budget.case in failpoints.points(), f"there is no point {budget.case}: {' '.join(failpoints.points())}"
        tally = Tally()
        failpoints.look_at_point(budget.case, tally)
        return tally
    points = failpoints.points()
    number = len(points)
    cases = [(budget.seed + case) * STRIDE % number for case in range(number)]
    tally = numbered(budget, failpoints.look, list(dict.fromkeys(cases)), batch=1)
    for point in points:
        failpoints.count_once("named points there are", point, tally)
    return tally


CAMPAIGN = Campaign(
    "failpoints",
    "a real collector killed around each write, sync, rename, index commit and word to the host, by name",
    run,
    quick=QUICK,
)
