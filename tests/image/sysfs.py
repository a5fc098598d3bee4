"""A /sys as small as the builder looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def add_network_device(sys: Path, name: str, modules: Sequence[str]) -> None:
    """A network device below a chain of devices with these modules, the bus first; "" is a driver that is built in."""
    device = _chain(sys, name, modules)
    (device / "net" / name).mkdir(parents=True)
    (device / "net" / name / "device").symlink_to(device)
    _link(sys / "class/net" / name, device / "net" / name)


def add_phy(sys: Path, interface: str, module: str) -> None:
    """The PHY of a network device, on a bus that the device itself has."""
    device = (sys / "class/net" / interface / "device").resolve()
    phy = device / "mdio_bus/mii-0/mii-0:00"
    driver = sys / "bus/mdio_bus/drivers/phy"
    phy.mkdir(parents=True)
    driver.mkdir(parents=True)
    (sys / "module" / module).mkdir(parents=True)
    (driver / "module").symlink_to(sys / "module" / module)
    (phy / "driver").symlink_to(driver)
    (sys / "class/net" / interface / "phydev").symlink_to(phy)


def add_disk(sys: Path, disk: str, partition: str, modules: Sequence[str]) -> None:
    """A disk with one partition."""
    device = _chain(sys, disk, modules)
    block = device / "block" / disk
    (block / partition).mkdir(parents=True)
    (block / partition / "partition").write_text("1\n")
    (block / "device").symlink_to(device)
    _link(sys / "class/block" / disk, block)
    _link(sys / "class/block" / partition, block / partition)


def add_raid(sys: Path, disk: str, partition: str) -> None:
    """What the kernel has made of disks, with a partition."""
    block = sys / "devices/virtual/block" / disk
    (block / partition).mkdir(parents=True)
    (block / partition / "partition").write_text("1\n")
    (block / "md").mkdir()
    _link(sys / "class/block" / disk, block)
    _link(sys / "class/block" / partition, block / partition)


def add_nvme(sys: Path, partition: str, modules: Sequence[str]) -> None:
    """nvme0n1, a disk of an NVMe subsystem that may have several controllers, with a partition. modules: of nvme0."""
    controller = _chain(sys, "nvme0", modules) / "nvme/nvme0"
    (controller / "nvme0c0n1").mkdir(parents=True)
    subsystem = sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
    disk = subsystem / "nvme0n1"
    (disk / partition).mkdir(parents=True)
    (disk / partition / "partition").write_text("1\n")
    (disk / "device").symlink_to(subsystem)
    (subsystem / "nvme0").symlink_to(controller)
    _link(sys / "class/block/nvme0n1", disk)
    _link(sys / "class/block" / partition, disk / partition)


def add_watchdog(sys: Path, name: str, modules: Sequence[str]) -> None:
    """A hardware watchdog."""
    device = _chain(sys, name, modules)
    (sys / "class/watchdog" / name).mkdir(parents=True)
    (sys / "class/watchdog" / name / "device").symlink_to(device)


def _chain(sys: Path, name: str, modules: Sequence[str]) -> Path:
    device = sys / "devices"
    for number, module in enumerate(modules):
        device = device / f"{name}-{number}"
        device.mkdir(parents=True)
        driver = sys / "bus/drivers" / f"driver-{name}-{number}"
        driver.mkdir(parents=True)
        (device / "driver").symlink_to(driver)
        if module:
            (sys / "module" / module).mkdir(parents=True, exist_ok=True)
            (driver / "module").symlink_to(sys / "module" / module)
    return device


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
