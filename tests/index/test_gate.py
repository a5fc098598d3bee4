"""The gate: many together, or one alone; and turns."""

from __future__ import annotations

import threading

import pytest

from netdump.index.gate import Gate, Turns

PATIENCE_S = 60.0


def test_who_wants_to_be_alone_waits_for_those_inside() -> None:
    gate, order = Gate(), list[str]()
    inside, leave, waits = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with gate.shared():
            inside.set()
            assert leave.wait(PATIENCE_S)
            order.append("first")

    def alone() -> None:
        waits.set()
        with gate.alone():
            order.append("alone")

    threads = [threading.Thread(target=first), threading.Thread(target=alone)]
    threads[0].start()
    assert inside.wait(PATIENCE_S)
    with gate.shared():  # beside the other
        threads[1].start()
        assert waits.wait(PATIENCE_S)
    leave.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["first", "alone"]
    with gate.shared(), gate.shared():
        order.append("open again")
    assert order[-1] == "open again"


def test_turns_come_in_the_order_of_coming_but_for_who_has_gone() -> None:
    turns, order = Turns(), list[str]()

    def wait(name: str, seconds: float) -> None:
        try:
            with turns.taken(seconds):
                order.append(name)
        except TimeoutError:
            order.append(f"not {name}")

    threads = [threading.Thread(target=wait, args=each) for each in (("a", 0.0), ("b", PATIENCE_S), ("c", PATIENCE_S))]
    with turns.taken(0):
        threads[0].start()
        threads[0].join(PATIENCE_S)
        for number, thread in enumerate(threads[1:], 2):
            thread.start()
            while len(turns._queue) < number:
                assert thread.is_alive()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["not a", "b", "c"]


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.taken(0):
        raise ZeroDivisionError
    with turns.taken(0):
        pass
