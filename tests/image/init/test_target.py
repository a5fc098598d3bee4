from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init import target
from netdump.image.init.plan import Plan, pack_plan
from netdump.image.init.target import DELIVERED, END, NOT_DELIVERED, USAGE, Target, main
from tests.image.init.machine import Child, Machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def make(machine: Machine, **plan: object) -> Target:
    return Target(Plan(**plan), machine, lambda: machine.now)  # type: ignore[arg-type]


def test_it_delivers_and_leaves_the_machine_alone() -> None:
    machine = Machine(client=[Child(31), Child(0)])
    assert make(machine, watchdog=60).deliver()
    assert [each.partition(" ")[0] for each in machine.started] == ["prepare", "network", "client", "network", "client"]
    assert machine.watchdog.pets == 0  # whose it is feeds it
    assert machine.keys == []


def test_what_is_hopeless_or_late_is_left_to_others() -> None:
    assert not make(Machine(client=[Child(34)])).deliver()
    machine = Machine(network=[Child(1, 10) for _ in range(100)])
    assert not make(machine, deadline=100.0).deliver()
    assert 100 <= machine.now < 140


def test_no_accident_keeps_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(machine, "spawn", lambda _: 1 / 0)
    assert not make(machine).deliver()


def test_the_end_of_the_machine() -> None:
    machine = Machine()
    make(machine, final="poweroff").end()
    assert machine.started == ["finish poweroff"]


def test_words_and_statuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    assert main([], str(path)) == NOT_DELIVERED  # there is no plan
    path.write_bytes(b"\xff")
    assert main([], str(path)) == NOT_DELIVERED
    path.write_text(pack_plan(Plan(final="halt")))
    ends: list[str] = []
    monkeypatch.setattr(Target, "end", lambda self: ends.append(self._plan.final))
    for delivers, argv, status, ended in (
        (True, [], DELIVERED, []),
        (True, [END], DELIVERED, ["halt"]),
        (False, [END], NOT_DELIVERED, []),
        (True, ["--stop"], USAGE, []),
    ):
        ends.clear()
        monkeypatch.setattr(target.Target, "deliver", lambda _, answer=delivers: answer)
        assert (main(argv, str(path)), ends) == (status, ended)
