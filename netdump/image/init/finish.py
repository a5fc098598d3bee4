"""The last stage: what the administrator wants to happen to the machine.

Runs as a child of process 1, because both writing disks and shutting devices down may hang; process 1 has other means
(supervisor).
"""

from __future__ import annotations

import os

from netdump.image.init.console import say
from netdump.image.init.kernelcalls import reboot

SHELL = ("/bin/sh", "/bin/busybox", "/usr/bin/python3")


def finish(action: str) -> int:
    """Do it. action: reboot, poweroff or halt. Returns only if that failed."""
    os.sync()
    try:
        reboot(action)
    except OSError as error:
        say(f"cannot {action}: {error.strerror}")
    return 1


def shell_command() -> list[str]:
    """The command line of a shell: the image's own, or Python's prompt."""
    for path in SHELL:
        if os.path.exists(path):
            return {"/bin/busybox": [path, "sh"], "/usr/bin/python3": [path, "-I", "-S", "-i"]}.get(path, [path])
    return []
