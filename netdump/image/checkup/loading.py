"""Whether a capture kernel can be loaded, and whether the one that is loaded is the right one.

Owns what stands in the way of kexec (the program, switches, lockdown, signatures), and the comparison of what is
loaded with what would be loaded now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.armed import changes
from netdump.image.arming import is_disabled, is_loaded, is_locked_down
from netdump.image.checkup.finding import ok, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from netdump.image.armed import Armed
    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine
    from netdump.image.kernel import Kernel

TOPIC_KEXEC = "kexec"
TOPIC_LOCKDOWN = "lockdown"
TOPIC_LOADED = "loaded"
PROGRAMS = ("usr/sbin/kexec", "sbin/kexec", "usr/bin/kexec", "usr/local/sbin/kexec")
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def check_kexec(machine: Machine) -> Iterator[Finding]:
    """The program, and the switch that forbids its use. Raises DeniedError."""
    if not any(machine.exists(program) for program in PROGRAMS):
        yield problem(TOPIC_KEXEC, "the program kexec is missing", "install the package kexec-tools")
    elif is_disabled(machine.path("proc/sys/kernel/kexec_load_disabled")):
        remedy = "arm before kernel.kexec_load_disabled is set, and reboot to get it off"
        if is_loaded(machine.path("sys/kernel")):
            yield warning(TOPIC_KEXEC, "loading is switched off until the next boot; what is loaded stays", remedy)
        else:
            yield problem(TOPIC_KEXEC, "loading is switched off until the next boot", remedy)
    else:
        yield ok(TOPIC_KEXEC, "installed, and loading is not switched off")


def check_lockdown(machine: Machine, kernel: Kernel | None) -> Iterator[Finding]:
    """Signatures: whether they are asked for, and whether the kernel can check them. Raises DeniedError."""
    mode = _lockdown(machine)
    boot = {True: "Secure Boot is on", False: "Secure Boot is off", None: "no Secure Boot"}[_secure_boot(machine)]
    if not is_locked_down(machine.path("sys/kernel")):
        yield ok(TOPIC_LOCKDOWN, f"{mode}; {boot}: a kernel needs no signature to be loaded")
    elif kernel is not None and not kernel.enabled("KEXEC_FILE"):
        yield problem(
            TOPIC_LOCKDOWN, f"{mode}; {boot}; this kernel cannot check signatures (CONFIG_KEXEC_FILE is not set)",
            "boot a kernel that has it, or boot without lockdown",
        )  # fmt: skip
    elif not _secure_boot(machine) and not is_loaded(machine.path("sys/kernel")):
        yield warning(
            TOPIC_LOCKDOWN, f"{mode}; {boot}: the capture kernel must be signed, and this kernel may not know the key",
            "see whether `netdump arm` succeeds; if not, boot with Secure Boot, or without lockdown",
        )  # fmt: skip
    else:
        yield ok(TOPIC_LOCKDOWN, f"{mode}; {boot}: the capture kernel must be signed, as distribution kernels are")


def check_loaded(machine: Machine, armed: Armed | None, now: Mapping[str, str] | None) -> Iterator[Finding]:
    """What is loaded. now: digests of what would be, None if no image can be built. Raises DeniedError."""
    if not is_loaded(machine.path("sys/kernel")):
        yield problem(TOPIC_LOADED, "no capture kernel: a panic would leave no dump", "run `netdump arm`")
    elif armed is None:
        yield warning(
            TOPIC_LOADED, "a capture kernel that netdump did not load",
            "run `netdump arm`, unless your distribution's kdump loads it with netdump as its target",
        )  # fmt: skip
    elif now is None:
        yield unknown(
            TOPIC_LOADED, f"Linux {armed.release}; whether it is up to date cannot be told",
            "run this as root, and see to the image first",
        )  # fmt: skip
    elif changed := changes(armed.digests, now, machine.root):
        yield problem(
            TOPIC_LOADED, f"Linux {armed.release}, out of date: {', '.join(changed)} changed since",
            "run `netdump arm` again, with the options you want",
        )  # fmt: skip
    else:
        yield ok(TOPIC_LOADED, f"Linux {armed.release} with an image that is what would be loaded now")


def _lockdown(machine: Machine) -> str:
    text = machine.text("sys/kernel/security/lockdown") or ""
    mode = next((word[1:-1] for word in text.split() if word.startswith("[")), "")
    return f"lockdown is {mode}" if mode and mode != "none" else "no lockdown"


def _secure_boot(machine: Machine) -> bool | None:
    """Whether Secure Boot is on; None without UEFI. The variable: 4 bytes of attributes, then 0 or 1."""
    try:
        return machine.path(SECURE_BOOT).read_bytes()[4:5] == b"\1"
    except OSError:
        return None
