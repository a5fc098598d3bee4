"""The gate: many together, or one alone."""

from __future__ import annotations

import threading

from netdump.index.gate import Gate

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
