"""What one run measured, for people and programs: tables on the terminal, JSON."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.budgets import load_goals
from bench.figures import figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.contest import Outcome

Row = tuple[str, ...]


@dataclass(slots=True)
class Table:
    """A table of figures that is no contest. key: its place in docs/performance.md."""

    key: str
    title: str
    header: Row
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """Everything one run of the benchmark found."""

    rounds: int
    contests: list[Outcome] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    seconds: float = 0.0

    def members(self) -> dict[str, Any]:
        """The JSON object. Its figures and goals are of the stages that ran."""
        found = figures(self.measured())
        return {
            "machine": machine(),
            "rounds": self.rounds,
            "seconds": round(self.seconds),
            "contests": [contest.members() for contest in self.contests],
            "tables": [{"key": table.key, "header": table.header, "rows": table.rows} for table in self.tables],
            "figures": {name: float(f"{value:.3g}") for name, value in found.items()},
            "goals": [
                {"figure": goal.figure, "bound": goal.bound, "verdict": goal.verdict(found)} for goal in load_goals()
            ],
        }

    def measured(self) -> list[Table]:
        """All that was measured, as tables."""
        return [*map(contest_table, self.contests), *self.tables]

    def everything(self) -> list[Table]:
        """The same, and how the goals stand by it."""
        return [*self.measured(), goal_table(figures(self.measured()))]


def contest_table(outcome: Outcome) -> Table:
    """A contest, its best first."""
    header = ("program", "median s", "range", "to the best peer", "CPU s", "peak MiB", "wire MB")
    rows: list[Row] = []
    for result in sorted(outcome.results, key=lambda result: result.seconds):
        times = [cost.seconds for cost in result.costs]
        rows.append(
            (
                f"**{result.name}**" if result.ours else result.name,
                f"{result.seconds:.2f}",
                f"{min(times):.2f} - {max(times):.2f}" + (f" ({len(times)})" if len(times) < 5 else ""),
                f"{outcome.share(result):.3f}",
                f"{result.cpu_seconds:.2f}",
                f"{result.peak_bytes / (1 << 20):.1f}",
                f"{result.wire_bytes / 1e6:.1f}",
            )
        )
    return Table(outcome.key, outcome.title, header, rows)


def goal_table(found: Mapping[str, float]) -> Table:
    """All goals and how they stand."""
    rows: list[Row] = [
        (
            goal.text,
            goal.bound,
            f"{found[goal.figure]:.3g}" if goal.figure in found else "-",
            goal.verdict(found),
        )
        for goal in load_goals()
    ]
    return Table("goals", "Goals (bench/budgets.toml)", ("goal", "bound", "measured", "verdict"), rows)


def text_lines(table: Table) -> list[str]:
    """A table for a terminal."""
    plain = [tuple(cell.replace("**", "") for cell in row) for row in (table.header, *table.rows)]
    widths = [max(len(row[column]) for row in plain) for column in range(len(table.header))]
    lines = [
        "  "
        + "  ".join(_justify(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in plain
    ]
    return ["", table.title, *(line.rstrip() for line in lines)]


def _justify(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column and re.match(r"[\d.-]", cell) else cell.ljust(width)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "CPU": (model[1] if model else platform.machine()).strip(),
        "CPUs": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[2]:.1f}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def lines(tables: Sequence[Table]) -> str:
    """All tables for a terminal."""
    return "\n".join(line for table in tables for line in text_lines(table))
