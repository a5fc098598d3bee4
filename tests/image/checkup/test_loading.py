from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.armed import HARDWARE
from netdump.image.checkup.finding import State
from netdump.image.checkup.loading import SECURE_BOOT, check_kexec, check_loaded, check_lockdown
from tests.image.checkup.machines import make, make_kernel, only
from tests.image.test_armed import ARMED

if TYPE_CHECKING:
    from pathlib import Path

LOADED = "sys/kernel/kexec_crash_loaded"
DISABLED = "proc/sys/kernel/kexec_load_disabled"


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, State.OK, "installed"),
        ({"usr/sbin/kexec": None, "sbin/kexec": ""}, State.OK, "installed"),
        ({"usr/sbin/kexec": None}, State.PROBLEM, "kexec is missing"),
        ({DISABLED: "1"}, State.WARNING, "what is loaded stays"),
        ({DISABLED: "1", LOADED: "0"}, State.PROBLEM, "switched off until the next boot"),
        ({DISABLED: None}, State.OK, "installed"),
    ],
)
def test_kexec(changes: dict[str, str | None], state: State, words: str, tmp_path: Path) -> None:
    finding = only(check_kexec(make(tmp_path, changes)))
    assert (finding.state, words in finding.fact) == (state, True), finding


@pytest.mark.parametrize(
    ("lockdown", "config", "state", "words"),
    [
        ("[none] integrity confidentiality", {}, State.OK, "no lockdown; no Secure Boot: a kernel needs no signature"),
        (None, {}, State.OK, "no lockdown"),
        (
            "none [integrity] confidentiality",
            {"KEXEC_FILE": "y"},
            State.OK,
            "lockdown is integrity; no Secure Boot: the",
        ),
        ("none integrity [confidentiality]", {"KEXEC": "y"}, State.PROBLEM, "CONFIG_KEXEC_FILE is not set"),
    ],
)
def test_lockdown(lockdown: str | None, config: dict[str, str], state: State, words: str, tmp_path: Path) -> None:
    machine = make(tmp_path, {"sys/kernel/security/lockdown": lockdown})
    finding = only(check_lockdown(machine, make_kernel(tmp_path, config)))
    assert (finding.state, words in finding.fact) == (state, True), finding
    assert only(check_lockdown(machine, None)).state is State.OK


@pytest.mark.parametrize(
    ("secure_boot", "loaded", "state"), [(0, "0", State.WARNING), (0, "1", State.OK), (1, "0", State.OK)]
)
def test_whose_key_a_locked_down_kernel_knows(secure_boot: int, loaded: str, state: State, tmp_path: Path) -> None:
    """Debian 12 with lockdown=integrity and no UEFI refuses its own kernel: EPERM."""
    machine = make(tmp_path, {"sys/kernel/security/lockdown": "[integrity]", LOADED: loaded, SECURE_BOOT: ""})
    (tmp_path / SECURE_BOOT).write_bytes(bytes((6, 0, 0, 0, secure_boot)))
    finding = only(check_lockdown(machine, None))
    assert (finding.state, "with Secure Boot" in finding.remedy) == (state, state is State.WARNING)


def test_secure_boot(tmp_path: Path) -> None:
    machine = make(tmp_path, {SECURE_BOOT: ""})
    for content, words in ((b"\6\0\0\0\1", "Secure Boot is on"), (b"\6\0\0\0\0", "Secure Boot is off")):
        (tmp_path / SECURE_BOOT).write_bytes(content)
        assert words in only(check_lockdown(machine, None)).fact


def test_what_is_loaded(tmp_path: Path) -> None:
    machine = make(tmp_path)
    finding = only(check_loaded(machine, ARMED, ARMED.digests))
    assert (finding.state, finding.fact) == (
        State.OK,
        "Linux 6.1 with an image that is what would be loaded now",
    )
    finding = only(check_loaded(machine, ARMED, {"kernel": "2", "network": "x"}))
    assert (finding.state, "out of date: kernel, network changed since" in finding.fact) == (State.PROBLEM, True)
    for kind in ("cpu", "memory"):
        make(tmp_path, {f"sys/devices/system/{kind}/crash_hotplug": "1"})
    assert only(check_loaded(machine, ARMED, {**ARMED.digests, HARDWARE: "more"})).state is State.OK
    assert only(check_loaded(machine, ARMED, None)).state is State.UNKNOWN
    assert only(check_loaded(machine, None, ARMED.digests)).state is State.WARNING
    (tmp_path / LOADED).write_text("0\n")
    finding = only(check_loaded(machine, ARMED, ARMED.digests))
    assert (finding.state, finding.remedy) == (State.PROBLEM, "run `netdump arm`")
