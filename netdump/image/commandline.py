"""The command line of the capture kernel: what it inherits, what it loses, what it gets.

Owns the lists, by architecture. Sources: kdump-utils gen-kdump-sysconfig.sh and kdump-lib.sh, Debian kdump-config,
Linux Documentation/admin-guide/kdump/kdump.rst and kernel-parameters.txt; what was tried is in docs/capture.md.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.client.words import FOR_INIT, split_words, words_for_kernel
from netdump.errors import ArmError

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNNING = Path("/proc/cmdline")
I386 = ("i386", "i486", "i586", "i686")  # as uname -m says of 32-bit x86
COMMAND_LINE_MAX = 2047  # bytes; COMMAND_LINE_SIZE of x86 without the closing zero, arm64 has as much

# panic: come back if the capture kernel dies itself. loglevel: what we say is shown by kernels that are built to show
# errors only, too (CONFIG_CONSOLE_LOGLEVEL_DEFAULT, 4 in Arch's). The others save memory.
EVERYWHERE = (
    "panic=10", "loglevel=7", "cgroup_disable=memory", "novmcoredd", "cma=0", "hugetlb_cma=0",
    "transparent_hugepage=never", "kfence.sample_interval=0",
)  # fmt: skip
# irqpoll, reset_devices: devices are as the dead kernel left them. nr_cpus: each CPU costs memory, and only the one
# that panicked is certain to run.
DEVICES = ("irqpoll", "nr_cpus=1", "reset_devices")
# mce, hest_disable: no errors that the firmware has kept for the dead kernel. pcie_ports: no hot-plugging, no error
# reports. random.trust_cpu: TLS must not wait for entropy.
X86 = (
    *DEVICES, "numa=off", "mce=off", "nokaslr", "hest_disable", "acpi_no_memhotplug", "pcie_ports=compat",
    "random.trust_cpu=on",
)  # fmt: skip
BY_ARCHITECTURE = {
    "x86_64": X86,
    **dict.fromkeys(I386, X86),
    "aarch64": (*DEVICES, "swiotlb=noforce", "random.trust_cpu=on"),
    "ppc64le": (*DEVICES, "numa=off", "noirqdistrib", "kvm_cma_resv_ratio=0"),
    "s390x": ("nr_cpus=1", "numa=off", "vmcp_cma=0"),
}
# A kernel that nobody has tried: maxcpus is understood by all.
ELSEWHERE = ("irqpoll", "maxcpus=1", "reset_devices")

# What it must not inherit: memory sizes, roots, another init, tracing and debugging, quietness, and what makes a
# warning or a slow device fatal.
REMOVED = frozenset(
    (
        "BOOT_IMAGE", "initrd", "root", "rootflags", "rootfstype", "rootdelay", "rootwait", "ro", "rw", "resume",
        "crashkernel", "init", "rdinit", "quiet", "splash", "ip", "nr_cpus", "maxcpus", "possible_cpus", "isolcpus",
        "nohz_full", "rcu_nocbs", "irqaffinity", "mem", "memmap", "hugepages", "hugepagesz", "default_hugepagesz",
        "log_buf_len", "slub_debug", "slab_debug", "debug_pagealloc", "page_owner", "page_poison", "kasan",
        "kmemleak", "swiotlb", "movablecore", "kernelcore", "panic", "panic_print", "oops", "ftrace",
        "ftrace_filter", "trace_event", "trace_buf_size", "transparent_hugepage", "numa", "mce", "kaslr", "nokaslr",
        "irqpoll", "reset_devices", "selinux", "enforcing", "apparmor", "security", "lsm", "audit", "vga",
        "cgroup_disable", "noresume", "cryptdevice", "zswap.enabled", "kvm.nested", "fips", "boot", "panic_on_warn",
        "panic_on_taint", "hung_task_panic", "softlockup_panic", "hardlockup_panic", "rcupdate.rcu_cpu_stall_timeout",
        "crash_kexec_post_notifiers", "hest_disable", "pcie_ports", "vmcp_cma", "prot_virt", "ignition.firstboot",
        "zfcp.allow_lun_scan", "abm", "loglevel", "printk.devkmsg", "unknown_nmi_panic", "workqueue.panic_on_stall",
        "workqueue.panic_on_stall_time",
    )
)  # fmt: skip
REMOVED_PREFIXES = (
    "rd.", "systemd.", "luks", "cma", "hugetlb_", "numa_", "netdump.", "trace_", "kfence.", "sysctl.", "dm-mod.",
)  # fmt: skip
NEUTRALISING = ("selinux=0", "audit=0")  # there is no policy in the image


def running_command_line() -> str:
    """The command line of the running kernel."""
    return RUNNING.read_text(errors="replace").strip()


def command_line(running: str, append: Iterable[str] = (), architecture: str | None = None) -> str:
    """Make the capture kernel's command line from the running one.

    append: words of the administrator, last. architecture: as uname -m, default this machine's. What is for the running
    system's init is left out: behind it ours would be too, and elfcorehdr=, which kexec adds. Raises ArmError if the
    line gets too long.
    """
    kept = [word for word in words_for_kernel(running) if not _is_removed(word)]
    particular = BY_ARCHITECTURE.get(architecture or platform.machine(), ELSEWHERE)
    words = [*kept, *particular, *EVERYWHERE, *NEUTRALISING, *append]
    line = " ".join(words)
    if len(line.encode()) > COMMAND_LINE_MAX:
        raise ArmError(
            f"the command line of the capture kernel would be {len(line.encode())} bytes, at most {COMMAND_LINE_MAX} "
            "are possible: remove words from this machine's or use --command-line"
        )
    return line


def refuse_words_for_init(line: str) -> None:
    """Raises ArmError if the kernel does not read all of a line that was asked for."""
    if list(words_for_kernel(line)) != list(split_words(line)):
        raise ArmError(
            f"what stands behind {FOR_INIT} on the command line of the capture kernel is for its init, and kexec adds "
            f"at the end where the core is (elfcorehdr=): leave out {FOR_INIT} and what follows it"
        )


def _is_removed(word: str) -> bool:
    name = word.partition("=")[0]
    return name in REMOVED or name.startswith(REMOVED_PREFIXES)
