"""What makes this machine panic, and what it does when it cannot capture: a few sysctl settings.

Owns which settings matter and what they should be (Linux Documentation/admin-guide/sysctl/kernel.rst).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.checkup.finding import ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine

TOPIC_TRIGGERS = "panic triggers"
TOPIC_REBOOT = "reboot after panic"
TOPIC_NOTIFIERS = "panic notifiers"
TOPIC_SYSRQ = "sysrq"
FOLDER = "proc/sys/kernel"
TRIGGERS = (
    ("panic_on_oops", "an oops"),
    ("softlockup_panic", "a soft lockup"),
    ("hardlockup_panic", "a hard lockup"),
    ("hung_task_panic", "a hung task"),
    ("unknown_nmi_panic", "an NMI of unknown origin"),
)
NOTIFIERS = "sys/module/kernel/parameters/crash_kexec_post_notifiers"
KEEP = "and put it into /etc/sysctl.d to keep it"


def check_panics(machine: Machine) -> Iterator[Finding]:
    """Look at the settings. Raises DeniedError."""
    values = {name: machine.number(f"{FOLDER}/{name}") for name, _ in TRIGGERS}
    fatal = [words for name, words in TRIGGERS if values[name]]
    spared = [words for name, words in TRIGGERS if values[name] == 0]
    parts = [f"panic: {', '.join(fatal)}"] if fatal else []
    parts += [f"no panic, so no dump: {', '.join(spared)}"] if spared else []
    fact = "; ".join(parts) or "not known to this kernel"
    if values["panic_on_oops"] == 0:
        yield warning(TOPIC_TRIGGERS, fact, f"sysctl kernel.panic_on_oops=1, {KEEP}: else most crashes leave no dump")
    else:
        yield ok(TOPIC_TRIGGERS, fact)

    seconds = machine.number(f"{FOLDER}/panic")
    if seconds == 0:
        yield warning(
            TOPIC_REBOOT, "a machine that panics and cannot start the capture kernel hangs (kernel.panic is 0)",
            f"sysctl kernel.panic=10, {KEEP}",
        )  # fmt: skip
    elif seconds is not None:
        when = f"after {seconds} s" if seconds > 0 else "at once"
        yield ok(TOPIC_REBOOT, f"{when}, should the capture kernel not start (kernel.panic is {seconds})")

    if (machine.text(NOTIFIERS) or "N") == "Y":
        yield warning(
            TOPIC_NOTIFIERS, "run before the capture kernel starts, and may hang (crash_kexec_post_notifiers)",
            "take crash_kexec_post_notifiers off the kernel command line, unless something here needs it",
        )  # fmt: skip

    if machine.exists("proc/sysrq-trigger"):
        mask = machine.number(f"{FOLDER}/sysrq")
        yield ok(TOPIC_SYSRQ, f"a real drill is possible: echo c > /proc/sysrq-trigger (kernel.sysrq is {mask})")
    else:
        yield warning(
            TOPIC_SYSRQ, "there is no /proc/sysrq-trigger", "boot a kernel with CONFIG_MAGIC_SYSRQ to try a real crash"
        )
