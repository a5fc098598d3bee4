"""Who loads a capture kernel at the next boot: netdump's unit, the distribution's kdump, both of them, or nobody.

Owns which units of systemd that are, and how files tell that one is enabled. Of other inits it knows nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from netdump.image.checkup.finding import ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine

TOPIC_BOOT = "next boot"
TOPIC_RIVALS = "other services"
OURS = "netdump-arm.service"
RIVALS = ("kdump.service", "kdump-tools.service", "kdump-early.service")
RUNNING = "run/systemd/system"  # is there if systemd is process 1: sd_booted(3)
FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
COMMAND = "netdump arm"  # in a unit that an administrator has written


def has_systemd(machine: Machine) -> bool:
    """Whether systemd is what starts services here."""
    return machine.exists(RUNNING)


def enabled(machine: Machine) -> dict[str, str]:
    """The units that some target starts, without those that are masked: name of the file by name of the unit."""
    found = {}
    for folder in FOLDERS:
        for wants in machine.folder(folder):
            if wants.endswith((".wants", ".requires")):
                found.update({unit: f"{folder}/{wants}/{unit}" for unit in machine.folder(f"{folder}/{wants}")})
    return {unit: name for unit, name in found.items() if not _is_masked(machine, unit)}


def rivals(machine: Machine) -> list[str]:
    """The services of a distribution's kdump that are enabled."""
    units = enabled(machine)
    return [unit for unit in RIVALS if unit in units]


def check_rivals(machine: Machine, *, is_armed: bool) -> Iterator[Finding]:
    """Services of the distribution that load a capture kernel too. is_armed: whether netdump has loaded one."""
    others = rivals(machine)
    is_ours = OURS in enabled(machine)
    if others and (is_armed or is_ours):
        again = "systemctl restart netdump-arm" if is_ours else "`netdump arm`"
        yield warning(
            TOPIC_RIVALS, f"{', '.join(others)} is enabled and loads a capture kernel as well: the last one wins",
            f"systemctl disable --now {' '.join(others)}, then {again}: stopping it takes out whatever is loaded",
        )  # fmt: skip
    else:
        yield ok(TOPIC_RIVALS, f"{', '.join(others)} loads capture kernels" if others else "no other kdump is enabled")


def check_boot(machine: Machine) -> Iterator[Finding]:
    """Whether netdump arms this machine at its next boot, too. Raises DeniedError."""
    if not has_systemd(machine):
        return
    units = enabled(machine)
    arming = [OURS] if OURS in units else [unit for unit, name in units.items() if COMMAND in _text(machine, name)]
    if arming:
        yield ok(TOPIC_BOOT, f"{', '.join(arming)} arms this machine")
    elif any(machine.exists(f"{folder}/{OURS}") for folder in FOLDERS):
        yield warning(
            TOPIC_BOOT, f"{OURS} is not enabled: from the next boot on a panic leaves no dump",
            "systemctl enable --now netdump-arm; options of `netdump arm` stand in /etc/default/netdump",
        )  # fmt: skip
    else:
        yield warning(
            TOPIC_BOOT, "no service arms this machine: from the next boot on a panic leaves no dump",
            "install netdump's units (`install.sh host`, docs/deploy.md), then systemctl enable --now netdump-arm",
        )  # fmt: skip


def _text(machine: Machine, name: str) -> str:
    return machine.text(name) or ""


def _is_masked(machine: Machine, unit: str) -> bool:
    try:
        return os.readlink(machine.path(f"{FOLDERS[0]}/{unit}")) == os.devnull
    except OSError:
        return False
