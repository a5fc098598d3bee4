"""The table of figures in docs/reliability.md: one row a campaign, replaced by what a run has come to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.campaign.frame import Result

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = "| campaign | what it does | looked at | time | first seed | faults open |\n|---|---|---|---|---|---|\n"
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
    counts = ", ".join(f"{number:,} {what}" for what, number in result.counts.items())
    cells = [
        f"`{result.name}`",
        result.summary,
        counts,
        duration(result.seconds),
        str(result.seed),
        str(len(result.findings) + result.more_findings),
    ]
    return f"| {' | '.join(cells)} |\n"


def duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
