"""docs/performance.md: its tables, between their marks, read and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import figures
from bench.report import Table, goal_table, machine

if TYPE_CHECKING:
    from bench.report import Results

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
_PLACE: Final = re.compile(r"(?P<mark><!-- bench:(?P<key>\S+) -->\n)(?P<content>.*?)(?=<!-- end -->)", re.DOTALL)
_CELLS: Final = re.compile(r"(?<!\\)\|")


def markdown(table: Table) -> str:
    """A table for a page."""
    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in (table.header, *table.rows)]
    rows.insert(1, tuple("---" for _ in table.header))
    return "\n".join([f"**{table.title}**", "", *("| " + " | ".join(row) + " |" for row in rows)])


def read_tables(text: str) -> list[Table]:
    """The tables of a page, the goals among them."""
    return [_parsed(match["key"], match["content"]) for match in _PLACE.finditer(text) if "| --- |" in match["content"]]


def with_results(text: str, results: Results) -> tuple[str, list[str]]:
    """A page with the tables of a run in their places, and the keys that have no place there.

    The goals follow from all tables that then stand in it, whichever run they are from.
    """
    contents = {table.key: markdown(table) for table in results.measured()}
    contents["machine"] = ", ".join(f"{name}: {value}" for name, value in machine().items()) + "."
    text = _filled(text, contents)
    text = _filled(text, {"goals": markdown(goal_table(figures(read_tables(text))))})
    places = {match["key"] for match in _PLACE.finditer(text)}
    return text, sorted({*contents, "goals"} - places)


def update_page(results: Results) -> list[str]:
    """Put the tables of a run into docs/performance.md. Returns the keys that have no place there."""
    text, unplaced = with_results(PAGE.read_text(), results)
    PAGE.write_text(text)
    return unplaced


def _filled(text: str, contents: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"{match['mark']}{contents[match['key']]}\n" if match["key"] in contents else match[0]

    return _PLACE.sub(fill, text)


def _parsed(key: str, content: str) -> Table:
    title, _, *lines = content.strip().splitlines()
    rows = [tuple(cell.strip().replace("\\|", "|") for cell in _CELLS.split(line)[1:-1]) for line in lines]
    return Table(key, title.strip("*"), rows[0], rows[2:])
