from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import ConfigError
from netdump.image.checkup.boot import OURS, RUNNING, TOPIC_BOOT
from netdump.image.checkup.finding import State
from netdump.image.checkup.kdump import (
    DRACUT,
    KDUMPS,
    SETTINGS,
    TOPIC_UPKEEP,
    UPKEEP,
    check_boot,
    check_loaded,
    check_memory,
    check_target,
    find_kdump,
    tree_options,
)
from netdump.image.checkup.machine import DeniedError
from tests.image.checkup.machines import RELEASE, enable, make, only

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.checkup.kdump import Kdump
    from netdump.image.checkup.machine import Machine

DEBIAN, FEDORA, SUSE = KDUMPS
HOOKS = {"etc/initramfs-tools/hooks/netdump": "", f"{DRACUT}/module-setup.sh": ""}
LOADED = "sys/kernel/kexec_crash_loaded"
IMAGE = f"var/lib/kdump/initrd.img-{RELEASE}"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"usr/sbin/kdump-config": ""}, DEBIAN),
        ({"etc/kdump.conf": "", "etc/sysconfig/kdump": ""}, FEDORA),
        ({"etc/sysconfig/kdump": ""}, SUSE),
        ({}, None),
    ],
)
def test_which_kdump_it_is(files: dict[str, str], found: object, tmp_path: Path) -> None:
    assert find_kdump(make(tmp_path / "without", files)) is None
    machine = make(tmp_path / "with", {**files, **HOOKS})
    assert find_kdump(machine) is found
    enable(tmp_path / "with", OURS)
    assert find_kdump(machine) is None


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (None, []),
        ("# don't\nNETDUMP_ARM_OPTIONS='--save /x'\n", []),
        (
            "NETDUMP_TREE_OPTIONS=\"--network 'eth0 dhcp' \\\n --final halt\"",
            ["--network", "eth0 dhcp", "--final", "halt"],
        ),
        ("NETDUMP_TREE_OPTIONS=''\nNETDUMP_TREE_OPTIONS='--deadline 60' # more", ["--deadline", "60"]),
    ],
)
def test_the_options_of_its_image(settings: str | None, options: list[str], tmp_path: Path) -> None:
    assert tree_options(make(tmp_path, {SETTINGS: settings})) == options


@pytest.mark.parametrize("settings", ['NETDUMP_TREE_OPTIONS="', 'NETDUMP_TREE_OPTIONS="--network \'eth0"'])
def test_options_that_cannot_be_read(settings: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No closing quotation"):
        tree_options(make(tmp_path, {SETTINGS: settings}))


@pytest.mark.parametrize(("mib", "state"), [(0, State.PROBLEM), (128, State.WARNING), (160, State.OK)])
def test_its_memory(mib: int, state: State, tmp_path: Path) -> None:
    finding = only(check_memory(make(tmp_path, {"sys/kernel/kexec_crash_size": str(mib << 20)})))
    assert (finding.state, "crashkernel=160M" in finding.remedy) == (state, state is not State.OK)


@pytest.mark.parametrize(
    ("kind", "settings", "state"),
    [
        (DEBIAN, None, State.OK),
        (FEDORA, f"path /var/crash\nkdump_pre /{DRACUT}/kdump-pre.sh", State.OK),
        (FEDORA, f"#kdump_pre /{DRACUT}/kdump-pre.sh", State.PROBLEM),
        (SUSE, 'KDUMP_PRESCRIPT="/netdump/deliver --end"', State.OK),
        (SUSE, 'KDUMP_PRESCRIPT=""', State.PROBLEM),
        (SUSE, None, State.PROBLEM),
    ],
)
def test_whether_it_asks_netdump(kind: Kdump, settings: str | None, state: State, tmp_path: Path) -> None:
    machine = make(tmp_path, {kind.asks[0]: settings} if kind.asks else {})
    assert only(check_target(machine, kind)).state is state


def age(machine: Machine, names: dict[str, int]) -> Path:
    """Files written so many seconds after 1970. Returns the bundle."""
    for name, seconds in names.items():
        path = machine.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (seconds, seconds))
    return machine.path("etc/netdump/client.toml")


def test_what_is_loaded(tmp_path: Path) -> None:
    machine = make(tmp_path, {LOADED: "1"})
    bundle = age(machine, {"etc/netdump/client.toml": 10, DEBIAN.hook: 20})
    assert only(check_loaded(machine, DEBIAN, bundle)).state is State.UNKNOWN
    age(machine, {IMAGE: 20})
    assert only(check_loaded(machine, DEBIAN, bundle)).state is State.OK
    age(machine, {"etc/netdump/client.toml": 21, SETTINGS: 22})
    finding = only(check_loaded(machine, DEBIAN, bundle))
    assert (finding.state, "out of date: bundle, options changed since" in finding.fact) == (State.PROBLEM, True)
    assert finding.remedy == "/usr/lib/netdump/rebuild-kdump"
    (tmp_path / LOADED).write_text("0\n")
    finding = only(check_loaded(machine, DEBIAN, bundle))
    assert (finding.state, "systemctl restart kdump-tools.service" in finding.remedy) == (State.PROBLEM, True)


def test_what_only_root_may_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    machine = make(tmp_path, {LOADED: "1"})
    monkeypatch.setattr("os.stat", refuse)
    with pytest.raises(DeniedError):
        list(check_loaded(machine, DEBIAN, tmp_path / "client.toml"))


def test_the_next_boot(tmp_path: Path) -> None:
    machine = make(tmp_path)
    assert list(check_boot(machine, FEDORA)) == []
    machine = make(tmp_path, {RUNNING: ""})
    findings = {each.topic: each for each in check_boot(machine, FEDORA)}
    assert {each.state for each in findings.values()} == {State.WARNING}
    assert findings[TOPIC_BOOT].remedy == "systemctl enable --now kdump.service"
    assert findings[TOPIC_UPKEEP].remedy == "systemctl enable --now netdump-kdump.path"
    enable(tmp_path, "kdump.service")
    enable(tmp_path, UPKEEP)
    assert {each.state for each in check_boot(machine, FEDORA)} == {State.OK}
