"""Whether memory is reserved for the capture kernel, and enough of it.

Owns what `crashkernel=` on the command line and what came of it say together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.client.words import words_for_kernel
from netdump.image.arming import USUAL_BYTES, advice, reserving
from netdump.image.checkup.finding import ok, problem, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine

TOPIC = "reserved memory"


def check_reservation(machine: Machine, needed: int | None) -> Iterator[Finding]:
    """Compare what is reserved with what is needed. needed: bytes, None if not known. Raises DeniedError."""
    reserved = machine.number("sys/kernel/kexec_crash_size")
    words = [word for word in words_for_kernel(machine.text("proc/cmdline") or "") if word.startswith("crashkernel=")]
    remedy = reserving(advice(needed or USUAL_BYTES))
    if reserved is None:
        yield problem(
            TOPIC, "the kernel has no kexec for crashes (/sys/kernel/kexec_crash_size is missing)",
            "boot a kernel with CONFIG_CRASH_DUMP and kexec; of a container, look at the machine below it",
        )  # fmt: skip
    elif reserved == 0 and not words:
        yield problem(TOPIC, "none: there is no crashkernel= on the kernel command line", remedy)
    elif reserved == 0:
        yield problem(
            TOPIC, f"none, although the kernel command line says {' '.join(words)}",
            "`dmesg | grep -i crashkernel` says why (no such range of memory free, or a size for other machines); "
            + remedy,
        )  # fmt: skip
    elif needed is None:
        yield unknown(
            TOPIC, f"{reserved >> 20} MiB; how much is needed is not known without an image",
            "see to the image first",
        )  # fmt: skip
    elif reserved < needed:
        yield problem(
            TOPIC, f"{reserved >> 20} MiB, but the capture kernel needs {_mib(needed)} MiB with this image",
            remedy,
        )  # fmt: skip
    else:
        yield ok(TOPIC, f"{reserved >> 20} MiB, {_mib(needed)} MiB are needed")


def _mib(count: int) -> int:
    return -(-count >> 20)
