"""Whether the distribution's kdump would send with netdump: hosts that keep it, with netdump as its dump target.

Owns which kdumps there are, how each is told, and where it keeps its image. That image is not opened, for some are file
systems within archives: it is enough that it is newer than what netdump puts into it.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from netdump.errors import ConfigError
from netdump.image.arming import advice, is_loaded, reserving
from netdump.image.checkup.boot import OURS, TOPIC_BOOT, enabled, has_systemd, rivals
from netdump.image.checkup.finding import ok, problem, unknown, warning
from netdump.image.checkup.loading import TOPIC_LOADED
from netdump.image.checkup.machine import DeniedError
from netdump.image.checkup.reservation import TOPIC as TOPIC_RESERVED
from netdump.image.checkup.reservation import check_reservation
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine

TOPIC_TARGET = "dump target"
TOPIC_OPTIONS = "options"
TOPIC_UPKEEP = "upkeep"
SETTINGS = "etc/default/netdump"
TREE_OPTIONS = "NETDUMP_TREE_OPTIONS"
REBUILD = "/usr/lib/netdump/rebuild-kdump"
UPKEEP = "netdump-kdump.path"
USUAL_BYTES = 160 << 20  # for its image with ours in it (docs/deploy.md)
DRACUT = "usr/lib/dracut/modules.d/99netdump"


class Kdump(NamedTuple):
    """One kind. name: of the package. sign: a file that only this kind has. hook: what puts netdump into its image.

    unit: what loads it. images: where they lie, {} being the kernel's release. asks: what must stand in which file, as
    a pattern and as people write it, so that netdump is asked; None where the hook is enough.
    """

    name: str
    sign: str
    hook: str
    unit: str
    images: tuple[str, ...]
    asks: tuple[str, str, str] | None = None


# In this order: Fedora has an etc/sysconfig/kdump, too.
KDUMPS = (
    Kdump(
        "kdump-tools", "usr/sbin/kdump-config", "etc/initramfs-tools/hooks/netdump", "kdump-tools.service",
        ("var/lib/kdump/initrd.img-{}",),
    ),
    Kdump(
        "kdump-utils", "etc/kdump.conf", f"{DRACUT}/module-setup.sh", "kdump.service",
        ("boot/initramfs-{}kdump.img", "var/lib/kdump/initramfs-{}kdump.img"),
        ("etc/kdump.conf", r"^\s*kdump_pre\s.*netdump", f"kdump_pre /{DRACUT}/kdump-pre.sh"),
    ),
    Kdump(
        "SUSE's kdump", "etc/sysconfig/kdump", f"{DRACUT}/module-setup.sh", "kdump.service",
        ("var/lib/kdump/initrd", "boot/initrd-{}-kdump"),
        ("etc/sysconfig/kdump", r"^\s*KDUMP_PRESCRIPT=.*netdump", 'KDUMP_PRESCRIPT="/netdump/deliver --end"'),
    ),
)  # fmt: skip


def find_kdump(machine: Machine) -> Kdump | None:
    """The distribution's kdump, if netdump is to be its target, and does not arm this machine by itself."""
    if OURS in enabled(machine):
        return None
    return next((each for each in KDUMPS if machine.exists(each.sign) and machine.exists(each.hook)), None)


def tree_options(machine: Machine) -> list[str]:
    """The options of `netdump image tree` that the hooks take from the settings. Raises ConfigError, DeniedError."""
    try:
        text = (machine.text(SETTINGS) or "").replace("\\\n", "")  # a line that goes on
        words = shlex.split(text, comments=True)
        given = [word.partition("=")[2] for word in words if word.startswith(f"{TREE_OPTIONS}=")]
        return shlex.split(given[-1]) if given else []
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_memory(machine: Machine) -> Iterator[Finding]:
    """Whether enough is reserved for its image with ours in it, as far as that is known. Raises DeniedError."""
    reserved = machine.number("sys/kernel/kexec_crash_size")
    if not reserved:
        yield from check_reservation(machine, USUAL_BYTES)
    elif reserved < USUAL_BYTES:
        yield warning(
            TOPIC_RESERVED, f"{reserved >> 20} MiB; netdump in the image of a distribution's kdump takes 22 MiB more",
            f"try a real crash, or {reserving(advice(USUAL_BYTES))}",
        )  # fmt: skip
    else:
        yield ok(TOPIC_RESERVED, f"{reserved >> 20} MiB")


def check_target(machine: Machine, kdump: Kdump) -> Iterator[Finding]:
    """Whether its settings have it send with netdump. Raises DeniedError."""
    if kdump.asks is None:
        yield ok(TOPIC_TARGET, f"{kdump.name} sends with netdump")
        return
    file, pattern, line = kdump.asks
    if re.search(pattern, machine.text(file) or "", re.MULTILINE):
        yield ok(TOPIC_TARGET, f"{kdump.name} sends with netdump (/{file})")
    else:
        yield problem(
            TOPIC_TARGET, f"{kdump.name} does not ask netdump: /{file} has no such line",
            f"put `{line}` into it, then {REBUILD}",
        )  # fmt: skip


def check_loaded(machine: Machine, kdump: Kdump, bundle: Path) -> Iterator[Finding]:
    """What is loaded, and whether its image has been made since what is in it changed. Raises DeniedError."""
    if not is_loaded(machine.path("sys/kernel")):
        yield problem(
            TOPIC_LOADED, "no capture kernel: a panic would leave no dump",
            f"systemctl restart {kdump.unit}; if that fails, `journalctl -u {kdump.unit}` says why",
        )  # fmt: skip
        return
    files = [machine.path(name.format(machine.release)) for name in kdump.images]
    images = [(made, path) for path in files if (made := _changed(path)) is not None]
    if not images:
        yield unknown(
            TOPIC_LOADED, f"a capture kernel; no image of {kdump.name} is where it belongs ({files[0]})",
            f"{REBUILD}, and see where it makes one",
        )  # fmt: skip
        return
    made, image = max(images)
    parts = (("bundle", bundle), ("options", machine.path(SETTINGS)), ("hook", machine.path(kdump.hook)))
    newer = [name for name, path in parts if (_changed(path) or 0) > made]
    if newer:
        yield problem(TOPIC_LOADED, f"{image} is out of date: {', '.join(newer)} changed since", REBUILD)
    else:
        yield ok(TOPIC_LOADED, f"by {kdump.name}: {image} is newer than bundle, options and hook")


def check_boot(machine: Machine, kdump: Kdump) -> Iterator[Finding]:
    """Whether it is loaded at the next boot, too, and its image made again when the bundle changes."""
    if not has_systemd(machine):
        return
    loading = rivals(machine)
    if loading:
        yield ok(TOPIC_BOOT, f"{', '.join(loading)} loads a capture kernel")
    else:
        fact = f"{kdump.unit} is not enabled: from the next boot on a panic leaves no dump"
        yield warning(TOPIC_BOOT, fact, f"systemctl enable --now {kdump.unit}")
    if UPKEEP in enabled(machine):
        yield ok(TOPIC_UPKEEP, f"{UPKEEP} has the image made again when bundle or options change")
    else:
        fact = f"{UPKEEP} is not enabled: a renewed certificate does not get into the image"
        yield warning(TOPIC_UPKEEP, fact, f"systemctl enable --now {UPKEEP}")


def _changed(path: Path) -> int | None:
    """When it was written last, nanoseconds since 1970; None if it is not there. Raises DeniedError."""
    try:
        return os.stat(path).st_mtime_ns
    except PermissionError:
        raise DeniedError(str(path)) from None
    except OSError:
        return None
