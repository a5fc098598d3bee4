"""A machine that can panic: QEMU (TCG) with a real Debian kernel, and a root file system in memory.

Owns how a guest is put together: busybox, this interpreter with netdump's dependencies, kexec, the kernel's own files.
Nothing in it is prepared for the crash; the guest enrols and arms itself with the commands that a user types.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

import netdump
from netdump.image.closure import read_binary
from netdump.image.cpio import Archive
from netdump.image.elfobject import is_elf, read_object
from netdump.image.kernel import Kernel, find_kernel
from netdump.image.kmodules import ModuleTree, module_name
from tests.e2e.monitor import Monitor, connect
from tests.e2e.rig import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KERNEL_ROOT = Path(os.environ.get("NETDUMP_KERNEL_ROOT", "/nonexistent"))
RELEASE = next((path.name.removeprefix("vmlinuz-") for path in KERNEL_ROOT.glob("boot/vmlinuz-*")), "")
RESERVED = 112 if RELEASE.startswith("6.1.") else 144  # MiB; newer ones need more (docs/capture.md)
MEMORY = RESERVED + 304  # MiB
HOST = "10.0.2.2"  # this machine's loopback, as a guest of QEMU's user network sees it
HOST_IPV6 = "fec0::2"  # and so its ::1
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "8021q", "bonding", "softdog")
LOADED = ("virtio_pci", "virtio_net", "virtio_blk")
PACKAGES = ("click", "cryptography", "urllib3", "zstandard")  # beside _cffi_backend, which cryptography brings
UNUSED = frozenset(
    (
        "__pycache__", "config-3", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "samples", "test",
        "tests", "testing", "tkinter", "turtledemo", "unittest", "distutils", "_cffi", "_tkinter", "_sqlite3",
        "_curses", "_curses_panel", "_decimal", "readline", "_dbm", "_gdbm",
    )
)  # fmt: skip
MAC = "52:54:00:12:34:56"
BOOT_TIMEOUT = 600.0


class Machine(NamedTuple):
    """What QEMU plays. emulator: the beginning of its command line. memory: of it. reserved: word of its kernel.

    loaded: kernel modules.
    """

    emulator: tuple[str, ...]
    memory: str
    reserved: str
    loaded: tuple[str, ...] = LOADED


X86_64 = Machine(
    ("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35", "-smp", "2"),
    f"{MEMORY}M",
    f"crashkernel={RESERVED}M",
)
TWO_NODES = X86_64._replace(
    emulator=(
        *X86_64.emulator,
        *("-object", f"memory-backend-ram,id=m0,size={MEMORY // 2}M", "-numa", "node,nodeid=0,cpus=0,memdev=m0"),
        *("-object", f"memory-backend-ram,id=m1,size={MEMORY // 2}M", "-numa", "node,nodeid=1,cpus=1,memdev=m1"),
    )
)
"""The same memory in two nodes: one of them has zones that never had any."""

INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
cat /proc/uptime > /dev/null; hostname crashy
for m in {modules}; do insmod $m; done
echo 1 > /proc/sys/kernel/sysrq
ip link set lo up
{script}
echo GUEST-SCRIPT-ENDED
poweroff -f
"""
NETDUMP = """\
#!/usr/bin/python3
import sys
from netdump.__main__ import run
run()
"""
STATIC_NETWORK = "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2"


class GuestCollector(Collector):
    """A collector that guests know as 10.0.2.2."""

    def __init__(self, folder: Path, *, like: Collector | None = None) -> None:
        super().__init__(folder, f"{HOST},{HOST_IPV6},localhost,127.0.0.1", like=like)

    @property
    def guest_url(self) -> str:
        return f"https://{HOST}:{self.api.rpartition(':')[2]}"

    @property
    def guest_address(self) -> str:
        return f"{HOST}:{self.ingest.rpartition(':')[2]}"


def kernel() -> Kernel:
    """The unpacked kernel package, which `./run e2e` fetches."""
    if not RELEASE:
        pytest.skip("no kernel for guests is at hand (NETDUMP_KERNEL_ROOT); ./run e2e fetches one")
    for tool in ("qemu-system-x86_64", "kexec", "busybox"):
        if find(tool) is None:
            pytest.skip(f"{tool} is missing; ./run e2e installs it")
    return find_kernel(RELEASE, KERNEL_ROOT)


def find(tool: str) -> str | None:
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")


def build_root(kernel: Kernel) -> bytes:
    """The archive with everything but the script; the same for all guests of a session."""
    archive = skeleton()
    for tool in ("busybox", "kexec"):
        path = find(tool)
        assert path is not None
        add_program(archive, Path(path), f"bin/{tool}" if tool == "busybox" else f"usr/sbin/{tool}")
    _add_python(archive)
    add_kernel(archive, kernel)
    return archive.pack()


def skeleton() -> Archive:
    """What every guest has, whatever its programs."""
    archive = Archive()
    for folder in ("proc", "sys", "dev", "tmp", "root", "mnt"):
        archive.add_folder(folder)
    for name, major, minor in (("console", 5, 1), ("null", 1, 3)):
        archive.add_device(f"dev/{name}", major, minor)
    archive.add_link("bin/sh", "busybox")
    archive.add_file("usr/bin/netdump", NETDUMP.encode(), 0o755)
    return archive


def script_archive(
    kernel: Kernel, script: str, *, files: Mapping[str, bytes] | None = None, modules: Sequence[str] = LOADED
) -> bytes:
    """The archive with /init, unpacked over the other one. files: more of them. modules: to load."""
    archive = Archive()
    for name, content in (files or {}).items():
        archive.add_file(name, content, 0o600)
    paths = " ".join(str(module_path(kernel, name)) for name in ModuleTree(kernel).load_order(modules))
    archive.add_file("init", INIT.format(modules=paths, script=script).encode(), 0o755)
    return archive.pack()


def boot(
    kernel: Kernel, initrd: Path, log: Path, *, memory: str = "512M", append: str = "crashkernel=128M",
    options: Sequence[str] = (), timeout: float = BOOT_TIMEOUT,
) -> str:  # fmt: skip
    """Run a guest to its end and return what stood on its console."""
    with Guest(qemu(kernel, initrd, log, memory=memory, append=append, options=options), log) as guest:
        return guest.wait(timeout)


class Guest:
    """A running guest; ended at the latest with the block. monitor: its control socket.

    command: of qemu(), log as there. What is typed goes to a second serial line, to a shell if it runs one there.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self._folder = tempfile.TemporaryDirectory(prefix="netdump-vm-")  # names of sockets are short
        control, shell = Path(self._folder.name, "control"), Path(self._folder.name, "shell")
        options = [
            "-serial", f"unix:{shell},server=on,wait=off", "-qmp", f"unix:{control},server=on,wait=off",
        ]  # fmt: skip
        self._process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL)
        self._shell = connect(shell)
        self.monitor = Monitor(control)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Pull its plug."""
        self._process.kill()
        self._process.wait()
        self._shell.close()
        self.monitor.close()
        self._folder.cleanup()

    @property
    def console(self) -> str:
        return self._log.read_bytes().decode(errors="replace").replace("\r", "") if self._log.exists() else ""

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = BOOT_TIMEOUT) -> str:
        """Until it powers off or reboots. Returns its console."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the guest did not end within {timeout:g} s:\n{self.console[-4000:]}")
        self.monitor.drain()
        return self.console

    def wait_for(self, text: str, timeout: float = BOOT_TIMEOUT) -> None:
        """Until text stands on the console."""
        limit = time.monotonic() + timeout
        while text not in self.console:
            if not self.runs or time.monotonic() > limit:
                pytest.fail(f"the guest never said {text!r}:\n{self.console[-4000:]}")
            time.sleep(0.1)

    def type(self, commands: str) -> None:
        """Type into the guest's shell."""
        self._shell.sendall(f"{commands}\n".encode())

    def press(self, *keys: str) -> None:
        """Press keys on its keyboard together, as QEMU's QKeyCode names them."""
        self.monitor.execute("send-key", keys=[{"type": "qcode", "data": key} for key in keys])


def qemu(
    kernel: Kernel, initrd: Path, log: Path, *, memory: str = "512M", append: str = "crashkernel=128M",
    options: Sequence[str] = (), emulator: Sequence[str] = X86_64.emulator,
) -> list[str]:  # fmt: skip
    """The command line of a guest, its console in log. It ends when the guest powers off or reboots."""
    return [
        *emulator, "-m", memory, "-display", "none", "-serial", f"file:{log}", "-no-reboot",
        # Told to announce itself after resume(), a 32-bit guest now and then had a double fault behind cmpxchg8b, whose
        # flags QEMU 7.2 gets wrong then (EFLAGS had the value of EAX): its old capture kernel took the dump of that.
        "-netdev", "user,id=n0", "-device", f"virtio-net-pci,netdev=n0,mac={MAC},guest_announce=off",
        "-kernel", str(kernel.image()), "-initrd", str(initrd),
        # Where the machine that plays it is busy, its timer can come too late for the kernel's check of it.
        "-append", f"console=ttyS0 panic=1 no_timer_check {append}", *options,
    ]  # fmt: skip


def add_program(archive: Archive, path: Path, target: str) -> None:
    """Add a program or extension, and the shared libraries that ldd names, each where it lies here."""
    content = path.read_bytes()
    archive.add_file(target, stripped(path), 0o755)
    if not is_elf(content) or not read_object(content, str(path)).needed:
        return
    listed = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    for word in listed.split():
        if word.startswith("/") and word not in archive:
            archive.add_file(word, stripped(Path(word)), 0o755)


def stripped(path: Path) -> bytes:
    """What a distribution ships: without symbols."""
    return read_binary(path, shutil.which("strip"))


def _add_python(archive: Archive) -> None:
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = f"usr/lib/{version}"
    add_program(archive, base, f"usr/bin/{version}")
    archive.add_link("usr/bin/python3", version)
    add_tree(archive, Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})), library)
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        add_tree(archive, Path(spec.origin).parent, f"{library}/{name}")
    backend = importlib.util.find_spec("_cffi_backend")
    assert backend is not None
    assert backend.origin is not None
    archive.add_file(f"{library}/{Path(backend.origin).name}", stripped(Path(backend.origin)), 0o755)
    add_tree(archive, Path(netdump.__file__).parent, f"{library}/netdump")


def add_tree(archive: Archive, source: Path, target: str) -> None:
    """Add a folder of Python files, with the bytecode that this machine has made of them."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_dir() or any(
            part.partition(".")[0] in UNUSED or part.startswith("_test") for part in relative.parts
        ):
            continue
        if path.suffix == ".so" or ".so." in path.name:
            add_program(archive, path, f"{target}/{relative}")
        elif path.suffix in {".py", ".pyi", ".toml"} and path.stat().st_size < 1 << 20:
            archive.add_file(f"{target}/{relative}", path.read_bytes())
            _add_bytecode(archive, path, f"{target}/{relative.parent}")


def _add_bytecode(archive: Archive, path: Path, folder: str) -> None:
    """As a .pyc that is valid without times, which the archive does not keep (PEP 552)."""
    cached = Path(importlib.util.cache_from_source(str(path)))
    if path.suffix != ".py" or not cached.exists():
        return
    bytecode, source = cached.read_bytes(), path.stat()
    made_of = (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    if bytecode[:8] == importlib.util.MAGIC_NUMBER + bytes(4) and struct.unpack_from("<II", bytecode, 8) == made_of:
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(path.read_bytes())
        archive.add_file(f"{folder}/__pycache__/{cached.name}".replace("/./", "/"), head + bytecode[16:])


def add_kernel(archive: Archive, kernel: Kernel, modules: Iterable[str] = MODULES) -> None:
    """Add what `netdump arm` reads of a kernel, and modules with all that they need."""
    for path in (kernel.image(), kernel.root / "boot" / f"config-{kernel.release}"):
        archive.add_file(f"boot/{path.name}", path.read_bytes())
    for path in sorted(kernel.modules.glob("modules.*")):
        if not path.name.endswith((".bin", ".symbols", ".alias")):
            archive.add_file(f"lib/modules/{kernel.release}/{path.name}", path.read_bytes())
    for name in ModuleTree(kernel).load_order(modules):
        archive.add_file(
            str(module_path(kernel, name)), (kernel.root / str(module_path(kernel, name))[1:]).read_bytes()
        )


def module_path(kernel: Kernel, name: str) -> Path:
    found = next(path for path in kernel.modules.rglob("*.ko*") if module_name(path.name) == name)
    return Path("/") / found.relative_to(kernel.root)


def write_initrd(path: Path, parts: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(part + bytes(-len(part) % 4) for part in parts))
    return path
