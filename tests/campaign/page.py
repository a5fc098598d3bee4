"""The tables of figures in docs/reliability.md: of campaigns, whose rows are replaced by what a run has come to; and of
fuzzing, which is the ledger of all runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.campaign.frame import Result
    from tests.fuzz.found import Work

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = "| campaign | what it does | looked at | time | first seed | faults open |\n|---|---|---|---|---|---|\n"
FUZZ_HEAD = "| target | processor time | inputs | edges reached | inputs kept | findings |\n|---|---|---|---|---|---|\n"
_FUZZ_TABLE = re.compile(r"(?<=<!-- fuzzing -->\n).*?(?=<!-- end of fuzzing -->)", re.DOTALL)
_TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def rows_of(text: str) -> dict[str, str]:
    """The rows of the table by campaign."""
    table = _TABLE.search(text)
    assert table is not None, "the page has lost the marks of its table"
    lines = table[0].splitlines(keepends=True)[2:]
    return {line.split("`")[1]: line for line in lines}


def with_figures(text: str, results: list[Result]) -> str:
    """The page with the rows of these results; others stay as they are."""
    rows = rows_of(text)
    rows.update((result.name, row(result)) for result in results if result.skipped is None)
    return _TABLE.sub(lambda _: HEAD + "".join(rows[name] for name in sorted(rows)), text)


def row(result: Result) -> str:
    tally = result.tally
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(tally.counts.items()))
    cells = [
        f"`{result.name}`",
        result.summary,
        "; ".join([counts, *tally.notes]),
        duration(result.seconds),
        str(result.seed),
        str(len(tally.findings) + tally.more_findings),
    ]
    return f"| {' | '.join(cells)} |\n"


def duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def with_fuzzing(text: str, ledger: dict[str, Work]) -> str:
    """The page with the table of this ledger."""
    assert _FUZZ_TABLE.search(text), "the page has lost the marks of its table of fuzzing"
    rows = [
        f"| `{name}` | {duration(work.cpu_s)} | {work.inputs:,} | {work.edges:,} | {work.kept:,} | {work.findings} |\n"
        for name, work in sorted(ledger.items())
    ]
    total = sum(work.cpu_s for work in ledger.values()), sum(work.inputs for work in ledger.values())
    rows.append(f"| all | {duration(total[0])} | {total[1]:,} | | | |\n")
    return _FUZZ_TABLE.sub(lambda _: FUZZ_HEAD + "".join(rows), text)
