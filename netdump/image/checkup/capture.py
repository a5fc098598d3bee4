"""Whether the capture image can be built, and what is in it: drivers, network, a place to save, the watchdog.

Owns one build of the image, in memory, of which everything else is told. What cannot be built is found here rather
than after a panic.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from netdump.errors import NetdumpError
from netdump.image.build import TOPIC_NETWORK, build_image, gather
from netdump.image.checkup.finding import ok, problem, unknown, warning
from netdump.image.checkup.machine import is_hidden
from netdump.image.devices import IPMI_WATCHDOG, network_modules
from netdump.image.kmodules import ModuleTree, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.build import CaptureImage, Contents, ImageSpec
    from netdump.image.checkup.finding import Finding
    from netdump.image.checkup.machine import Machine

TOPIC_IMAGE = "image"
TOPIC_DRIVERS = "network drivers"
TOPIC_SAVE = "disk"
TOPIC_WATCHDOG = "watchdog"
WATCHDOGS = "sys/class/watchdog"
MIB = 1 << 20


def build(machine: Machine, spec: ImageSpec) -> tuple[CaptureImage | None, Finding]:
    """Build the image, and say how that went."""
    if is_hidden(spec.bundle):
        return None, _hidden(spec)
    try:
        image = build_image(spec, machine.root)
    except NetdumpError as error:
        return None, problem(TOPIC_IMAGE, str(error), "mend that, and try it with `netdump image build`")
    sizes = f"{_mib(len(image.data))} packed ({image.compression}), {_mib(image.raw_bytes)} in memory"
    if image.lacks_stripping:
        fact = f"{sizes}, of which {_mib(image.programs_bytes)} are programs with their symbols"
        return image, warning(TOPIC_IMAGE, fact, "install binutils: `strip` makes them smaller")
    return image, ok(TOPIC_IMAGE, f"can be built: {sizes}")


def lay_out(machine: Machine, spec: ImageSpec) -> tuple[Contents | None, Finding]:
    """Gather what goes into the image of a distribution's kdump, and say how that went."""
    if is_hidden(spec.bundle):
        return None, _hidden(spec)
    try:
        contents = gather(spec, machine.root)
    except NetdumpError as error:
        return None, problem(TOPIC_IMAGE, str(error), "mend that, and try it with `netdump image tree FOLDER`")
    return contents, ok(TOPIC_IMAGE, f"can be laid out: {_mib(sum(contents.sizes.values()))} in memory")


def check_contents(machine: Machine, image: CaptureImage | Contents) -> Iterator[Finding]:
    """What the image has for this machine. Raises DeniedError."""
    ways = ", ".join(f"{way.link} ({way.method})" for way in image.plan.ways)
    for doubt in image.warnings:
        yield warning(doubt.topic, doubt.fact, doubt.remedy)
    if all(doubt.topic != TOPIC_NETWORK for doubt in image.warnings):
        yield ok(TOPIC_NETWORK, ways)
    for link in image.plan.links:
        if link.kind == "ether":
            yield _drivers(machine, link.name, image)


def check_surroundings(machine: Machine, spec: ImageSpec) -> Iterator[Finding]:
    """What an image of ours uses besides the network. Raises DeniedError."""
    yield _place(machine, spec)
    yield _watchdog(machine, spec)


def _hidden(spec: ImageSpec) -> Finding:
    return unknown(TOPIC_IMAGE, f"{spec.bundle} is for root's eyes only", "run this as root")


def _drivers(machine: Machine, name: str, image: CaptureImage | Contents) -> Finding:
    inside = {path.rpartition("/")[2].removesuffix(".ko"): options for path, options in image.plan.modules}
    using = [canonical(module) for module in network_modules(name, machine.path("sys"))]
    # What the kernel holds itself may be a module to /sys too: it is if it has parameters.
    tree = ModuleTree(image.kernel) if using else None
    wanted = [module for module in using if tree and not tree.is_builtin(module)]
    missing = [module for module in wanted if module not in inside]
    if not machine.exists(f"sys/class/net/{name}"):
        return warning(TOPIC_DRIVERS, f"{name}: there is no such device now", "give its driver with --add-driver")
    if missing:
        fact = f"{name}: {', '.join(missing)} is in use, but not in the image"
        return problem(TOPIC_DRIVERS, fact, f"--add-driver {missing[0]}, and run depmod")
    named = [" ".join((module, *inside[module])) for module in wanted]
    return ok(TOPIC_DRIVERS, f"{name}: {', '.join(named) if named else 'built into the kernel'}")


def _place(machine: Machine, spec: ImageSpec) -> Finding:
    """The disk for a dump that no collector takes. The image could be built, so the folder is one that can be used."""
    if spec.save is None:
        return ok(TOPIC_SAVE, "not used: if no collector answers until the deadline, the dump is lost (--save FOLDER)")
    status = os.statvfs(spec.save)
    free, memory = status.f_bavail * status.f_frsize, (memory_kib(machine) or 0) << 10
    fact = f"{spec.save}: {free // MIB:,} MiB free, {memory // MIB:,} MiB of memory"
    if free < memory:
        return warning(TOPIC_SAVE, fact, "make room: a dump may be as large as the memory")
    return ok(TOPIC_SAVE, fact)


def _watchdog(machine: Machine, spec: ImageSpec) -> Finding:
    devices = machine.folder(WATCHDOGS)
    names = [machine.text(f"{WATCHDOGS}/{device}/identity") or device for device in devices]
    if machine.exists(f"sys/module/{IPMI_WATCHDOG}"):
        names.append(IPMI_WATCHDOG)
    if not spec.watchdog:
        return ok(TOPIC_WATCHDOG, "not used, as asked for")
    if not names:
        return warning(
            TOPIC_WATCHDOG, "none: a capture kernel that hangs before its init runs stays so",
            "load the driver of the machine's watchdog, or give the virtual machine one; --no-watchdog if it has none",
        )  # fmt: skip
    return ok(TOPIC_WATCHDOG, ", ".join(names))


def memory_kib(machine: Machine) -> int | None:
    """The memory of the machine in KiB, None if not known. Raises DeniedError."""
    for line in (machine.text("proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0])
    return None


def _mib(count: int) -> str:
    return f"{count / MIB:.1f} MiB"
