"""The file system on which the capture kernel keeps a dump that no collector took.

Owns finding it in the healthy system: which device, which kind, which modules. Refuses what the init cannot open (LVM,
encryption, RAID, network file systems) now rather than after a panic.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from netdump.errors import SaveFolderError
from netdump.image.devices import block_modules, is_disk
from netdump.image.init.plan import Save
from netdump.image.init.save import UUID_OFFSETS, device_path, read_uuid

DRIVERS = {"ext2": "ext4", "ext3": "ext4"}  # which mounts them as they are; hardly a kernel has one of their own
MOUNTINFO = Path("/proc/self/mountinfo")
SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class SaveTarget:
    """save: for the plan. modules: what the disk and the file system need, also what may be built in."""

    save: Save
    modules: tuple[str, ...]


def find_target(folder: Path, mountinfo: Path = MOUNTINFO, sys: Path = SYS) -> SaveTarget:
    """Find where a folder of this machine lies. Raises SaveFolderError."""
    if not folder.is_dir():
        raise SaveFolderError(f"--save {folder}: there is no such folder: make it first")
    real = folder.resolve()
    mount = _mount_of(real, mountinfo)
    if mount is None:
        raise SaveFolderError(f"--save {folder}: the file system that it lies on is not known")
    number, root, point, kind = mount
    if kind not in UUID_OFFSETS:
        raise SaveFolderError(
            f"--save {folder} lies on {kind}, which the capture image cannot use: choose a folder on "
            f"{', '.join(sorted(UUID_OFFSETS))}"
        )
    entry = (sys / "dev/block" / number).resolve()
    if not is_disk(entry.name, sys):
        raise SaveFolderError(
            f"--save {folder} lies on {entry.name}, not on a plain disk or partition: the capture image has no LVM, "
            "RAID or encryption"
        )
    if any(len(os.listdir(each)) > 1 for each in sys.glob("fs/btrfs/*/devices") if (each / entry.name).exists()):
        raise SaveFolderError(
            f"--save {folder} lies on a btrfs of several disks, which the capture image cannot put together"
        )
    device = device_path(entry.name)
    try:
        uuid = read_uuid(device, kind)
    except OSError as error:
        raise SaveFolderError(
            f"--save {folder} lies on {device}, which cannot be read ({error.strerror}): run this as root, on the "
            "machine itself rather than in a container"
        ) from error
    if len(uuid) != 32:
        raise SaveFolderError(f"--save {folder}: {device} is too small for {kind}: choose a folder on another disk")
    inside = str(root / real.relative_to(point))
    if len(inside.split()) != 1 or not _is_text(inside):
        raise SaveFolderError(f"--save {folder}: the path must not hold blanks, nor what is not UTF-8")
    driver = DRIVERS.get(kind, kind)
    return SaveTarget(Save(driver, uuid, inside), (*block_modules(entry.name, sys), driver))


def _mount_of(path: Path, mountinfo: Path) -> tuple[str, Path, Path, str] | None:
    """major:minor, root in the file system, mount point and kind of the last mount above path (proc(5))."""
    best: tuple[str, Path, Path, str] | None = None
    for line in os.fsdecode(mountinfo.read_bytes()).removesuffix("\n").split("\n"):
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        point = _path(fields[4])
        if path.is_relative_to(point) and (best is None or len(point.parts) >= len(best[2].parts)):
            kind, source = right.split(" ")[:2]
            best = (_number(str(_path(source))) if kind == "btrfs" else fields[2], _path(fields[3]), point, kind)
    return best


def _path(field: str) -> Path:
    r"""What stands for a path in mountinfo: blanks, line feeds and backslashes as \ooo, all else as it is."""
    return Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field))


def _is_text(name: str) -> bool:
    """Whether the plan can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(device: str) -> str:
    """major:minor of a device. In mountinfo a btrfs has a number that belongs to no device."""
    try:
        number = os.stat(device).st_rdev
    except OSError:
        return "0:0"  # there is no such device in /sys
    return f"{os.major(number)}:{os.minor(number)}"
