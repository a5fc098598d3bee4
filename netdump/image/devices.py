"""Which kernel modules the devices of this machine use, as /sys tells.

Owns the walk from an interface, disk or watchdog up to the bus: every device on the way has a driver, and every driver
that is a module links to it.
"""

from __future__ import annotations

from pathlib import Path

SYS = Path("/sys")


def network_modules(interface: str, sys: Path = SYS) -> list[str]:
    """The modules of a network device, the bus first. Empty for a virtual one, or where all is built in."""
    return _drivers(sys / "class/net" / interface / "device", sys)


def block_modules(device: str, sys: Path = SYS) -> list[str]:
    """The modules of a disk or partition, by its name below /dev."""
    entry = (sys / "class/block" / device).resolve()
    disk = entry.parent if (entry / "partition").exists() else entry
    return _drivers(disk / "device", sys)


def watchdog_modules(sys: Path = SYS) -> list[str]:
    """The modules of the hardware watchdogs.

    Not every driver says whose device its watchdog is; what uses the module `watchdog` is one too.
    """
    found: list[str] = []
    for entry in sorted((sys / "class/watchdog").glob("watchdog*")):
        found += [name for name in _drivers(entry / "device", sys) if name not in found]
    holders = sorted(path.name for path in (sys / "module/watchdog/holders").glob("*"))
    return found + [name for name in holders if name not in found and name != "softdog"]


def has_hardware(interface: str, sys: Path = SYS) -> bool:
    """Whether an interface is a device, not something that the kernel made."""
    return (sys / "class/net" / interface / "device").exists()


def _drivers(device: Path, sys: Path) -> list[str]:
    found: list[str] = []
    if not device.exists():
        return found
    top = (sys / "devices").resolve()
    current = device.resolve()
    while current != top and top in current.parents:
        module = current / "driver" / "module"
        if module.exists():
            found.append(module.resolve().name)
        current = current.parent
    return list(dict.fromkeys(reversed(found)))
