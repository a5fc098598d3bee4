"""The capture side as a folder, for an image that a distribution's kdump builds.

Owns the folder's one way in, the script `deliver`. What else is in it is what an image of ours holds (build). The
folder becomes the root of the processes that run from it: its libraries never meet those of the image around it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from netdump.errors import AlreadyExistsError, ImageError
from netdump.image.closure import PYTHON_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.build import Contents
    from netdump.image.cpio import Entry

DELIVER: Final = "deliver"
SCRIPT: Final = f"""\
#!/bin/sh
# Sends /proc/vmcore with netdump. Exit status 0: a collector has it. --end: and then end the machine.
root=${{0%/*}}
# Drivers load their firmware from here. It is the kernel that looks, so the path is that outside of the new root.
firmware=/sys/module/firmware_class/parameters/path
if [ -d "$root/lib/firmware" ] && [ -w "$firmware" ]; then
    printf %s "$root/lib/firmware" >"$firmware"
fi
# It was no program until now: for a program, dracut would bring libraries along that are in here already.
chmod 755 "$root/{PYTHON_PATH}"
exec chroot "$root" /{PYTHON_PATH} -ISB -c \
    'import sys; from netdump.image.init.target import main; sys.exit(main(sys.argv[1:]))' "$@"
"""


def write_tree(contents: Contents, folder: Path) -> int:
    """Write contents below folder, which must be empty or absent. Returns the bytes of all files.

    Raises AlreadyExistsError, ImageError.
    """
    written = len(SCRIPT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise AlreadyExistsError(f"{folder} is not empty: name a new folder")
        written += lay_out(contents, folder)
        (folder / PYTHON_PATH).chmod(0o644)  # see SCRIPT
        _write_file(folder / DELIVER, SCRIPT.encode(), 0o755)
    except OSError as error:
        raise ImageError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return written


def lay_out(contents: Contents, folder: Path) -> int:
    """Write contents into a folder that is there, without a way in. Returns the bytes of all files. Raises OSError."""
    written = 0
    for archive in (contents.programs, contents.machine):
        for name, entry in archive.items():
            _write(folder / name, entry)
            written += len(entry.content)
    return written


def _write(path: Path, entry: Entry) -> None:
    permissions = stat.S_IMODE(entry.mode)
    if stat.S_ISDIR(entry.mode):
        path.mkdir(exist_ok=True)
        path.chmod(permissions)
    elif stat.S_ISLNK(entry.mode):
        path.symlink_to(entry.content.decode())
    else:
        assert stat.S_ISREG(entry.mode), path
        _write_file(path, entry.content, permissions)


def _write_file(path: Path, content: bytes, permissions: int) -> None:
    """Never readable by more than it will be: one of the files is a key."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions & 0o700)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), permissions)
