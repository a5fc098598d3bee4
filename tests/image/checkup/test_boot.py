from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.checkup.boot import OURS, RUNNING, check_boot, check_rivals, enabled
from netdump.image.checkup.finding import State
from tests.image.checkup.machines import enable, make, only

if TYPE_CHECKING:
    from pathlib import Path

INSTALLED = f"etc/systemd/system/{OURS}"
BY_HAND = "[Service]\nExecStart=/opt/netdump/bin/netdump arm --save /srv\n"


def test_other_services(tmp_path: Path) -> None:
    machine = make(tmp_path)
    assert only(check_rivals(machine, is_armed=True)).state is State.OK
    enable(tmp_path, "kdump-tools.service")
    finding = only(check_rivals(machine, is_armed=True))
    assert finding.state is State.WARNING
    assert finding.remedy.startswith("systemctl disable --now kdump-tools.service, then `netdump arm`")
    assert only(check_rivals(machine, is_armed=False)).state is State.OK
    enable(tmp_path, OURS)  # at the next boot either of them is left out
    finding = only(check_rivals(machine, is_armed=False))
    assert (finding.state, "then systemctl restart netdump-arm" in finding.remedy) == (State.WARNING, True)


def test_what_is_masked_is_not_started(tmp_path: Path) -> None:
    machine = make(tmp_path)
    enable(tmp_path, "kdump.service", folder="usr/lib/systemd/system/multi-user.target.wants")
    enable(tmp_path, "kdump-tools.service")
    assert sorted(enabled(machine)) == ["kdump-tools.service", "kdump.service"]
    (tmp_path / "etc/systemd/system/kdump-tools.service").symlink_to("/dev/null")
    assert sorted(enabled(machine)) == ["kdump.service"]


@pytest.mark.parametrize(
    ("units", "installed", "state", "words"),
    [
        ({OURS: ""}, True, State.OK, "netdump-arm.service arms"),
        ({"site.service": BY_HAND, "other.service": "[Service]"}, False, State.OK, "site.service arms"),
        ({"kdump.service": "[Service]"}, True, State.WARNING, "netdump-arm.service is not enabled"),
        ({}, False, State.WARNING, "no service arms"),
    ],
)
def test_the_next_boot(units: dict[str, str], installed: bool, state: State, words: str, tmp_path: Path) -> None:
    machine = make(tmp_path, {RUNNING: "", INSTALLED: "" if installed else None})
    for unit, content in units.items():
        enable(tmp_path, unit, content)
    finding = only(check_boot(machine))
    assert (finding.state, words in finding.fact) == (state, True), finding
    assert ("systemctl enable --now netdump-arm" in finding.remedy) == (state is State.WARNING)


def test_other_inits_are_not_known(tmp_path: Path) -> None:
    assert list(check_boot(make(tmp_path, {INSTALLED: ""}))) == []
