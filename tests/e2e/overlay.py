"""A copy of this machine to install into, without touching it: an overlay of its root, entered by chroot or booted.

Owns the mounts. Nothing that happens in the copy reaches the machine: changes are in memory and go with the overlay.
Booted by systemd-nspawn it is a machine with systemd as process 1, a network of its own, and this kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).parents[2]
PREFIX = "/opt/netdump"
PYTHON = "/opt/python"
NETDUMP = "/usr/local/bin/netdump"
COMMAND_TIMEOUT = 300
BOOT_TIMEOUT = 300
ENTER = """\
root=$1; shift
mount -t proc proc "$root/proc"; mount -t sysfs -o ro sys "$root/sys"; mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""
SCRIPT_UNIT = """\
[Unit]
SuccessAction=exit
FailureAction=exit
SuccessActionExitStatus=0
FailureActionExitStatus=99
[Service]
Type=oneshot
StandardOutput=file:/root/out
StandardError=file:/root/trace
ExecStart=/root/script
TimeoutStartSec=280
[Install]
WantedBy=multi-user.target
"""
TOOLS = ("mypy*", "*__mypyc*", "hypothesis*", "grimp*", "_pytest", "setuptools*")  # large, and of no use in a copy
# Units of the machine that a copy has no use for, and that only cost time.
MASKED = (
    "systemd-networkd-wait-online.service", "systemd-udevd.service", "systemd-udev-trigger.service", "getty.target",
    "apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer", "dpkg-db-backup.timer",
    "postgresql.service", "systemd-logind.service", "systemd-timesyncd.service", "console-getty.service",
)  # fmt: skip


class Overlay:
    """Mounted while the block lasts."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="netdump-overlay-"))
        self.root = self._base / "root"

    def __enter__(self) -> Self:
        _mount("-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs", str(self._base))
        for name in ("upper", "work", "root"):
            (self._base / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._base}/upper,workdir={self._base}/work"
        _mount("-t", "overlay", "-o", layers, "overlay", str(self.root))
        return self

    def __exit__(self, *_: object) -> None:
        # What stands below comes down with it; lazily, because a killed container may still be letting go.
        subprocess.run(["umount", "--lazy", "--recursive", str(self._base)], check=True)
        self._base.rmdir()

    def bind(self, source: Path, target: str) -> None:
        """Show a folder of this machine at target, read-only in effect: nobody writes there."""
        place = self.root / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(source), str(place))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Make a file, over a link as well."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy, on this machine's kernel and network."""
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh", str(self.root), *command],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **environment},
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def install_netdump(self, folder: Path) -> None:
        """As an operator does: a wheel into a virtual environment, and its command where systemd looks for commands."""
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
        subprocess.run([*build, str(CHECKOUT)], check=True, capture_output=True, timeout=COMMAND_TIMEOUT)
        (wheel,) = folder.glob("netdump-*.whl")
        self.run(self._interpreter(), "-m", "venv", PREFIX)
        packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        # Dependencies are those of the tests' environment: nothing is fetched. Its way to the checkout stays behind.
        ignored = shutil.ignore_patterns("*netdump*", "pip*", "__pycache__", *TOOLS)
        source, target = Path(sys.prefix) / packages, self.root / PREFIX.lstrip("/") / packages
        shutil.copytree(source, target, ignore=ignored, symlinks=True, dirs_exist_ok=True)
        shutil.copy(wheel, self.root / "tmp")
        pip = (f"{PREFIX}/bin/python", "-m", "pip", "install", "-q", "--no-deps", "--no-index")
        self.run(*pip, f"/tmp/{wheel.name}")
        (self.root / NETDUMP.lstrip("/")).unlink(missing_ok=True)
        (self.root / NETDUMP.lstrip("/")).symlink_to(f"{PREFIX}/bin/netdump")

    def _interpreter(self) -> str:
        """The tests' own. One in a home folder, which no other user can enter, is shown elsewhere."""
        program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        if not sys.base_prefix.startswith(("/root/", "/home/")):
            return str(program)
        self.bind(Path(sys.base_prefix), PYTHON)
        self.write("/etc/ld.so.conf.d/test-python.conf", f"{PYTHON}/lib\n")
        self.run("ldconfig")
        return f"{PYTHON}/{program.relative_to(sys.base_prefix)}"

    def boot(self, script: str, units: Sequence[str]) -> str:
        """Boot it with these units enabled, run a shell script as root in it, and return what that printed.

        Ends with the script, whose exit status must be 0.
        """
        self.write("/root/script", f"#!/bin/sh\nset -eux\n{script}", 0o755)
        self.write("/etc/systemd/system/test-script.service", SCRIPT_UNIT)
        self.run("systemctl", "enable", "-q", "test-script.service", *units)
        self.run("systemctl", "mask", "-q", *MASKED)
        self.run("systemctl", "set-default", "-q", "multi-user.target")
        nspawn = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"]
        with (self._base / "console").open("w+") as console:
            machine = subprocess.Popen(
                [*nspawn, "--link-journal=no", "--console=pipe", f"--directory={self.root}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            try:
                status = machine.wait(BOOT_TIMEOUT)
            except subprocess.TimeoutExpired:
                machine.kill()
                status = machine.wait()
            console.seek(0)
            out, trace = (self._read(f"root/{name}") for name in ("out", "trace"))
            assert status == 0, f"{status}\n{console.read()[-3000:]}\n{trace[-4000:]}\n{out[-2000:]}"
        return out

    def _read(self, path: str) -> str:
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""


def needs(*tools: str) -> None:
    """Skip where this cannot be done."""
    if os.geteuid():
        pytest.skip("only root can mount an overlay")
    missing = [tool for tool in tools if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing; ./run e2e installs them")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
