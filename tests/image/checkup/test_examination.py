from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.image.armed import digests, write_record
from netdump.image.build import ImageSpec, build_image
from netdump.image.checkup import boot, collectors, credentials, kernelconfig, loading, reservation
from netdump.image.checkup.examination import Case, case_of, examine
from netdump.image.checkup.finding import State, ok, problem
from netdump.image.checkup.kdump import find_kdump
from netdump.image.checkup.machine import DeniedError, Machine
from netdump.image.commandline import command_line
from tests.image.checkup.machines import enable, make
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
    found = states(Case(ImageSpec(tmp_path / "absent.toml"), machine=make(tmp_path / "m"), run=tmp_path))
    assert found[kernelconfig.TOPIC] is State.PROBLEM
    assert found[credentials.TOPIC_BUNDLE] is State.PROBLEM
    assert found["image"] is State.PROBLEM
    assert found[reservation.TOPIC] is State.UNKNOWN
    assert found[loading.TOPIC_LOADED] is State.WARNING  # loaded, but who knows what
    assert found[collectors.TOPIC_COLLECTOR] is State.UNKNOWN


def test_an_armed_machine_and_what_changes(
    bundle: Path, machine: Path, few_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(machine, {"sys/kernel/kexec_crash_size": str(1 << 30), "run/systemd/system": ""})
    (machine / "boot").mkdir(exist_ok=True)
    (machine / f"boot/vmlinuz-{RELEASE}").write_bytes(b"kernel")
    (machine / f"boot/config-{RELEASE}").write_text(
        "".join(f"CONFIG_{option}=y\n" for need in kernelconfig.NEEDS for option in need.options)
    )
    spec = ImageSpec(bundle, kernel=RELEASE, level=1, strip=False)
    case = Case(spec, ("x=1",), machine=Machine(machine, RELEASE, "x86_64", is_root=True), run=tmp_path)
    line = command_line("root=/dev/vda1 crashkernel=128M", ("x=1",), "x86_64")
    image = build_image(spec, machine)
    monkeypatch.setattr("netdump.image.checkup.capture.build_image", lambda *_: image)
    write_record(replace(ARMED, digests=digests(image, line, machine)), tmp_path)
    found = states(case)
    assert found[loading.TOPIC_LOADED] is State.OK
    assert found[reservation.TOPIC] is State.OK
    assert found[kernelconfig.TOPIC] is State.WARNING  # no RD_*, RELOCATABLE
    assert found[collectors.TOPIC_CLOCK] is State.OK
    assert found[boot.TOPIC_BOOT] is State.WARNING  # armed by hand

    (machine / f"boot/vmlinuz-{RELEASE}").write_bytes(b"another kernel")
    stale = next(each for each in examine(case) if each.topic == loading.TOPIC_LOADED)
    assert (stale.state, "out of date: kernel changed" in stale.fact) == (State.PROBLEM, True)
    visitor = Case(spec, machine=Machine(machine, RELEASE, "x86_64", is_root=False), run=tmp_path)
    assert states(visitor)[loading.TOPIC_LOADED] is State.UNKNOWN


def test_a_host_that_keeps_its_distributions_kdump(
    bundle: Path, machine: Path, few_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is as docs/deploy.md has it, so nothing is left to mend: monitoring runs `netdump doctor --strict`."""
    monkeypatch.setattr(credentials, "WARN_DAYS", -1)  # certificates of tests live for a day
    monkeypatch.setattr("netdump.image.build.resolve", lambda _: {"192.0.2.9": ("192.0.2.9",)})
    needs = (*kernelconfig.NEEDS, *kernelconfig.X86_NEEDS, *kernelconfig.WISHES)
    files = {
        "sys/kernel/kexec_crash_size": str(160 << 20),
        "sys/class/watchdog/watchdog0/identity": None,
        f"boot/config-{RELEASE}": "".join(f"CONFIG_{option}=y\n" for need in needs for option in need.options),
        "usr/sbin/kdump-config": "",
        "etc/initramfs-tools/hooks/netdump": "",
        "run/systemd/system": "",
        f"var/lib/kdump/initrd.img-{RELEASE}": "an image",
    }
    make(machine, files)
    for unit in ("kdump-tools.service", "netdump-kdump.path"):
        enable(machine, unit)
    here = Machine(machine, RELEASE, "x86_64", is_root=True)
    case = Case(ImageSpec(bundle, kernel=RELEASE, watchdog=False), machine=here, kdump=find_kdump(here))
    assert case.kdump is not None
    findings = list(examine(case))
    assert [each for each in findings if each.state is not State.OK] == []
    assert case.again == "/usr/lib/netdump/rebuild-kdump"  # `netdump arm` would take the place of what is loaded
    assert {"image", "dump target", "loaded", "next boot", "upkeep"} <= {each.topic for each in findings}
    doubt = problem("options", "no such option", "correct it")
    assert next(examine(replace(case, doubts=(doubt,)))) == doubt


def test_what_only_root_sees_keeps_nothing_else_from_being_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Machine, name: str) -> str:
        raise DeniedError(f"/{name}")

    machine = make(tmp_path / "m")
    monkeypatch.setattr(Machine, "text", refuse)
    found = list(examine(Case(ImageSpec(tmp_path / "absent.toml"), machine=machine, run=tmp_path)))
    hidden = [each for each in found if "is for root's eyes only" in each.fact]
    assert {each.state for each in hidden} == {State.UNKNOWN}
    assert {reservation.TOPIC, "panic triggers"} <= {each.topic for each in hidden}


def test_the_collectors_of_the_command_line_are_visited(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []

    def visit(config: Config, *_: object) -> list[Finding]:
        visited.extend(map(str, config.collectors))
        return []

    monkeypatch.setattr(collectors, "check_collectors", visit)
    spec = ImageSpec(bundle, kernel="absent", words={"collectors": "192.0.2.77,spare.example:99"})
    states(Case(spec, machine=make(tmp_path / "m"), run=tmp_path))
    assert visited == ["192.0.2.77:7461", "spare.example:99"]


def test_the_case_of_an_armed_machine() -> None:
    case = case_of(ARMED)
    assert (case.spec, case.append, case.given) == (ARMED.spec(), (), None)
