"""How rows are asked for. That a changed one is found out: test_index.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import sqlite

from netdump.index.index import Index
from netdump.index.rows import in_order

if TYPE_CHECKING:
    from pathlib import Path


def test_entries_are_read_without_the_rows_that_they_lead_to(migrated: Path) -> None:
    for host in (None, "web1"):
        asked = in_order(host).limit(200)
        text = asked.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        with Index.open(migrated) as index, index._read() as connection:
            steps = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        assert "USING COVERING INDEX" in steps[0]
        assert len(steps) == 2, "rows are sorted"
