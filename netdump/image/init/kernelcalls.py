"""The few system calls that Python has no name for: mount, init_module, reboot.

Owns ctypes, 0.5 MiB of memory in a process that soon ends (a busybox would be 2 MiB in the image). Errors are OSError.
"""

from __future__ import annotations

import ctypes
import os

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8  # Linux include/uapi/linux/mount.h
# Linux include/uapi/linux/reboot.h
REBOOT_COMMANDS = {"reboot": 0x01234567, "halt": 0xCDEF0123, "poweroff": 0x4321FEDC}


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system. Raises OSError."""
    _check(
        _libc().mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()),
        f"mount {kind} on {target}",
    )


def unmount(target: str) -> None:
    """Unmount a file system. Raises OSError."""
    _check(_libc().umount(target.encode()), f"unmount {target}")


def load_module(content: bytes, parameters: str = "") -> None:
    """Load a kernel module, not compressed. Raises OSError; FileExistsError if it is loaded already."""
    _check(
        _libc().init_module(content, ctypes.c_ulong(len(content)), parameters.encode()),
        "init_module",
    )


def reboot(action: str) -> None:
    """Reboot, halt or power off at once, without sync. Returns only by OSError."""
    _check(_libc().reboot(ctypes.c_int(REBOOT_COMMANDS[action] - (1 << 32 if action == "halt" else 0))), action)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
