"""The stage that keeps the dump on a local disk when no collector can be reached.

Finds the file system by its UUID, because disks have other names in the capture kernel, writes the image as a sparse
file under a temporary name, syncs it and gives it its name. `netdump send -d LEVEL FILE` sends it after the reboot: at
the level of the client before, it is the same dump, and a collector that has a part of it goes on there.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from netdump.client.config import LEVEL_CAPTURE, load_config
from netdump.client.words import COMMAND_LINE, read_words
from netdump.errors import NetdumpError
from netdump.image.init.console import say, warn
from netdump.image.init.kernelcalls import mount, unmount
from netdump.image.init.plan import BUNDLE_PATH
from netdump.vmcore.filesource import add_lost
from netdump.vmcore.lostpages import LOST, STRETCHES_MAX, pack
from netdump.vmcore.source import open_source

if TYPE_CHECKING:
    from netdump.image.init.plan import Plan
    from netdump.vmcore.source import Source

VMCORE = "/proc/vmcore"
MOUNT_POINT = "/mnt"
DEVICE_SECONDS = 30.0
PARTIAL = ".partial"
BLOCK_BYTES = 1 << 20
PAGE_BYTES = 4096
FREE_BYTES_MIN = 64 << 20  # left to the machine's own life after the reboot
TIDY_SECONDS = 60.0  # before process 1 ends this stage: for removing what has no time to become whole
# Offsets of the 16 bytes of UUID: ext4 (Linux fs/ext4/ext4.h, s_uuid), xfs (sb_uuid), btrfs (fsid).
UUID_OFFSETS = {"ext2": 0x468, "ext3": 0x468, "ext4": 0x468, "xfs": 0x20, "btrfs": 0x10020}
# The plan names the folder from the top of the file system: of btrfs a subvolume may be mounted by default.
MOUNT_OPTIONS = {"btrfs": "subvolid=5"}


def save_image(plan: Plan) -> int:
    """Save as the plan says. Returns 0 when the dump is safely on the disk."""
    if plan.save is None:
        return 2
    level, until = _level(), time.monotonic() + max(plan.save_deadline / 2, plan.save_deadline - TIDY_SECONDS)
    try:
        device = find_device(plan.save.kind, plan.save.uuid, time.monotonic() + DEVICE_SECONDS)
        if not device:
            warn(f"no disk holds the {plan.save.kind} file system {plan.save.uuid}; is its driver in the image?")
            return 1
        os.makedirs(MOUNT_POINT, exist_ok=True)
        mount(device, MOUNT_POINT, plan.save.kind, 0, MOUNT_OPTIONS.get(plan.save.kind, ""))
        try:
            source = open_source(VMCORE)
            folder = MOUNT_POINT + plan.save.folder
            os.makedirs(folder, 0o700, exist_ok=True)
            name = choose_name(folder, level)
            written = write_core(source, name, until)
        finally:
            unmount(MOUNT_POINT)
    except (OSError, NetdumpError) as error:
        warn(f"the dump cannot be saved: {error}")
        return 1
    say(
        f"the dump is saved: {name.removeprefix(MOUNT_POINT)} on {device}, {written >> 20} MiB; "
        f"send it after the reboot: netdump send -d {level} FILE"
    )
    return 0


def _level() -> int:
    """The dump level that the client had: with another one the file would be another dump to the collector."""
    try:
        settings = load_config(BUNDLE_PATH, read_words(COMMAND_LINE), {}).settings
    except NetdumpError:  # then the client sent nothing either
        return LEVEL_CAPTURE
    return settings.level_of(capture=True)


def find_device(kind: str, uuid: str, until: float) -> str:
    """The block device that holds a file system, "" if none appears until then (of time.monotonic)."""
    while True:
        for name in sorted(os.listdir("/sys/class/block")):
            device = device_path(name)
            with suppress(OSError):  # no medium, or none of ours
                if read_uuid(device, kind) == uuid:
                    return device
        if time.monotonic() > until:
            return ""
        time.sleep(0.5)


def read_uuid(device: str, kind: str) -> str:
    """The UUID of a file system of this kind: 32 hex digits, fewer if the device ends before. Raises OSError."""
    with open(device, "rb") as file:
        file.seek(UUID_OFFSETS[kind])
        return file.read(16).hex()


def device_path(name: str) -> str:
    """Where a block device is, by its name in /sys, which has ! for / (Linux drivers/base/core.c): cciss!c0d0."""
    return "/dev/" + name.replace("!", "/")


def choose_name(folder: str, level: int) -> str:
    """A name that is not taken, by the time, which may be wrong here. level: of the dump; who sends the file needs it.

    Removes what an earlier save left half-done. Into some folders all may write: what somebody has made there so that
    nothing can be saved, a folder say, is left where it is.
    """
    folder = folder.rstrip("/")
    for name in os.listdir(folder):
        if name.startswith("netdump-") and name.endswith(PARTIAL):
            with suppress(OSError):
                os.unlink(f"{folder}/{name}")
    stem = time.strftime("netdump-%Y%m%dT%H%M%S", time.gmtime())
    taken, number, name = set(os.listdir(folder)), 1, f"{stem}.d{level}.vmcore"
    while not taken.isdisjoint((name, name + PARTIAL, name + LOST)):
        number += 1
        name = f"{stem}-{number}.d{level}.vmcore"
    return f"{folder}/{name}"


def write_core(source: Source, path: str, until: float) -> int:
    """Write an image as a sparse file, durably, until then (of time.monotonic). Returns the bytes that take room.

    What could not be read of it is told by a list beside the file (netdump.vmcore.lostpages). Raises OSError, having
    removed what was written.
    """
    partial = f"{path}{PARTIAL}"
    buffer, zero = bytearray(BLOCK_BYTES), bytes(PAGE_BYTES)
    written, lost_bytes = 0, 0
    lost: list[tuple[int, int]] = []
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, source.size)
        offset = source.next_data(0)
        while offset < source.size:
            view = memoryview(buffer)[: min(BLOCK_BYTES, source.size - offset)]
            for start, length in source.read_into(offset, view):
                view[start : start + length] = bytes(length)
                lost_bytes += length
                if len(lost) <= STRETCHES_MAX:
                    add_lost(lost, offset + start, length)
            for at in range(0, len(view), PAGE_BYTES):
                page = view[at : at + PAGE_BYTES]
                if page != zero[: len(page)]:
                    os.pwrite(descriptor, page, offset + at)
                    written += len(page)
            _check_room(descriptor)
            _check_time(until)
            offset = source.next_data(offset + len(view))
        os.fsync(descriptor)
        _write_list(path + LOST, pack(lost))
        os.rename(partial, path)
    except BaseException:
        os.unlink(partial)  # half a dump would only fill the disk
        with suppress(OSError):
            os.unlink(path + LOST)
        raise
    finally:
        os.close(descriptor)
    _sync_folder(path.rpartition("/")[0])
    if lost:
        which = "which" if len(lost) <= STRETCHES_MAX else f"which are the first {STRETCHES_MAX} stretches of them"
        say(f"{lost_bytes} bytes could not be read and are zero in the saved dump; FILE{LOST} beside it says {which}")
    return written


def _write_list(path: str, text: bytes) -> None:
    """Make the list durable before the core has its name; without anything lost there is none, also no other core's."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    if not text:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, "the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_room(descriptor: int) -> None:
    room = os.fstatvfs(descriptor)
    if room.f_bavail * room.f_frsize < FREE_BYTES_MIN:
        raise OSError(errno.ENOSPC, "the disk is full")


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise OSError(errno.ETIME, "the time for saving is over")


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
