from __future__ import annotations

from bench.figures import figures
from bench.fleet import Crashed, lateness, most_at_once, table
from bench.hosts import Journey


def journey(began: float, admitted: float, ended: float, *, waits: int = 0, deferred: int = 0) -> Journey:
    spans = [(began, admitted)] * waits
    return Journey(bytes(16), began, admitted, ended, spans, deferred, attempts=1 + deferred)


def test_who_is_overtaken_is_late_by_as_much_as_the_order_of_crashes_would_have_spared_it() -> None:
    assert lateness([journey(1, 30, 40), journey(0, 10, 20), journey(2, 20, 30)]) == [0, 10, 0]
    assert lateness([journey(0, 5, 9), journey(1, 6, 9)]) == [0, 0]


def test_how_many_are_there_at_once() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([(0, 2), (1, 3), (2, 4), (9, 9)]) == 2  # who goes at 2 makes room for who comes at 2


def test_the_table_tells_of_what_is_lost_and_of_the_slowest_headline() -> None:
    journeys = [journey(0, 0, 2), journey(1, 4, 6, waits=1), journey(2, 9, 11, waits=2, deferred=1)]
    crashed = Crashed(4, journeys, 1, [0.01, 0.02, 0.5, 0.03], 12.0)
    shown = table("fleet", crashed, 2_000_000, 60)
    found = figures([shown, table("herd", crashed, 2_000_000, 1)])
    assert found["herd.headline_s"] == 0.5
    assert found["fleet.lost"] == 1
    assert found["fleet.headline_s"] == 0.5
    assert found["fleet.late_s"] == 0
    rows: dict[str, str] = {row[0]: row[1] for row in shown.rows}
    assert rows["had to wait for other dumps, their headline delivered"] == "2"
    assert rows["until they might send, median, p99, longest, s after the crash"].endswith(", 7.0")
    assert rows["told to come back; how often one host at most"] == "1; 1"


def test_a_fleet_of_which_nothing_was_delivered_has_a_table() -> None:
    shown = table("fleet", Crashed(2, [], 2, [float("inf")] * 2, 12.0), 2_000_000, 60)
    assert figures([shown])["fleet.lost"] == 2
    rows: dict[str, str] = {row[0]: row[1] for row in shown.rows}
    assert rows["told to come back; how often one host at most"] == "0; 0"
    assert rows["connections of one host, at most"] == "0"


def test_a_headline_that_is_not_there_misses_the_goal() -> None:
    shown = table("fleet", Crashed(1, [journey(0, 0, 2)], 1, [float("inf")], 12.0), 2_000_000, 60)
    assert figures([shown])["fleet.headline_s"] == float("inf")
