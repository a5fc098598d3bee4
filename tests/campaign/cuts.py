"""Two hundred cuts in one transfer between real processes (tests/e2e/cuts.py); case N is the transfer of seed N."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.campaign.frame import Campaign, seeded
from tests.e2e.cuts import MIB, RESENT_MAX, Ordeal, passes, write_core

if TYPE_CHECKING:
    from tests.campaign.frame import Budget, Tally

CUTS: Final = 200
TRANSFER_S: Final = 3600.0


def look(case: int, tally: Tally) -> None:
    """One transfer."""
    with tempfile.TemporaryDirectory(prefix="netdump-cuts-") as name:
        folder = Path(name)
        core = folder / "core"
        write_core(core, passes(case, CUTS), case)
        ordeal = Ordeal(folder, case, CUTS)
        try:
            account = ordeal.send(core, TRANSFER_S)
            assert sum(account.cuts.values()) == CUTS, "the dump was complete before all cuts had come"
            assert account.worst <= RESENT_MAX, account
            ordeal.assert_exact(core, folder / "fetched")
        finally:
            ordeal.close()
    tally.count("transfers")
    tally.count("cuts", sum(account.cuts.values()))
    for kind, number in account.cuts.items():
        tally.count(f"by {kind}", number)
    mean = sum(account.resent) / max(1, len(account.resent)) / MIB
    tally.notes.append(
        f"seed {case}: {account.connections} connections in {account.seconds:.0f} s; sent again after a cut: "
        f"{account.worst / MIB:.1f} MiB at most, {mean:.2f} MiB on average"
    )


def run(budget: Budget) -> Tally:
    """One transfer at a time: it has several processes of its own."""
    return seeded(type(budget)(budget.seed, budget.deadline, budget.case), look, batch=1)


CAMPAIGN = Campaign("cuts", "200 cuts in one transfer between real processes, through a line that is bad as well", run)
