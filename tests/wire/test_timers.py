from __future__ import annotations

from netdump.wire._timers import Timers
from tests.wire.examples import RESUME


def test_opening() -> None:
    timers = Timers(100.0)
    assert timers.deadline == 110.0
    assert timers.keepalive is None


def test_a_trickle_does_not_put_the_opening_off() -> None:
    timers = Timers(100.0)
    timers.received(109.0)
    assert timers.deadline == 110.0


def test_hello_starts_the_wait_for_its_answer() -> None:
    timers = Timers(100.0)
    timers.restart(105.0)
    timers.sent(105.0)
    assert timers.deadline == 115.0
    assert timers.keepalive is None


def test_running() -> None:
    timers = Timers(100.0)
    timers.run(RESUME, 107.0)
    assert timers.deadline == 122.0
    assert timers.keepalive == 112.0
    timers.sent(110.0)
    timers.received(111.0)
    assert timers.deadline == 126.0
    assert timers.keepalive == 115.0
