from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from netdump.errors import SaveFolderError
from netdump.image import savetarget
from netdump.image.init.plan import Save
from netdump.image.savetarget import find_target
from tests.image.sysfs import add_disk, add_raid

UUID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `crash` on vda1, mounted at tmp_path."""
    (tmp_path / "crash").mkdir()
    add_disk(tmp_path / "sys", "vda", "vda1", ("virtio_blk",))
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/254:1").symlink_to((tmp_path / "sys/class/block/vda1").resolve())
    (tmp_path / "mountinfo").write_text(
        f"20 1 0:1 / / rw - overlay overlay rw\n29 1 254:1 /sub {tmp_path} rw,noatime shared:1 - ext4 /dev/vda1 rw\n"
    )
    monkeypatch.setattr(savetarget, "read_uuid", lambda device, kind: UUID if device == "/dev/vda1" else "")
    return tmp_path


def find(machine: Path, folder: Path) -> savetarget.SaveTarget:
    return find_target(folder, machine / "mountinfo", machine / "sys")


def test_a_folder_on_a_partition(machine: Path) -> None:
    target = find(machine, machine / "crash")
    assert target.save == Save("ext4", UUID, "/sub/crash")
    assert target.modules == ("virtio_blk", "ext4")


@pytest.mark.parametrize("kind", ["ext2", "ext3"])
def test_an_older_kind_of_file_system(machine: Path, kind: str) -> None:
    """There is no module of its name."""
    (machine / "mountinfo").write_text(f"29 1 254:1 / {machine} rw - {kind} /dev/vda1 rw\n")
    target = find(machine, machine / "crash")
    assert (target.save.kind, target.modules) == ("ext4", ("virtio_blk", "ext4"))


def test_a_folder_that_is_not_there(machine: Path) -> None:
    with pytest.raises(SaveFolderError, match="there is no such folder: make it first"):
        find(machine, machine / "absent")


def test_a_file_system_that_the_image_cannot_use(machine: Path) -> None:
    with pytest.raises(SaveFolderError, match="lies on overlay, which the capture image cannot use"):
        find(machine, Path("/"))


@pytest.mark.parametrize("name", ["dümp", "a\\b", "崩溃", "a\x85b"])
def test_a_mount_point_of_any_name(machine: Path, name: str) -> None:
    """It must not pass for a folder of the file system above, where nobody would see the dump after the reboot."""
    point = machine / name
    point.mkdir()
    field = str(point).replace("\\", "\\134")
    with (machine / "mountinfo").open("a", encoding="utf-8") as file:
        file.write(f"30 29 254:1 /vol\\134-ü {field} rw - xfs /dev/vda1 rw\n")
    assert find(machine, point).save == Save("xfs", UUID, "/vol\\-ü")


@pytest.mark.parametrize("name", ["a b", os.fsdecode(b"d\xfcmp")])
def test_a_name_that_the_plan_cannot_hold(machine: Path, name: str) -> None:
    (machine / name).mkdir()
    with pytest.raises(SaveFolderError, match="must not hold blanks, nor what is not UTF-8"):
        find(machine, machine / name)


def test_a_subvolume_of_btrfs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number in mountinfo is that of no device."""
    (machine / "mountinfo").write_text(f"29 1 0:61 /@ {machine} rw - btrfs /dev/vda1 rw,subvol=/@\n")
    number = os.makedev(254, 1)
    real = os.stat
    monkeypatch.setattr(
        os,
        "stat",
        lambda path, **how: SimpleNamespace(st_rdev=number) if path == "/dev/vda1" else real(path, **how),
    )
    assert find(machine, machine / "crash").save == Save("btrfs", UUID, "/@/crash")
    devices = machine / "sys/fs/btrfs/x/devices"
    (devices / "vda1").mkdir(parents=True)
    assert find(machine, machine / "crash").modules == ("virtio_blk", "btrfs")
    (devices / "vdb1").mkdir()
    with pytest.raises(SaveFolderError, match="a btrfs of several disks"):
        find(machine, machine / "crash")
    (machine / "mountinfo").write_text(f"29 1 0:61 /@ {machine} rw - btrfs /dev/gone rw\n")
    with pytest.raises(SaveFolderError, match="not on a plain disk"):
        find(machine, machine / "crash")


@pytest.mark.parametrize("name", ["md126", "md126p1"])
def test_what_is_made_of_disks_is_refused(machine: Path, name: str) -> None:
    """A partition of a RAID as well. Its disks hold the file system too: written there, they would no longer agree."""
    add_raid(machine / "sys", "md126", "md126p1")
    (machine / "sys/dev/block/9:126").symlink_to((machine / "sys/class/block" / name).resolve())
    (machine / "mountinfo").write_text(f"29 1 9:126 / {machine} rw - ext4 /dev/{name} rw\n")
    with pytest.raises(SaveFolderError, match=f"lies on {name}, not on a plain disk or partition: .* no LVM, RAID or"):
        find(machine, machine / "crash")


def test_a_device_that_cannot_be_read(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(savetarget, "read_uuid", refuse)
    with pytest.raises(
        SaveFolderError, match=r"/dev/vda1, which cannot be read \(Permission denied\): run this as root"
    ):
        find(machine, machine / "crash")
    monkeypatch.setattr(savetarget, "read_uuid", lambda *_: "abcd")
    with pytest.raises(SaveFolderError, match="/dev/vda1 is too small for ext4: choose a folder on another disk"):
        find(machine, machine / "crash")


def test_a_disk_in_a_folder_of_dev(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name in /sys has ! for the stroke."""
    add_disk(machine / "sys", "cciss!c0d0", "cciss!c0d0p1", ("hpsa",))
    (machine / "sys/dev/block/104:1").symlink_to((machine / "sys/class/block/cciss!c0d0p1").resolve())
    (machine / "mountinfo").write_text(f"29 1 104:1 / {machine} rw - xfs /dev/cciss/c0d0p1 rw\n")
    monkeypatch.setattr(savetarget, "read_uuid", lambda device, kind: UUID if device == "/dev/cciss/c0d0p1" else "")
    target = find(machine, machine / "crash")
    assert (target.save, target.modules) == (Save("xfs", UUID, "/crash"), ("hpsa", "xfs"))
