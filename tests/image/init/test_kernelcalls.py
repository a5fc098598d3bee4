from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netdump.image.init.kernelcalls import REBOOT_COMMANDS, load_module, mount, unmount

SCRIPT = (
    "import sys; from netdump.image.init.kernelcalls import mount, unmount; "
    "mount('t', sys.argv[1], 'tmpfs', 0, 'size=4k'); "
    "print(open('/proc/self/mounts').read()); unmount(sys.argv[1])"
)


def test_mounting_and_unmounting(tmp_path: Path) -> None:
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no permission to mount")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, check=True
    )
    assert f"t {tmp_path} tmpfs" in done.stdout


def test_errors_have_numbers(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mount nonsense on") as caught:
        mount("x", str(tmp_path), "nonsense")
    assert caught.value.errno in {errno.ENODEV, errno.EPERM}
    with pytest.raises(OSError, match="unmount"):
        unmount(str(tmp_path))
    with pytest.raises(OSError, match="init_module") as caught:
        load_module(b"no module")
    assert caught.value.errno in {errno.ENOEXEC, errno.EPERM, errno.ENOSYS}


def test_the_commands_are_those_of_the_kernel() -> None:
    header = Path("/usr/include/linux/reboot.h")
    if not header.exists():
        pytest.skip("no kernel headers")
    text = header.read_text()
    for name, kernel in (("reboot", "RESTART"), ("halt", "HALT"), ("poweroff", "POWER_OFF")):
        (value,) = (
            line.split()[2] for line in text.splitlines() if line.startswith(f"#define\tLINUX_REBOOT_CMD_{kernel}\t")
        )
        assert REBOOT_COMMANDS[name] == int(value, 16)
