"""Whether the kernel is able to capture: its configuration, option by option.

Owns which options are needed and why. The same kernel runs in both roles: it loads the capture kernel (kexec), and it
is the capture kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.checkup.finding import ok, problem, unknown, warning
from netdump.image.commandline import I386
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.checkup.finding import Finding
    from netdump.image.kernel import Kernel

TOPIC = "kernel configuration"
X86 = (*I386, "x86_64")
HIGHMEM_KIB = 896 << 10  # memory that a 32-bit kernel reaches without HIGHMEM, at the usual split


class Need(NamedTuple):
    """One requirement: one of these options, built in; and what it is for."""

    options: tuple[str, ...]
    purpose: str


NEEDS = (
    Need(("KEXEC", "KEXEC_FILE"), "loading a capture kernel"),
    Need(("CRASH_DUMP",), "finding the dead kernel's memory"),
    Need(("PROC_VMCORE",), "showing the dead kernel's memory as /proc/vmcore"),
    Need(("SYSFS",), "finding devices"),
    Need(("BLK_DEV_INITRD",), "unpacking the capture image"),
    Need(("DEVTMPFS",), "device files in the capture kernel"),
    Need(("BINFMT_ELF",), "running programs"),
    Need(("BINFMT_SCRIPT",), "starting the init of the capture image"),
    Need(("FUTEX",), "running Python"),
    Need(("MEMFD_CREATE",), "giving the key to OpenSSL without a file"),
    Need(("INET",), "the network"),
)
X86_NEEDS = (Need(("RELOCATABLE",), "running at the reserved address"),)
HIGHMEM = Need(("HIGHMEM4G", "HIGHMEM64G", "HIGHMEM"), "reading memory above 896 MiB")
# Less is possible without these.
WISHES = (
    Need(("RD_ZSTD", "RD_XZ", "RD_GZIP"), "a compressed image (without one, more memory must be reserved)"),
    Need(("MAGIC_SYSRQ",), "a drill by sysrq-c, and rebooting when all else fails"),
    Need(("PRINTK",), "a kernel log"),
)


def check_config(kernel: Kernel, architecture: str, memory_kib: int | None) -> Iterator[Finding]:
    """Look at the options. architecture: as uname -m. memory_kib: of the machine, None if not known."""
    if not kernel.config:
        yield unknown(
            TOPIC,
            f"the configuration of {kernel.release} is neither in /boot nor in /proc/config.gz",
            f"install the file config-{kernel.release} of your kernel's package into /boot to have it checked",
        )
        return
    needs: tuple[Need, ...] = NEEDS
    if architecture in X86:
        needs += X86_NEEDS
    if architecture in I386 and (memory_kib is None or memory_kib > HIGHMEM_KIB):
        needs += (HIGHMEM,)
    missing = [need for need in needs if not _is_met(kernel, need)]
    missed = [need for need in WISHES if not _is_met(kernel, need)]
    for need in missing:
        yield problem(TOPIC, _absence(kernel, need), "boot a kernel that has it; distribution kernels do")
    for need in missed:
        yield warning(TOPIC, _absence(kernel, need), "boot a kernel that has it, or go on without")
    if not missing and not missed:
        total = len(needs) + len(WISHES)
        yield ok(TOPIC, f"{kernel.release} has all of the {total} options that capturing needs")


def _is_met(kernel: Kernel, need: Need) -> bool:
    return any(kernel.config.get(option) == "y" for option in need.options)


def _absence(kernel: Kernel, need: Need) -> str:
    names = " or ".join(f"CONFIG_{option}" for option in need.options)
    return f"{kernel.release} lacks {names}, needed for {need.purpose}"
