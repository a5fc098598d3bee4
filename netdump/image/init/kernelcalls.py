"""The few system calls that Python has no name for: mount, init_module, reboot, a socket's filter.

Owns ctypes, 0.5 MiB of memory in a process that soon ends (a busybox would be 2 MiB in the image). Errors are OSError.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8  # Linux include/uapi/linux/mount.h
SO_ATTACH_FILTER = 26  # Linux include/uapi/asm-generic/socket.h
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


def attach_filter(receiver: socket.socket, program: bytes) -> None:
    """Have the kernel give a socket only what a program of classic BPF lets through. Raises OSError."""
    from socket import SOL_SOCKET  # noqa: PLC0415 - most stages need no sockets

    text = ctypes.create_string_buffer(program)
    told = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
    receiver.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, told)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
