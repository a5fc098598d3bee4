"""Loads the capture kernel with its image, so that a panic finds it, and takes it out again.

Owns kexec and the command line of the capture kernel. Reads what the kernel says in /sys/kernel; changes nothing else.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.errors import ArmError, ReservationError

if TYPE_CHECKING:
    from collections.abc import Iterable

SYS_KERNEL = Path("/sys/kernel")
COMMAND_LINE = Path("/proc/cmdline")
KEXEC_TIMEOUT = 120.0  # seconds
COMMAND_LINE_MAX = 2047  # bytes; COMMAND_LINE_SIZE of x86 without the closing zero, arm64 has as much

# What kernel, init and client need beside the image. Measured in QEMU with Debian's kernel 6.1 on x86_64
# (docs/capture.md): 104M just works, with 10 MiB to spare; this asks for 4 MiB more.
WORKING_BYTES = 72 << 20

# What the capture kernel gets on top. irqpoll, reset_devices: devices are as the dead kernel left them. nr_cpus: each
# CPU costs memory, and only the first is certain to start. The rest saves memory, or leaves out what may hang
# (kdump-utils gen-kdump-sysconfig.sh; Debian kdump-config).
ADDITIONS = (
    "irqpoll", "nr_cpus=1", "reset_devices", "panic=10", "cgroup_disable=memory", "numa=off", "mce=off", "nokaslr",
    "novmcoredd", "hest_disable", "cma=0", "hugetlb_cma=0", "transparent_hugepage=never", "acpi_no_memhotplug",
    "random.trust_cpu=on",
)  # fmt: skip
# What it must not inherit: memory sizes, roots, another init, tracing and debugging, quietness.
REMOVED = frozenset(
    (
        "BOOT_IMAGE", "initrd", "root", "rootflags", "rootfstype", "rootdelay", "rootwait", "ro", "rw", "resume",
        "crashkernel", "init", "rdinit", "quiet", "splash", "ip", "nr_cpus", "maxcpus", "possible_cpus", "isolcpus",
        "nohz_full", "rcu_nocbs", "irqaffinity", "mem", "memmap", "hugepages", "hugepagesz", "default_hugepagesz",
        "log_buf_len", "slub_debug", "slab_debug", "debug_pagealloc", "page_owner", "page_poison", "kasan",
        "kmemleak", "swiotlb", "movablecore", "kernelcore", "panic", "panic_print", "oops", "ftrace",
        "ftrace_filter", "trace_event", "trace_buf_size", "transparent_hugepage", "numa", "mce", "kaslr", "nokaslr",
        "irqpoll", "reset_devices", "selinux", "enforcing", "apparmor", "security", "lsm", "audit", "vga",
        "cgroup_disable", "noresume", "cryptdevice", "zswap.enabled", "kvm.nested", "fips", "boot",
    )
)  # fmt: skip
REMOVED_PREFIXES = ("rd.", "systemd.", "luks", "cma", "hugetlb_", "numa_", "netdump.", "trace_")
NEUTRALISING = ("selinux=0", "audit=0")  # there is no policy in the image


@dataclass(frozen=True, slots=True)
class Loading:
    """What to load. kernel: file to boot. initrd: file. command_line: complete."""

    kernel: Path
    initrd: Path
    command_line: str


def reserved_bytes(sys_kernel: Path = SYS_KERNEL) -> int:
    """The memory that is kept for a capture kernel. Raises ArmError if this kernel cannot have one."""
    try:
        return int((sys_kernel / "kexec_crash_size").read_text())
    except (OSError, ValueError) as error:
        raise ArmError(
            "the running kernel has no kexec for crashes (CONFIG_KEXEC_CORE, CONFIG_CRASH_DUMP): boot one that has"
        ) from error


def needed_bytes(packed_bytes: int, raw_bytes: int) -> int:
    """The memory that a capture kernel with an image of this size needs. Both: bytes."""
    return WORKING_BYTES + 2 * packed_bytes + raw_bytes


def check_reservation(reserved: int, needed: int) -> None:
    """Refuse to arm a machine whose capture kernel would die of too little memory. Raises ReservationError."""
    advice = f"crashkernel={-(-needed >> 24) << 4}M"
    if reserved == 0:
        raise ReservationError(
            f"no memory is reserved for a capture kernel: put {advice} on the kernel command line (GRUB_CMDLINE_LINUX "
            "in /etc/default/grub, then update-grub) and reboot"
        )
    if reserved < needed:
        raise ReservationError(
            f"{reserved >> 20} MiB are reserved for the capture kernel, this image needs {-(-needed >> 20)} MiB: put "
            f"{advice} on the kernel command line and reboot"
        )


def command_line(running: str, append: Iterable[str] = ()) -> str:
    """Make the capture kernel's command line from the running one. append: words of the administrator, last.

    Raises ArmError if it gets too long.
    """
    kept = [word for word in split_words(running) if not _is_removed(word)]
    words = [*kept, *ADDITIONS, *NEUTRALISING, *append]
    line = " ".join(words)
    if len(line.encode()) > COMMAND_LINE_MAX:
        raise ArmError(
            f"the command line of the capture kernel would be {len(line.encode())} bytes, at most {COMMAND_LINE_MAX} "
            "are possible: remove words from this machine's or use --command-line"
        )
    return line


def split_words(text: str) -> list[str]:
    """The words of a kernel command line; double quotes protect blanks and stay."""
    words, word, quoted = [], "", False
    for character in text:
        quoted ^= character == '"'
        if character.isspace() and not quoted:
            words += [word] if word else []
            word = ""
        else:
            word += character
    return words + ([word] if word else [])


def load(loading: Loading, sys_kernel: Path = SYS_KERNEL) -> None:
    """Load, in place of what may be loaded already. Raises ArmError."""
    base = [
        "-p",
        str(loading.kernel),
        f"--initrd={loading.initrd}",
        f"--command-line={loading.command_line}",
        *(["--elf32-core-headers"] if platform.machine() in {"i386", "i486", "i586", "i686"} else []),
    ]
    # A locked-down kernel takes only signed kernels, by the system call that can check them.
    ways = [["-s"]] if _is_locked_down(sys_kernel) else [["-c"], ["-s"]]
    problems = []
    for way in ways:
        problem = _kexec([*way, *base])
        if not problem and is_loaded(sys_kernel):
            return
        problems.append(problem or "kexec said nothing, but nothing is loaded")
    raise ArmError(f"kexec cannot load {loading.kernel}: {'; '.join(dict.fromkeys(problems))}")


def unload(sys_kernel: Path = SYS_KERNEL) -> bool:
    """Take the capture kernel out. Returns whether there was one. Raises ArmError."""
    if not is_loaded(sys_kernel):
        return False
    ways = [["-s"]] if _is_locked_down(sys_kernel) else [["-c"], ["-s"]]
    problems = []
    for way in ways:
        problem = _kexec([*way, "-p", "-u"])
        if not is_loaded(sys_kernel):
            return True
        problems.append(problem)
    raise ArmError(f"kexec cannot unload the capture kernel: {'; '.join(filter(None, problems))}")


def is_loaded(sys_kernel: Path = SYS_KERNEL) -> bool:
    """Whether a capture kernel is loaded, ours or another's."""
    try:
        return (sys_kernel / "kexec_crash_loaded").read_text().strip() == "1"
    except OSError:
        return False


def running_command_line() -> str:
    """The command line of the running kernel."""
    return COMMAND_LINE.read_text(errors="replace").strip()


def _is_removed(word: str) -> bool:
    name = word.partition("=")[0]
    return name in REMOVED or name.startswith(REMOVED_PREFIXES)


def _is_locked_down(sys_kernel: Path) -> bool:
    try:
        return "[none]" not in (sys_kernel / "security/lockdown").read_text()
    except OSError:
        return False


def _kexec(arguments: list[str]) -> str:
    """Run kexec. Returns what went wrong, "" if nothing did."""
    program = shutil.which("kexec") or shutil.which("kexec", path="/usr/sbin:/sbin")
    if program is None:
        raise ArmError("the program kexec is missing: install kexec-tools")
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run(
                [program, *arguments], stdout=output, stderr=output, timeout=KEXEC_TIMEOUT, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        output.seek(0)
        lines = output.read(1 << 16).decode(errors="replace").strip().splitlines()
    return (" ".join(lines[-2:]) or f"status {status}") if status else ""
