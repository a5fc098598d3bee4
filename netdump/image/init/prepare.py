"""The first stage: file systems of the kernel, then its modules.

Runs as a child of process 1 with a time limit, because a driver may hang in its device. A module that does not load is
reported and the next one tried: a machine with half its drivers may still reach its collector.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from netdump.image.init.console import say
from netdump.image.init.kernelcalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, load_module, mount

if TYPE_CHECKING:
    from netdump.image.init.plan import Plan

SAFE = MS_NODEV | MS_NOEXEC | MS_NOSUID
MOUNTS = (
    ("proc", "/proc", "proc", SAFE),
    ("sysfs", "/sys", "sysfs", SAFE),
    ("devtmpfs", "/dev", "devtmpfs", MS_NOSUID),
)


def prepare(plan: Plan) -> int:
    """Mount and load what the plan names. Returns the exit status of the stage, always 0: later stages find out."""
    for source, target, kind, flags in MOUNTS:
        try:
            os.makedirs(target, exist_ok=True)
            mount(source, target, kind, flags)
        except OSError as error:
            if error.errno != errno.EBUSY:  # it is there already
                say(f"cannot mount {kind} on {target}: {error.strerror}")
    for path in plan.modules:
        _load(path)
    return 0


def _load(path: str) -> None:
    try:
        with open(path, "rb") as file:
            content = file.read()
        load_module(content)
    except FileExistsError:
        pass
    except OSError as error:
        say(f"module {path.rpartition('/')[2]} does not load: {error.strerror}")
    else:
        with suppress(OSError):  # then it only takes memory
            os.unlink(path)
