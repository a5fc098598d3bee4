"""Events are counted, and handed on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from netdump.server.tally import COMPLETE, Tally
from tests.server.rig import Events


def test_events_are_counted_by_name() -> None:
    events = Events()
    tally = Tally(events)
    assert tally.counts() == {COMPLETE: 0}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: tally("b" if number % 4 else "a", number=number), range(400)))
    assert tally.counts() == {"a": 100, "b": 300, COMPLETE: 0}
    assert sorted(str(each["number"]) for each in events.all("a")) == sorted(map(str, range(0, 400, 4)))
