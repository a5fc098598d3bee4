from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.cli import cmd_doctor
from netdump.errors import NotReadyError
from netdump.image.checkup.finding import Finding, ok, problem, unknown, warning
from tests.image.test_armed import ARMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.checkup.examination import Case
    from tests.cli.commands import Shell

GOOD = ok("bundle", "is there")
WARNING = warning("watchdog", "none", "get one")
UNKNOWN = unknown("loaded", "no idea", "be root")
PROBLEM = problem("reserved memory", "none\x1b[2J", "put crashkernel=112M")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the checkup will find. The machine is not armed."""
    findings: list[Finding] = []
    monkeypatch.setattr(cmd_doctor, "examine", lambda _: iter(findings))
    monkeypatch.setattr(cmd_doctor, "is_loaded", lambda: False)
    return findings


@pytest.mark.parametrize(
    ("findings", "status", "strict"),
    [
        ([GOOD], 0, 0),
        ([GOOD, WARNING], 0, 96),
        ([GOOD, UNKNOWN], 0, 96),
        ([GOOD, WARNING, PROBLEM], 96, 96),
    ],
)
def test_statuses(findings: list[Finding], status: int, strict: int, shell: Shell, found: list[Finding]) -> None:
    found += findings
    assert shell.run("doctor").status == status
    done = shell.run("doctor", "--strict", "--json")
    assert (done.status, done.object["ready"]) == (strict, strict == 0)
    assert NotReadyError.exit_status == 96


def test_for_people(shell: Shell, found: list[Finding]) -> None:
    found += [GOOD, PROBLEM, WARNING]
    assert shell.run("doctor").out == (
        "ok       bundle: is there\n"
        "problem  reserved memory: none\\x1b[2J\n"
        "         -> put crashkernel=112M\n"
        "warning  watchdog: none\n"
        "         -> get one\n"
        "\n1 problem, 1 warning: a panic of this machine would leave no dump at a collector.\n"
    )
    found.remove(PROBLEM)
    assert "\n1 warning; `netdump doctor --drill` tries" in shell.run("doctor").out


def test_for_programs(shell: Shell, found: list[Finding]) -> None:
    found += [GOOD, PROBLEM]
    report = shell.run("doctor", "--json").object
    assert report["counts"] == {"ok": 1, "warning": 0, "problem": 1, "unknown": 0}
    assert report["findings"][0] == {"topic": "bundle", "state": "ok", "fact": "is there", "remedy": None}
    assert report["findings"][1]["remedy"] == "put crashkernel=112M"


def test_an_armed_machine_is_examined_as_it_was_armed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = []

    def examine(case: Case) -> Iterator[Finding]:
        cases.append(case)
        return iter([GOOD])

    monkeypatch.setattr(cmd_doctor, "examine", examine)
    monkeypatch.setattr(cmd_doctor, "is_loaded", lambda: True)
    monkeypatch.setattr(cmd_doctor, "read_record", lambda: ARMED)
    assert shell.run("doctor").status == 0
    assert shell.run("doctor", "--final", "halt").status == 0
    assert cases[0].wishes == ARMED.wishes()
    assert cases[1].wishes.final == "halt"
    assert cases[1].wishes.drivers == ()
