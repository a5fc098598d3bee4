"""Loads the capture kernel with its image, so that a panic finds it, and takes it out again.

Owns kexec, and how much memory must be reserved. Reads what the kernel says in /sys/kernel; changes nothing else.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from netdump.errors import ArmError, ReservationError
from netdump.image.bzimage import HEADER_BYTES, parse_header, with_room
from netdump.image.commandline import I386

SYS_KERNEL = Path("/sys/kernel")
LOAD_DISABLED = Path("/proc/sys/kernel/kexec_load_disabled")
KEXEC_TIMEOUT = 120.0  # seconds

# What kernel, init and client need beside the image. Measured in QEMU with Debian's kernel 6.1 on x86_64
# (docs/capture.md): 104M just works, with 10 MiB to spare; this asks for 4 MiB more. A larger kernel needs as much more
# as it is larger than that one: with Debian's 7.2 and Python 3.14, of 128 MiB 4 were left.
WORKING_BYTES = 72 << 20
MEASURED_KERNEL_BYTES = 0x3378000  # init_size in the header of Debian's 6.1.0-56-cloud-amd64

USUAL_BYTES = 128 << 20
"""What to reserve while the need of a machine is not known, as docs/capture.md says."""


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


def needed_bytes(packed_bytes: int, raw_bytes: int, kernel: Path) -> int:
    """The memory that this capture kernel with an image of this size needs. Both: bytes. kernel: the file to boot.

    Raises ArmError if that cannot be read.
    """
    try:
        with kernel.open("rb") as file:
            header = parse_header(file.read(HEADER_BYTES))
    except OSError as error:
        raise ArmError(f"{kernel} cannot be read ({error.strerror}): install the kernel's package again") from error
    larger = max(0, header.init_bytes - MEASURED_KERNEL_BYTES) if header else 0  # others do not tell
    return WORKING_BYTES + larger + 2 * packed_bytes + raw_bytes


def advice(needed: int) -> str:
    """What to put on the kernel command line. needed: bytes; reservations are made in steps of 16 MiB."""
    return f"crashkernel={-(-needed >> 24) << 4}M"


def reserving(word: str) -> str:
    """What to do for a reservation, for people. word: crashkernel=SIZE.

    Fedora and RHEL keep the command line of each kernel in a file of its own, which making grub.cfg anew leaves alone.
    """
    return (
        f"put {word} into GRUB_CMDLINE_LINUX of /etc/default/grub, then update-grub (SUSE: grub2-mkconfig -o "
        f"/boot/grub2/grub.cfg; Fedora, RHEL instead: grubby --update-kernel=ALL --args={word}), and reboot"
    )


def check_machine(reserved: int) -> None:
    """Refuse, before an image is built, a machine that can load none. Raises ArmError."""
    if reserved == 0:
        raise ReservationError(f"no memory is reserved for a capture kernel: {reserving(advice(USUAL_BYTES))}")
    _kexec_program()


def check_reservation(reserved: int, needed: int) -> None:
    """Refuse to arm a machine whose capture kernel would die of too little memory. Raises ReservationError."""
    if reserved < needed:
        raise ReservationError(
            f"{reserved >> 20} MiB are reserved for the capture kernel, this image needs {-(-needed >> 20)} MiB: "
            f"{reserving(advice(needed))}"
        )


def load(loading: Loading, sys_kernel: Path = SYS_KERNEL) -> None:
    """Load, in place of what may be loaded already, which the kernel drops first. Raises ArmError."""
    if is_disabled():
        raise ArmError(
            "this kernel loads no capture kernel any more until the next boot (kernel.kexec_load_disabled is 1): arm "
            "before that is set"
        )
    if platform.machine() in I386:
        with tempfile.NamedTemporaryFile(prefix="netdump-kernel-") as roomy:
            roomy.write(with_room(loading.kernel.read_bytes()))
            roomy.flush()
            _load(loading, sys_kernel, [roomy.name, "--elf32-core-headers"])
    else:
        _load(loading, sys_kernel, [str(loading.kernel)])


def _load(loading: Loading, sys_kernel: Path, kernel: list[str]) -> None:
    """kernel: arguments, first the file."""
    base = ["-p", *kernel, f"--initrd={loading.initrd}", f"--command-line={loading.command_line}"]
    # A locked-down kernel takes only signed kernels, by the system call that can check them.
    ways = [["-s"]] if is_locked_down(sys_kernel) else [["-c"], ["-s"]]
    problems = []
    for way in ways:
        problem = _kexec([*way, *base])
        if not problem and is_loaded(sys_kernel):
            return
        problems.append(problem or "kexec said nothing, but nothing is loaded")
    left = "" if is_loaded(sys_kernel) else "; no capture kernel is loaded now"
    hint = ""
    if is_locked_down(sys_kernel):
        hint = (
            " (a locked-down kernel takes only one that is signed with a key that it knows. With Secure Boot it knows "
            "its distribution's: install the kernel's package again; else boot with Secure Boot or without lockdown)"
        )
    raise ArmError(f"kexec cannot load {loading.kernel}: {'; '.join(dict.fromkeys(problems))}{hint}{left}")


def unload(sys_kernel: Path = SYS_KERNEL) -> bool:
    """Take the capture kernel out. Returns whether there was one. Raises ArmError."""
    if not is_loaded(sys_kernel):
        return False
    ways = [["-s"]] if is_locked_down(sys_kernel) else [["-c"], ["-s"]]
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


def is_disabled(switch: Path = LOAD_DISABLED) -> bool:
    """Whether an administrator has switched loading off, which holds until the next boot."""
    try:
        return switch.read_text().strip() == "1"
    except OSError:
        return False


def is_locked_down(sys_kernel: Path = SYS_KERNEL) -> bool:
    """Whether the kernel protects itself from root (lockdown): it loads only signed kernels then."""
    try:
        return "[none]" not in (sys_kernel / "security/lockdown").read_text()
    except OSError:
        return False


def _kexec_program() -> str:
    program = shutil.which("kexec") or shutil.which("kexec", path="/usr/sbin:/sbin")
    if program is None:
        raise ArmError("the program kexec is missing: install kexec-tools")
    return program


def _kexec(arguments: list[str]) -> str:
    """Run kexec. Returns what went wrong, "" if nothing did."""
    program = _kexec_program()
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
