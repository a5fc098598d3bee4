from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.cli import cmd_doctor
from netdump.errors import DrillError, NotReadyError
from netdump.image.checkup.finding import Finding, ok, problem, unknown, warning
from netdump.image.checkup.machine import DeniedError
from netdump.image.drill.exercise import Drill
from tests.image.checkup.machines import make
from tests.image.test_armed import ARMED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.image.build import ImageSpec
    from netdump.image.checkup.examination import Case
    from netdump.image.checkup.machine import Machine
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
    assert cases[0].spec == ARMED.spec()
    assert cases[1].spec.final == "halt"
    assert cases[1].spec.drivers == ()


@pytest.mark.parametrize(
    ("settings", "doubt"),
    [
        ("--final halt --append netdump.collectors=192.0.2.77", None),
        ("--final never", "NETDUMP_TREE_OPTIONS: Invalid value for '--final'"),
        ("--save /x", "NETDUMP_TREE_OPTIONS: No such option"),
        ("'", "NETDUMP_TREE_OPTIONS: No closing quotation"),
    ],
)
def test_the_distributions_kdump_is_examined_with_its_options(
    settings: str, doubt: str | None, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = []

    def examine(case: Case) -> Iterator[Finding]:
        cases.append(case)
        return iter(case.doubts)

    files = {"usr/sbin/kdump-config": "", "etc/initramfs-tools/hooks/netdump": ""}
    machine = make(tmp_path, {**files, "etc/default/netdump": f'NETDUMP_TREE_OPTIONS="{settings}"'})
    monkeypatch.setattr(cmd_doctor, "examine", examine)
    monkeypatch.setattr(cmd_doctor, "is_loaded", lambda: True)
    monkeypatch.setattr(cmd_doctor, "read_record", lambda: None)
    monkeypatch.setattr(cmd_doctor, "Machine", lambda: machine)
    done = shell.run("doctor")
    (case,) = cases
    assert case.kdump is not None
    if doubt is None:
        assert (case.spec.final, case.spec.watchdog, case.append) == (
            "halt",
            False,
            ("netdump.collectors=192.0.2.77",),
        )
        assert case.spec.words == {"collectors": "192.0.2.77"}
    else:
        assert doubt in done.out
        assert done.status == NotReadyError.exit_status
        assert shell.run("doctor", "--drill").status == DrillError.exit_status
    assert shell.run("doctor", "--final", "halt").status == 0
    assert cases[1].kdump is None  # an image of netdump's own is asked about


def test_settings_that_only_root_may_read(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Machine) -> list[str]:
        raise DeniedError("/etc/default/netdump")

    machine = make(tmp_path, {"usr/sbin/kdump-config": "", "etc/initramfs-tools/hooks/netdump": ""})
    monkeypatch.setattr(cmd_doctor, "examine", lambda case: iter(case.doubts))
    monkeypatch.setattr(cmd_doctor, "is_loaded", lambda: False)
    monkeypatch.setattr(cmd_doctor, "Machine", lambda: machine)
    monkeypatch.setattr(cmd_doctor, "tree_options", refuse)
    done = shell.run("doctor")
    assert done.out.startswith("unknown  options: /etc/default/netdump is for root's eyes only")


def test_a_drill(shell: Shell, found: list[Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def exercise(spec: ImageSpec, root: Path, line: str) -> Drill:
        asked.append((spec, line))
        return Drill({"id": "ab" * 16, "collector": "c:1", "seconds": 0.5}, 200_000, 2.0, 0.25, 0.5)

    monkeypatch.setattr(cmd_doctor, "exercise", exercise)
    monkeypatch.setattr(cmd_doctor, "running_command_line", lambda: "console=hvc0 quiet")
    done = shell.run("doctor", "--drill", "--final", "halt")
    assert done.status == 0
    assert "The drill is delivered: dump abababababab, 195.3 KiB, complete at c:1." in done.out
    assert "netdump delete abababababab" in done.out
    assert asked[0][0].final == "halt"
    assert asked[0][1].startswith("console=hvc0 ")
    report = shell.run("doctor", "--drill", "--json").object
    assert report["seconds"] == {"gather": 2.0, "start": 0.25, "send": 0.5}
    assert report["core_bytes"] == 200_000


def test_a_drill_that_fails(shell: Shell, found: list[Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    def exercise(*_: object) -> None:
        raise DrillError("the client ended with status 31")

    monkeypatch.setattr(cmd_doctor, "exercise", exercise)
    done = shell.run("doctor", "--drill")
    assert (done.status, done.err) == (DrillError.exit_status, "netdump: the client ended with status 31\n")
