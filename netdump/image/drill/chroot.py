"""The room in which the client of a drill runs: the files of the capture image, on the running kernel.

Owns the room: a file system in memory, seen by the one process that has entered it and gone with it, with all files of
the image, this machine's /dev and /proc, the name servers that the init would set, and the command line of the capture
kernel. What is missing in the image is missing here.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from netdump.image.init.kernelcalls import MS_NOSUID, mount
from netdump.image.tree import lay_out
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.build import Contents

CLONE_NEWNS = 0x20000  # Linux include/uapi/linux/sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # Linux include/uapi/linux/mount.h
CORE = "/tmp/drill.core"  # noqa: S108 - in the room
WORDS = "tmp/cmdline"
FAILED = 1  # exit status, as of a client that could not be started


class DrillFiles(NamedTuple):
    """What goes into the room. core: the dump. command_line: of the capture kernel."""

    contents: Contents
    core: bytes
    command_line: str


def populate(room: Path, files: DrillFiles) -> None:
    """Put everything into the room. Raises OSError."""
    lay_out(files.contents, room)
    (room / CORE[1:]).write_bytes(files.core)
    (room / WORDS).write_text(files.command_line + "\n")
    servers = next((way.servers for way in files.contents.plan.ways), ())
    if servers:
        (room / "etc/resolv.conf").write_text("".join(f"nameserver {server}\n" for server in servers))


def enter(room: Path, files: DrillFiles) -> None:
    """Go into a new room at a folder. There is no way back. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(CLONE_NEWNS)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("netdump", str(room), "tmpfs", MS_NOSUID, "mode=0700")
    populate(room, files)
    for name in ("dev", "proc"):
        mount(f"/{name}", str(room / name), "", MS_BIND | MS_REC)
    mount(str(room / WORDS), str(room / "proc/cmdline"), "", MS_BIND)
    os.chroot(room)
    os.chdir("/")


def enter_or_end(room: Path, files: DrillFiles) -> None:
    """As enter(), for a process that is good for nothing else: ends it if that is not possible."""
    try:
        enter(room, files)
    except OSError as error:
        print(f"the room for the drill cannot be made: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(FAILED)
