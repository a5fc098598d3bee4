"""The first stage: file systems of the kernel, what the kernel does when it hangs itself, then its modules.

Runs as a child of process 1 with a time limit, because a driver may hang in its device. Modules get the options that
modprobe would give them. One that does not load even without is reported and the next one tried: a machine with half
its drivers may still reach its collector. A second run goes on after the module at which the first one hung: what
stands in a module's file tells how far that came.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from netdump.image.init.console import warn
from netdump.image.init.kernelcalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, load_module, mount
from netdump.image.init.words import module_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netdump.image.init.plan import Module, Plan

SAFE = MS_NODEV | MS_NOEXEC | MS_NOSUID
MOUNTS = (
    ("proc", "/proc", "proc", SAFE),
    ("sysfs", "/sys", "sysfs", SAFE),
    ("devtmpfs", "/dev", "devtmpfs", MS_NOSUID),
)
# A kernel that crashes again, or whose only CPU never comes back from a driver, reboots (Linux
# Documentation/admin-guide/sysctl/kernel.rst). The lock-up detector waits for twice its threshold; the one for a CPU
# that takes no interrupts either, where the kernel has it, for once. The machine's command line may have said
# nowatchdog or nosoftlockup. Whoever gives the capture kernel another one may have forgotten panic=. tcp_mtu_probing:
# where full packets vanish on the way (RFC 4821), smaller ones are tried after some seconds.
SYSCTLS = (
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/watchdog_thresh", "60"),
    ("/proc/sys/kernel/softlockup_panic", "1"),
    ("/proc/sys/kernel/hardlockup_panic", "1"),
    ("/proc/sys/kernel/soft_watchdog", "1"),
    ("/proc/sys/kernel/watchdog", "1"),
    ("/proc/sys/net/ipv4/tcp_mtu_probing", "1"),
)
# Virtual functions are for guests, and cost memory. A watchdog that starts by itself (ipmi_watchdog) would run out
# while other drivers load: process 1 starts it, and feeds it from then on.
NOT_HERE = ("max_vfs=", "num_vfs=", "probe_vf=", "start_now=")
HANGS = b"hangs"  # in the file of a module while it is loaded; afterwards the file is empty


def prepare(plan: Plan) -> int:
    """Mount and load what the plan names. Returns the exit status of the stage, always 0: later stages find out."""
    for source, target, kind, flags in MOUNTS:
        try:
            os.makedirs(target, exist_ok=True)
            mount(source, target, kind, flags)
        except OSError as error:
            if error.errno != errno.EBUSY:  # it is there already
                warn(f"cannot mount {kind} on {target}: {error.strerror}")
    for path, value in SYSCTLS:
        _set(path, value)
    given = module_options()
    for module in plan.modules:
        _load(module, given)
    return 0


def _set(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        pass  # this kernel has no such detector
    except OSError as error:
        warn(f"cannot set {path}: {error.strerror}")


def _load(module: Module, given: Mapping[str, tuple[str, ...]]) -> None:
    name = module.path.rpartition("/")[2]
    try:
        with open(module.path, "r+b") as file:
            content = file.read()
            file.seek(0)
            file.truncate()  # it would only take memory
            file.write(HANGS)
    except OSError as error:
        warn(f"module {name} cannot be read: {error.strerror}")
        return
    try:
        if content == HANGS:
            warn(f"module {name} hangs: leaving it out")
        elif content:
            options = (*module.options, *given.get(name.removesuffix(".ko"), ()))
            _insert(name, content, " ".join(option for option in options if not option.startswith(NOT_HERE)))
    except FileExistsError:
        pass
    except OSError as error:
        warn(f"module {name} does not load: {error.strerror}")
    os.truncate(module.path, 0)


def _insert(name: str, content: bytes, options: str) -> None:
    """Raises OSError; FileExistsError if it is loaded already."""
    try:
        load_module(content, options)
    except OSError as error:
        if not options or isinstance(error, FileExistsError):
            raise
        warn(f"module {name} does not load with {options} ({error.strerror}): without")
        load_module(content)
