"""The fuzz targets under atheris, which is led by the code that inputs reach; each gets its share of the time.

Not deterministic: a finding is kept as a file, which shows it again and belongs into tests/fuzz/corpus.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.campaign.frame import Campaign, Tally
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from tests.campaign.frame import Budget

WORK: Final = Path(__file__).parents[2] / ".campaign" / "atheris"  # inputs that were found are used again
GRACE_S: Final = 120.0


def run(budget: Budget) -> Tally:
    """One target after the other, or the one that the case names."""
    tally = Tally()
    names = [budget.case] if budget.case is not None else list(TARGETS)
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        seconds = max(1, int(budget.left / left))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.fuzz", name, str(seconds), str(WORK / name)],
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_S,
            cwd=Path(__file__).parents[2],
        )
        executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        tally.count("inputs", int(executed[1]) if executed else 0)
        tally.count("targets")
        if done.returncode != 0:
            tally.find(name, f"{name}, kept in {WORK / name}: {done.stderr[-1000:]}")
    return tally


def missing() -> str | None:
    """Atheris has no wheel for every machine and Python."""
    return None if importlib.util.find_spec("atheris") else "needs atheris: pip install -e '.[fuzz]'"


CAMPAIGN = Campaign("coverage", "the same parsers under atheris, led by coverage", run, missing=missing)
