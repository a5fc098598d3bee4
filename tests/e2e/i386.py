"""The 32-bit machine: Debian's i386 kernel and Python, on a processor without PAE and a PC without PCI Express.

Owns how its guest is put together from Debian's packages, which `./run e2e` unpacks. It arms itself with netdump; it is
enrolled from outside, because Debian's cryptography is older than netdump asks for.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import netdump
from netdump.image.kernel import Kernel, find_kernel
from tests.e2e import vm

if TYPE_CHECKING:
    from netdump.image.cpio import Archive

MACHINE = vm.Machine(
    ("qemu-system-i386", "-accel", "tcg", "-cpu", "qemu32", "-machine", "pc", "-device", "i6300esb"),
    "416M",
    "crashkernel=128M",
    (*vm.LOADED, "i6300esb"),
)
LIBRARIES = ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu")


def kernel() -> Kernel:
    """The unpacked kernel package."""
    root = Path(os.environ.get("NETDUMP_I386_ROOT", "/nonexistent"))
    if not root.is_dir():
        pytest.skip("no 32-bit packages at hand (NETDUMP_I386_ROOT); ./run e2e fetches them")
    if vm.find("qemu-system-i386") is None:
        pytest.skip("qemu-system-i386 is missing; ./run e2e installs it")
    (modules,) = (root / "lib/modules").iterdir()
    return find_kernel(modules.name, root)


def build_root(kernel: Kernel) -> bytes:
    """The archive with everything but the script."""
    archive, root = vm.skeleton(), kernel.root
    for program, target in (("bin/busybox", "bin/busybox"), ("sbin/kexec", "usr/sbin/kexec")):
        archive.add_file(target, (root / program).read_bytes(), 0o755)
    (python,) = (path.name for path in (root / "usr/bin").glob("python3.*"))
    archive.add_file(f"usr/bin/{python}", (root / "usr/bin" / python).read_bytes(), 0o755)
    archive.add_link("usr/bin/python3", python)
    library = root / "usr/lib" / python
    for path in library.rglob("*"):
        parts = path.relative_to(library).parts
        if not any(part.partition(".")[0] in vm.UNUSED - {"__pycache__"} for part in parts):
            _add(archive, root, path)
    for folder in (*LIBRARIES, "usr/lib/python3/dist-packages/zstandard"):
        for path in (root / folder).rglob("*"):
            if "gconv" not in path.parts and "_cffi" not in path.name:
                _add(archive, root, path)
    archive.add_link("lib/ld-linux.so.2", "i386-linux-gnu/ld-linux.so.2")
    click = importlib.util.find_spec("click")
    assert click is not None
    assert click.origin is not None
    for source in (Path(netdump.__file__).parent, Path(click.origin).parent):
        vm.add_tree(archive, source, f"usr/lib/{python}/{source.name}")
    vm.add_kernel(archive, kernel, MACHINE.loaded)
    return archive.pack()


def _add(archive: Archive, root: Path, path: Path) -> None:
    target = str(path.relative_to(root))
    if path.is_symlink():
        archive.add_link(target, os.readlink(path))
    elif path.is_file():
        archive.add_file(target, path.read_bytes(), 0o755)
