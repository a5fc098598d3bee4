from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.devices import block_modules, has_hardware, is_disk, network_modules, phy_modules, watchdog_modules
from tests.image.sysfs import add_disk, add_network_device, add_nvme, add_phy, add_raid, add_watchdog

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bus_comes_before_the_device(tmp_path: Path) -> None:
    add_network_device(tmp_path, "eth0", ("virtio_pci", "virtio_net"))
    assert network_modules("eth0", tmp_path) == ["virtio_pci", "virtio_net"]
    assert has_hardware("eth0", tmp_path)


def test_a_phy_has_a_driver_of_its_own(tmp_path: Path) -> None:
    add_network_device(tmp_path, "eth0", ("xhci_pci", "lan78xx"))
    assert phy_modules("eth0", tmp_path) == []
    add_phy(tmp_path, "eth0", "microchip")
    assert phy_modules("eth0", tmp_path) == ["microchip"]
    assert network_modules("eth0", tmp_path) == ["xhci_pci", "lan78xx"]


@pytest.mark.parametrize(
    ("driver", "loaded", "beside"),
    [
        ("mlx4_core", ("mlx4_en", "mlx4_ib"), ["mlx4_en"]),  # ConnectX-3
        ("hns3", ("hnae3", "hclge"), ["hclge"]),  # Kunpeng 920, not its guests
        ("hns3", ("hnae3", "hclgevf"), ["hclgevf"]),
        ("nicvf", ("nicpf",), ["nicpf"]),
        ("mlx5_core", ("mlx5_ib",), []),
    ],
)
def test_a_driver_that_makes_no_interface_alone(
    tmp_path: Path, driver: str, loaded: tuple[str, ...], beside: list[str]
) -> None:
    add_network_device(tmp_path, "eth0", (driver,))
    for name in loaded:
        (tmp_path / "module" / name).mkdir()
    assert network_modules("eth0", tmp_path) == [driver, *beside]


def test_a_virtual_interface_has_none(tmp_path: Path) -> None:
    (tmp_path / "class/net/br0").mkdir(parents=True)
    assert network_modules("br0", tmp_path) == []
    assert not has_hardware("br0", tmp_path)


def test_a_driver_that_is_built_in(tmp_path: Path) -> None:
    add_network_device(tmp_path, "eth0", ("", "e1000"))
    assert network_modules("eth0", tmp_path) == ["e1000"]


def test_a_partition_has_the_modules_of_its_disk(tmp_path: Path) -> None:
    add_disk(tmp_path, "vda", "vda1", ("virtio_pci", "virtio_blk"))
    assert block_modules("vda1", tmp_path) == ["virtio_pci", "virtio_blk"]
    assert block_modules("vda", tmp_path) == ["virtio_pci", "virtio_blk"]


def test_an_nvme_disk_with_several_controllers_has_their_modules(tmp_path: Path) -> None:
    add_nvme(tmp_path, "nvme0n1p2", ("vmd", "nvme"))
    assert block_modules("nvme0n1p2", tmp_path) == ["vmd", "nvme"]
    assert is_disk("nvme0n1p2", tmp_path)


def test_what_is_a_disk(tmp_path: Path) -> None:
    add_disk(tmp_path, "vda", "vda1", ("virtio_blk",))
    add_raid(tmp_path, "md126", "md126p1")
    found = [is_disk(name, tmp_path) for name in ("vda", "vda1", "md126", "md126p1", "absent")]
    assert found == [True, True, False, False, False]
    assert block_modules("md126p1", tmp_path) == []


def test_watchdogs(tmp_path: Path) -> None:
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == []
    add_watchdog(tmp_path, "watchdog0", ("i6300esb",))
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == ["i6300esb"]


def test_a_watchdog_whose_driver_does_not_say_whose_it_is(tmp_path: Path) -> None:
    """As i6300esb of Linux 6.1: its device is a virtual one. One of software is no help to a kernel that hangs."""
    add_watchdog(tmp_path, "watchdog0", ("iTCO_wdt",))
    for name in ("i6300esb", "iTCO_wdt", "softdog"):
        (tmp_path / "module/watchdog/holders" / name).mkdir(parents=True)
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == ["iTCO_wdt", "i6300esb"]


def test_the_watchdog_of_a_board_controller(tmp_path: Path) -> None:
    """Of which /sys knows the module alone."""
    add_watchdog(tmp_path, "watchdog0", ("iTCO_wdt",))
    (tmp_path / "module/ipmi_si").mkdir(parents=True)
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == ["iTCO_wdt"], "whoever reads sensors needs none of it"
    (tmp_path / "module/ipmi_watchdog").mkdir()
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == ["iTCO_wdt", "ipmi_si", "ipmi_watchdog"]
    (tmp_path / "class/watchdog/watchdog0").rename(tmp_path / "class/watchdog/watchdog1")
    assert watchdog_modules(tmp_path, tmp_path / "drivers") == ["ipmi_si", "ipmi_watchdog", "iTCO_wdt"]


def test_a_watchdog_that_says_nothing_where_its_core_is_built_in(tmp_path: Path) -> None:
    """As i6300esb of Linux 6.1 with the kernels of Ubuntu, Fedora and RHEL."""
    drivers = tmp_path / "drivers"
    drivers.mkdir()
    for name in ("i6300esb", "iTCO_wdt", "softdog", "it87_wdt"):
        (drivers / f"{name}.ko.zst").touch()
    for name in ("i6300esb", "softdog", "virtio_net"):
        (tmp_path / "module" / name).mkdir(parents=True)
        (tmp_path / "module" / name / "initstate").touch()
    (tmp_path / "module/it87_wdt").mkdir()  # built in, with parameters
    (tmp_path / "class/watchdog/watchdog0").mkdir(parents=True)
    assert watchdog_modules(tmp_path, drivers) == ["i6300esb"]
