from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.image.armed import digests, write_record
from netdump.image.build import Wishes, build_image
from netdump.image.checkup import collectors, kernelconfig, loading, papers, reservation
from netdump.image.checkup.examination import Case, case_of, examine
from netdump.image.checkup.finding import State, ok
from netdump.image.checkup.machine import DeniedError, Machine
from netdump.image.commandline import command_line
from tests.image.checkup.machines import make
from tests.image.conftest import RELEASE
from tests.image.test_armed import ARMED

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.client.config import Config
    from netdump.image.checkup.finding import Finding


@pytest.fixture(autouse=True)
def _nobody_is_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectors, "check_collectors", lambda *_: [ok(collectors.TOPIC_COLLECTOR, "there")])
    monkeypatch.setattr(collectors, "check_clock", lambda *_: [ok(collectors.TOPIC_CLOCK, "right")])


def states(case: Case) -> dict[str, State]:
    return {finding.topic: finding.state for finding in examine(case)}


def test_a_bare_machine(tmp_path: Path) -> None:
    found = states(Case(Wishes(tmp_path / "absent.toml"), machine=make(tmp_path / "m"), run=tmp_path))
    assert found[kernelconfig.TOPIC] is State.PROBLEM
    assert found[papers.TOPIC_BUNDLE] is State.PROBLEM
    assert found["image"] is State.PROBLEM
    assert found[reservation.TOPIC] is State.UNKNOWN
    assert found[loading.TOPIC_LOADED] is State.WARNING  # loaded, but who knows what
    assert found[collectors.TOPIC_COLLECTOR] is State.UNKNOWN


def test_an_armed_machine_and_what_changes(
    bundle: Path, machine: Path, few_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(machine, {"sys/kernel/kexec_crash_size": str(1 << 30)})
    (machine / "boot").mkdir(exist_ok=True)
    (machine / f"boot/vmlinuz-{RELEASE}").write_bytes(b"kernel")
    (machine / f"boot/config-{RELEASE}").write_text(
        "".join(f"CONFIG_{option}=y\n" for need in kernelconfig.NEEDS for option in need.options)
    )
    wishes = Wishes(bundle, kernel=RELEASE, level=1, strip=False)
    case = Case(wishes, ("x=1",), machine=Machine(machine, RELEASE, "x86_64", is_root=True), run=tmp_path)
    line = command_line("root=/dev/vda1 crashkernel=128M", ("x=1",), "x86_64")
    image = build_image(wishes, machine)
    monkeypatch.setattr("netdump.image.checkup.capture.build_image", lambda *_: image)
    write_record(replace(ARMED, digests=digests(image, line, machine)), tmp_path)
    found = states(case)
    assert found[loading.TOPIC_LOADED] is State.OK
    assert found[reservation.TOPIC] is State.OK
    assert found[kernelconfig.TOPIC] is State.WARNING  # no RD_*, RELOCATABLE
    assert found[collectors.TOPIC_CLOCK] is State.OK

    (machine / f"boot/vmlinuz-{RELEASE}").write_bytes(b"another kernel")
    stale = next(each for each in examine(case) if each.topic == loading.TOPIC_LOADED)
    assert (stale.state, "out of date: kernel changed" in stale.fact) == (State.PROBLEM, True)
    visitor = Case(wishes, machine=Machine(machine, RELEASE, "x86_64", is_root=False), run=tmp_path)
    assert states(visitor)[loading.TOPIC_LOADED] is State.UNKNOWN


def test_what_only_root_sees_keeps_nothing_else_from_being_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Machine, name: str) -> str:
        raise DeniedError(f"/{name}")

    machine = make(tmp_path / "m")
    monkeypatch.setattr(Machine, "text", refuse)
    found = list(examine(Case(Wishes(tmp_path / "absent.toml"), machine=machine, run=tmp_path)))
    hidden = [each for each in found if "is for root's eyes only" in each.fact]
    assert {each.state for each in hidden} == {State.UNKNOWN}
    assert {reservation.TOPIC, "panic triggers"} <= {each.topic for each in hidden}


def test_the_collectors_of_the_command_line_are_visited(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []

    def visit(config: Config, _: Path) -> list[Finding]:
        visited.extend(map(str, config.collectors))
        return []

    monkeypatch.setattr(collectors, "check_collectors", visit)
    wishes = Wishes(bundle, kernel="absent", words={"collectors": "192.0.2.77,spare.example:99"})
    states(Case(wishes, machine=make(tmp_path / "m"), run=tmp_path))
    assert visited == ["192.0.2.77:7461", "spare.example:99"]


def test_the_case_of_an_armed_machine() -> None:
    case = case_of(ARMED)
    assert (case.wishes, case.append, case.given) == (ARMED.wishes(), (), None)
