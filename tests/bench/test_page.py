from __future__ import annotations

from bench.page import markdown, read_tables, with_results
from bench.report import Results, Table

SCALE = ("image", "client peak", "collector peak")
PAGE = """text | of the page
<!-- bench:machine -->
<!-- end -->
<!-- bench:scale -->
<!-- end -->
<!-- bench:filter -->
<!-- end -->
<!-- bench:goals -->
<!-- end -->
the end
"""


def scale(*peaks: str) -> Table:
    return Table("scale", "Growth", SCALE, [(f"{number} GiB", "20.0", peak) for number, peak in enumerate(peaks)])


def filtering(ns: str) -> Table:
    header = ("core", "ns a page", "peak MiB", "makedumpfile ns a page")
    return Table("filter", "Filter", header, [("real | core", ns, "15.0", "20.0")])


def verdict(page: str, word: str) -> list[str]:
    goals = next(table for table in read_tables(page) if table.key == "goals")
    return [row[2] for row in goals.rows if word in row[0]]


def test_what_is_written_is_read_back() -> None:
    table = filtering("59.1")
    assert read_tables(f"<!-- bench:filter -->\n{markdown(table)}\n<!-- end -->\n") == [table]


def test_goals_follow_from_tables_of_this_run_and_of_those_before() -> None:
    page, unplaced = with_results(PAGE, Results(5, tables=[scale("50.0", "60.0"), filtering("30.0")]))
    assert not unplaced
    assert verdict(page, "collector, peak memory at 4 TiB") == ["1.2"]
    page, _ = with_results(page, Results(5, tables=[filtering("40.0")]))
    assert verdict(page, "collector, peak memory at 4 TiB") == ["1.2"]
    assert verdict(page, "page filter: ns a page") == ["2"]
    assert verdict(page, "adaptive") == ["-"]
    assert page.startswith("text | of the page\n")
    assert page.endswith("the end\n")


def test_a_table_that_has_no_place_is_named() -> None:
    _, unplaced = with_results(PAGE, Results(5, tables=[Table("other", "", ("a",), [("b",)])]))
    assert unplaced == ["other"]
