"""A thousand idle, 64 sending and 64 hostile connections at one collector (tests/e2e/test_crowd.py)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.campaign.frame import Campaign, Tally
from tests.e2e.test_crowd import ACK_MAX_S, MIB, check, run_crowd

if TYPE_CHECKING:
    from tests.campaign.frame import Budget

COUNTS: Final = (1000, 64, 64)  # idle, active, hostile
SECONDS_MIN: Final = 30.0


def run(budget: Budget) -> Tally:
    """One crowd for all of the time; there are no cases."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="netdump-crowd-") as folder:
        report, memory = run_crowd(Path(folder), *COUNTS, max(SECONDS_MIN, budget.left))
    tally.count("acknowledgements", len(report.acks))
    tally.count("hostile visits", sum(report.dropped.values()) - report.dropped.get("idle", 0))
    tally.notes.append(
        f"{COUNTS[0]} idle, {COUNTS[1]} active, {COUNTS[2]} hostile: acknowledgements after "
        f"{report.percentile(0.5):.2f} s (half), {report.percentile(0.99):.2f} s (99 of 100); {memory / MIB:.0f} MiB"
    )
    try:
        check(report, memory, COUNTS, ACK_MAX_S)
    except AssertionError as error:
        tally.find("0", f"{error}; {tally.notes[0]}")
    return tally


CAMPAIGN = Campaign("crowd", "1,000 idle, 64 sending and 64 hostile connections at one collector", run)
