"""What was measured, for people and programs: tables on the terminal, JSON, the tables of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.budgets import load_goals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Outcome

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"

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
    """Everything one run of the benchmark found. figures: what budgets.toml speaks of, by name."""

    rounds: int
    contests: list[Outcome] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def note_peak(self, size: float) -> None:
        """A client had this much memory, in bytes: the largest counts."""
        before = self.figures.get("client.peak_mib", 0.0)
        self.figures["client.peak_mib"] = max(before, round(size / (1 << 20), 1))

    def members(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "machine": machine(),
            "rounds": self.rounds,
            "seconds": round(self.seconds),
            "contests": [contest.members() for contest in self.contests],
            "tables": [{"key": table.key, "header": table.header, "rows": table.rows} for table in self.tables],
            "figures": self.figures,
            "goals": [
                {"figure": goal.figure, "bound": goal.bound, "verdict": goal.verdict(self.figures)}
                for goal in load_goals()
            ],
        }

    def everything(self) -> list[Table]:
        """All there is to show, as tables."""
        return [*map(contest_table, self.contests), *self.tables, goal_table(self.figures)]


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
                f"{outcome.share(result):.2f}",
                f"{result.cpu_seconds:.2f}",
                f"{result.peak_bytes / (1 << 20):.0f}",
                f"{result.wire_bytes / 1e6:.1f}",
            )
        )
    return Table(outcome.key, outcome.title, header, rows)


def goal_table(figures: dict[str, float]) -> Table:
    """All goals and how they stand."""
    rows: list[Row] = [
        (
            goal.text,
            goal.bound,
            f"{figures[goal.figure]:.3g}" if goal.figure in figures else "-",
            goal.verdict(figures),
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


def markdown(table: Table) -> str:
    """A table for a page."""
    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in (table.header, *table.rows)]
    rows.insert(1, tuple("---" for _ in table.header))
    return "\n".join([f"**{table.title}**", "", *("| " + " | ".join(row) + " |" for row in rows)])


def update_page(results: Results) -> list[str]:
    """Put the tables into docs/performance.md, between their marks. Returns the keys that have no place there."""
    text = PAGE.read_text()
    unplaced = []
    tables = {table.key: markdown(table) for table in results.everything()}
    tables["machine"] = ", ".join(f"{name}: {value}" for name, value in machine().items()) + "."
    for key, content in tables.items():
        pattern = re.compile(rf"(<!-- bench:{re.escape(key)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if match := pattern.search(text):
            text = f"{text[: match.start()]}{match[1]}{content}\n{match[2]}{text[match.end() :]}"
        else:
            unplaced.append(key)
    PAGE.write_text(text)
    return unplaced


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
