"""Scenarios of tests/simulation: client, collector, disk, network and clocks of one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.campaign.frame import Budget, Campaign, Tally, seeded
from tests.simulation import scenario

if TYPE_CHECKING:
    from tests.simulation.scenario import Run


def look(case: int, tally: Tally) -> None:
    run: Run = scenario.run(case)
    tally.count("scenarios")
    tally.count("steps", run.steps)
    tally.count("acknowledgements proved on the disk", run.acks)
    tally.count("faults", run.faults)


def run(budget: Budget) -> Tally:
    return seeded(budget, look)


CAMPAIGN = Campaign(
    "simulator",
    "client, collector, disk, network and clocks in one process; every promise looked at after every step",
    run,
    quick=20_000,
    least={"scenarios": 20_000, "acknowledgements proved on the disk": 20_000},
)
