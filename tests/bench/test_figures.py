"""Figures are read off tables: of made-up ones, and of docs/performance.md against what it says of the goals."""

from __future__ import annotations

import re

import pytest

from bench.budgets import load_goals
from bench.figures import figures
from bench.page import PAGE, read_tables
from bench.report import Table, goal_table

CONTEST = ("program", "median s", "range", "to the best peer", "CPU s", "peak MiB", "wire MB")


def contest(key: str, *rows: tuple[str, str, str]) -> Table:
    """rows: program, share, peak."""
    return Table(
        key, key, CONTEST, [(name, "1.00", "0.90 - 1.10 (2)", share, "1", peak, "1.0") for name, share, peak in rows]
    )


def test_a_contest_tells_of_ours_and_the_largest_peak_of_all_counts() -> None:
    found = figures(
        [
            contest("upload.real.d1", ("bare loops", "0.300", "99.0"), ("**netdump -d 1**", "0.509", "25.1")),
            contest("upload.tiny", ("scp", "1.000", "90.0"), ("**netdump -d 0**", "0.473", "28.5")),
            Table(
                "scale",
                "",
                ("image", "client peak", "collector peak"),
                [("1 GiB", "20", "76"), ("4096 GiB", "22", "95")],
            ),
        ]
    )
    assert found["upload.real.d1.ratio"] == 0.509
    assert found["client.peak_mib"] == 28.5
    assert found["scale.client_growth"] == 1.1
    assert found["scale.collector_growth"] == 1.25


def test_a_fetch_is_held_against_scp_even_where_another_peer_is_better() -> None:
    rows = ("**netdump fetch**", "0.600", "44"), ("rsync", "1.000", "15"), ("scp", "1.200", "15")
    found = figures([contest("fetch", *rows)])
    assert found == {"fetch.ratio": pytest.approx(0.5)}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            Table(
                "limit.real", "", ("part", "s"), [("tls", "9"), ("**sum: all**", "0.3"), ("netdump send, all", "0.4")]
            ),
            {"limit.real.share": 0.75},
        ),
        (
            Table(
                "filter",
                "",
                ("core", "ns a page", "peak MiB", "makedumpfile ns a page"),
                [("real", "60", "15.1", "24"), ("1 TiB", "70", "15.6", "-")],
            ),
            {"filter.ratio": 2.5, "filter.peak_mib": 15.6},
        ),
        (
            Table(
                "holdings",
                "",
                ("dumps", "start", "collector peak", "list of all", "list of 100", "show"),
                [("2,000", "1.0", "80", "0.5", "0.3", "0.30"), ("20,000", "4.0", "90", "4.0", "0.4", "0.33")],
            ),
            {"holdings.all_growth": 0.8, "holdings.one_growth": 0.33 / 0.30},
        ),
        (
            Table("vast", "", ("memory", "s", "peak MiB"), [("16 GiB", "9.0", "28.1"), ("128 GiB", "70.0", "28.5")]),
            {"client.vast_peak_mib": 28.5},
        ),
        (
            Table(
                "linear",
                "",
                ("data", "send", "client peak", "reassembly", "verify", "fetch"),
                [
                    ("64 MiB", "1.0", "20", "1.0", "1.0", "1.0"),
                    ("1,064 MiB", "2.0", "21", "2.0", "2.0", "2.0"),
                    ("4,064 MiB", "5.0", "20", "6.5", "4.0", "5.0"),
                ],
            ),
            {"scale.linearity": 1.5, "client.peak_mib": 21},
        ),
        (
            Table("compression", "", ("link", "adaptive", "stored", "1"), [("a", "2", "7", "4"), ("b", "8", "5", "9")]),
            {"adaptive.worst": 1.6},
        ),
    ],
)
def test_other_tables(table: Table, expected: dict[str, float]) -> None:
    assert figures([table]) == pytest.approx(expected)


def test_of_the_collector_the_worse_counts() -> None:
    header = ("clients", "chunks", "loop CPU s per wire GB", "ack p99 ms")
    rows: list[tuple[str, ...]] = [
        ("1", "stored", "1.25", "9"),
        ("8", "stored", "1.00", "300"),
        ("64", "stored", "1.00", "900"),
    ]
    rows += [
        ("1", "zstd level 1", "1.25", "9"),
        ("8", "zstd level 1", "1.00", "310"),
        ("64", "zstd level 1", "2.00", "9"),
    ]
    assert figures([Table("ingest", "", header, rows)]) == {
        "collector.stored.wire_gb_per_core_s": 0.8,
        "collector.zstd1.wire_gb_per_core_s": 0.5,
        "collector.ack_p99_ms": 310,
    }


def test_without_tables_nothing_is_known() -> None:
    assert figures([]) == {}


def test_the_goals_of_the_page_follow_from_its_tables() -> None:
    tables = {table.key: table for table in read_tables(PAGE.read_text())}
    goals = tables.pop("goals")
    assert goals.rows == goal_table(figures(tables.values())).rows
    measured = {row[0] for row in goals.rows if re.match(r"\d", row[2])}
    assert measured <= {goal.text for goal in load_goals() if not goal.by}
    assert len(measured) > 10
