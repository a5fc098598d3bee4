"""A thousand idle, 64 sending and 64 hostile connections at one collector; and a crowd at one on its defaults.

What they do is in tests/e2e: crowd.py, hostile.py, test_crowd.py.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.campaign.frame import Campaign, Tally
from tests.e2e.hostile import KINDS
from tests.e2e.test_crowd import ACK_MAX_S, MIB, check, run_crowd, settings_for

if TYPE_CHECKING:
    from tests.campaign.frame import Budget

SECONDS_MIN: Final = 30.0


class Case(NamedTuple):
    """Who comes, to a collector with which settings."""

    idle: int
    active: int
    hostile: int
    settings: str


CASES: Final = {
    "a seat for each": Case(1000, 64, 64, settings_for(1000, 64, 64)),
    # More who send would have to take turns.
    "on its defaults": Case(4, 8, len(KINDS), ""),
}


def run(budget: Budget) -> Tally:
    """Each crowd for its share of the time."""
    tally = Tally()
    for number, (name, case) in enumerate(CASES.items()):
        seconds = max(SECONDS_MIN, budget.left / (len(CASES) - number))
        with tempfile.TemporaryDirectory(prefix="netdump-crowd-") as folder:
            counts = (case.idle, case.active, case.hostile)
            report, memory = run_crowd(Path(folder), counts, seconds, case.settings)
        tally.count("acknowledgements", len(report.acks))
        tally.count("hostile visits", sum(report.dropped.values()) - report.dropped.get("idle", 0))
        who = f"{case.idle} idle, {case.active} active, {case.hostile} hostile"
        half, most = report.percentile(0.5), report.percentile(0.99)
        tally.notes.append(
            f"{name}, {who}: acknowledgements after {half:.2f} s (half), {most:.2f} s (99 of 100); "
            f"{memory / MIB:.0f} MiB"
        )
        try:
            check(report, memory, case.idle, case.settings, ACK_MAX_S)
        except AssertionError as error:
            tally.find(str(number), f"{error}; {tally.notes[-1]}")
    return tally


CAMPAIGN = Campaign(
    "crowd", "1,000 idle, 64 sending and 64 hostile connections at one collector, and one on its defaults", run
)
