"""Machines made of fixtures: a folder with as much of /proc, /sys, /boot and /etc as a checkup looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.checkup.machine import Machine
from netdump.image.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from netdump.image.checkup.finding import Finding

RELEASE = "6.1.0-test"
# A machine on which everything is as it should be.
SOUND: Mapping[str, str] = {
    "proc/cmdline": "root=/dev/vda1 crashkernel=128M",
    "proc/meminfo": "MemTotal:         524288 kB\nMemFree: 1 kB",
    "proc/sysrq-trigger": "",
    "proc/sys/kernel/sysrq": "438",
    "proc/sys/kernel/panic": "10",
    "proc/sys/kernel/panic_on_oops": "1",
    "proc/sys/kernel/hung_task_panic": "0",
    "proc/sys/kernel/kexec_load_disabled": "0",
    "sys/kernel/kexec_crash_size": str(128 << 20),
    "sys/kernel/kexec_crash_loaded": "1",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality",
    "usr/sbin/kexec": "",
    "sys/class/watchdog/watchdog0/identity": "i6300ESB timer",
}


def make(root: Path, changes: Mapping[str, str | None] | None = None, *, is_root: bool = True) -> Machine:
    """A sound machine, but for changes: other contents, or None for a file that is not there."""
    for name, content in {**SOUND, **(changes or {})}.items():
        if content is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
    return Machine(root, RELEASE, "x86_64", is_root)


def enable(
    root: Path, unit: str, content: str = "", folder: str = "etc/systemd/system/multi-user.target.wants"
) -> None:
    """As systemctl does, which makes a link."""
    path = root / folder / unit
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def make_kernel(root: Path, config: Mapping[str, str]) -> Kernel:
    return Kernel(RELEASE, root, root / "lib/modules" / RELEASE, config)


def only(findings: Iterable[Finding]) -> Finding:
    """The one finding that there is."""
    (finding,) = findings
    return finding
