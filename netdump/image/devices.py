"""Which kernel modules the devices of this machine use, as /sys tells.

Owns the walk from an interface, disk or watchdog up to the bus: every device on the way has a driver, and every driver
that is a module links to it.
"""

from __future__ import annotations

from pathlib import Path

from netdump.image.kmodules import module_name

SYS = Path("/sys")
# Without which a driver makes no interface. No dependency names them: the kernel has modprobe load them by name
# (mlx4/main.c, mlx4_request_modules) or by the number of the same chip (hns3), or they are of another device (nicpf,
# which makes the ones of nicvf; hns_dsaf). All in Linux drivers/net/ethernet.
BESIDE = {
    "mlx4_core": ("mlx4_en",),
    "hns3": ("hclge", "hclgevf"),
    "hns_enet_drv": ("hns_dsaf",),
    "nicvf": ("nicpf",),
}
NO_WATCHDOGS = frozenset(("watchdog", "softdog", "pretimeout_noop", "pretimeout_panic"))  # of hardware
IPMI_WATCHDOG = "ipmi_watchdog"
IPMI = ("ipmi_si", "ipmi_ssif")  # ways to a board controller


def network_modules(interface: str, sys: Path = SYS) -> list[str]:
    """The modules of a network device, the bus first. Empty for a virtual one, or where all is built in."""
    found = _drivers(sys / "class/net" / interface / "device", sys)
    return found + [name for each in found for name in BESIDE.get(each, ()) if (sys / "module" / name).exists()]


def phy_modules(interface: str, sys: Path = SYS) -> list[str]:
    """That of its PHY, to be loaded before them; without it the kernel's generic driver is used, and may have no link.

    No dependency names it, for the kernel has modprobe find it by the number of the chip.
    """
    own = network_modules(interface, sys)
    return [name for name in _drivers(sys / "class/net" / interface / "phydev", sys) if name not in own]


def block_modules(device: str, sys: Path = SYS) -> list[str]:
    """The modules of a disk or partition, by its name in /sys.

    An NVMe disk that may have several controllers belongs to none of them: it is a device of the kernel's own making,
    beside links to them (Linux drivers/nvme/host/core.c, nvme_init_subsystem).
    """
    below = _disk(device, sys) / "device"
    found = [name for each in (below, *sorted(below.glob("nvme*"))) for name in _drivers(each, sys)]
    return list(dict.fromkeys(found))


def is_disk(device: str, sys: Path = SYS) -> bool:
    """Whether a block device, by its name in /sys, is a disk or a partition of one.

    What the kernel makes of disks (RAID, LVM, encryption) and its partitions are none.
    """
    return (_disk(device, sys) / "device").exists()


def watchdog_modules(sys: Path, drivers: Path) -> list[str]:
    """The modules of the hardware watchdogs. drivers: the folder where the kernel's are.

    Not every driver says whose device its watchdog is; what uses the module `watchdog` is one too, and where that is
    built in, what is loaded of drivers. That of a board controller has no place among them (Linux
    drivers/char/ipmi/ipmi_watchdog.c).
    """
    found: list[str] = []
    entries = sorted((sys / "class/watchdog").glob("watchdog*"))
    for entry in entries:
        found += _drivers(entry / "device", sys)
    others = [path.name for path in (sys / "module/watchdog/holders").glob("*")]
    if not all((entry / "device").exists() for entry in entries):
        names = {module_name(path.name) for path in drivers.glob("*.ko*")}
        others += [name for name in names if (sys / "module" / name / "initstate").exists()]
    found += sorted(set(others) - NO_WATCHDOGS)
    if (sys / "module" / IPMI_WATCHDOG).exists():
        ipmi = [name for name in (*IPMI, IPMI_WATCHDOG) if (sys / "module" / name).exists()]
        # It and the first of the others want the same device, /dev/watchdog; who has it there is to have it here.
        found = [*found, *ipmi] if (sys / "class/watchdog/watchdog0").exists() else [*ipmi, *found]
    return list(dict.fromkeys(found))


def has_hardware(interface: str, sys: Path = SYS) -> bool:
    """Whether an interface is a device, not something that the kernel made."""
    return (sys / "class/net" / interface / "device").exists()


def _disk(device: str, sys: Path) -> Path:
    """The folder of a disk, also of one that a partition is of."""
    entry = (sys / "class/block" / device).resolve()
    return entry.parent if (entry / "partition").exists() else entry


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
