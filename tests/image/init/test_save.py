from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from netdump.client.config import Config, Credentials, Settings
from netdump.image.init import save
from netdump.image.init.lease import NEVER
from netdump.image.init.plan import Plan, Save
from netdump.image.rehearsal import tiny_core
from netdump.vmcore import lostpages
from netdump.vmcore.source import open_source
from tests.vmcore.doubles import BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UUID = "00112233445566778899aabbccddeeff"


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(tiny_core() + bytes(1 << 20) + b"end".ljust(4096, b"\0"))
    return path


def test_the_same_bytes_with_holes(core: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    source = open_source(str(core), "file")
    written = save.write_core(source, str(target), NEVER)
    source.close()
    assert target.read_bytes() == core.read_bytes()
    assert written == 9 * 4096  # header, seven pages that are not zero, the last one
    assert target.stat().st_blocks * 512 < 1 << 20
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("end", [b"end", bytes(save.BLOCK_BYTES + 5)])
def test_what_cannot_be_read_is_zero_and_nothing_is_missing(end: bytes, tmp_path: Path, said: list[str]) -> None:
    """Above all not what the page before held: the buffer is the same."""
    image = b"\xaa" * (2 * save.BLOCK_BYTES) + end
    bad = (save.BLOCK_BYTES + 4096, save.BLOCK_BYTES + 3 * 4096)
    save.write_core(BytesSource(image, [bad]), str(tmp_path / "saved"), NEVER)
    assert (tmp_path / "saved").read_bytes() == image[: bad[0]] + bytes(8192) + image[bad[1] :]
    assert said == ["8192 bytes could not be read and are zero in the saved dump; FILE.lost beside it says which"]
    assert (tmp_path / "saved.lost").read_text() == f"{bad[0]} 8192\n"
    assert (tmp_path / "saved.lost").stat().st_mode & 0o777 == 0o600


def test_what_could_not_be_read_when_it_was_saved_is_lost_when_it_is_sent(tmp_path: Path) -> None:
    image, bad = b"\xaa" * (4 * 4096), [(4096, 8192), (12288, 16384)]
    path = tmp_path / "saved"
    save.write_core(BytesSource(image, bad), str(path), NEVER)
    source = open_source(str(path), "file")
    assert source.next_data(4096) == 4096, "a hole in the file, but no zeros"
    assert source.read_into(0, memoryview(bytearray(len(image)))) == [(4096, 4096), (12288, 4096)]
    source.close()
    save.write_core(BytesSource(image), str(path), NEVER)
    assert os.listdir(tmp_path) == ["saved"], "nothing is lost of this one"


def test_a_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(save, "STRETCHES_MAX", 2)
    monkeypatch.setattr(lostpages, "STRETCHES_MAX", 2)
    bad = [(start, start + 4096) for start in range(0, 10 * 4096, 8192)]
    save.write_core(BytesSource(b"\xaa" * (10 * 4096), bad), str(tmp_path / "saved"), NEVER)
    assert (tmp_path / "saved.lost").read_text() == "0 4096\n8192 4096\n"
    assert said[0].startswith("20480 bytes could not be read")
    assert said[0].endswith("says which are the first 2 stretches of them")


def test_a_list_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _, text: len(text) - 1)
    with pytest.raises(OSError, match="the disk is full"):
        save.write_core(BytesSource(b"\xaa" * 8192, [(0, 4096)]), str(tmp_path / "saved"), NEVER)
    assert not os.listdir(tmp_path)


def test_the_machine_may_be_turned_off_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note_sync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def note_rename(old: str, new: str, rename: Callable[[str, str], None] = os.rename) -> None:
        seen.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    save.write_core(BytesSource(b"core"), str(tmp_path / "saved"), NEVER)
    assert seen == ["sync file", "rename", "sync folder"]
    seen.clear()
    save.write_core(BytesSource(b"core", [(0, 4)]), str(tmp_path / "saved"), NEVER)
    assert seen == ["sync file", "sync file", "rename", "sync folder"], "no core without the list of what it lacks"


def test_what_does_not_become_whole_in_time_leaves_nothing(core: Path, tmp_path: Path) -> None:
    source = open_source(str(core), "file")
    with pytest.raises(OSError, match="the time for saving is over"):
        save.write_core(source, str(tmp_path / "saved"), time.monotonic() - 1)
    source.close()
    assert sorted(tmp_path.iterdir()) == [core]


def test_a_full_disk_leaves_nothing(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "saved"
    monkeypatch.setattr(save, "FREE_BYTES_MIN", 1 << 62)
    source = open_source(str(core), "file")
    with pytest.raises(OSError, match="the disk is full"):
        save.write_core(source, str(target), NEVER)
    source.close()
    assert sorted(tmp_path.iterdir()) == [core]


@pytest.mark.parametrize(("kind", "offset"), [("ext4", 0x468), ("xfs", 0x20), ("btrfs", 0x10020)])
def test_uuids(tmp_path: Path, kind: str, offset: int) -> None:
    device = tmp_path / "device"
    device.write_bytes(bytes(offset) + bytes.fromhex(UUID) + bytes(9))
    assert save.read_uuid(str(device), kind) == UUID
    device.write_bytes(bytes(offset) + b"end")
    assert save.read_uuid(str(device), kind) == b"end".hex()
    with pytest.raises(FileNotFoundError):
        save.read_uuid(str(tmp_path / "absent"), kind)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_the_whole_stage(
    kind: str, core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    mounted: list[tuple[object, ...]] = []
    monkeypatch.setattr(save, "VMCORE", str(core))
    monkeypatch.setattr(save, "MOUNT_POINT", str(tmp_path / "mnt"))
    monkeypatch.setattr(save, "find_device", lambda *_: "/dev/vda1")
    monkeypatch.setattr(save, "mount", lambda *words: mounted.append(words))
    monkeypatch.setattr(save, "unmount", lambda *words: mounted.append(words))
    monkeypatch.setattr(save, "FREE_BYTES_MIN", 0)
    assert save.save_image(Plan(save=Save(kind, UUID, "/crash"))) == 0
    (saved,) = os.listdir(tmp_path / "mnt/crash")
    assert saved.startswith("netdump-")
    assert saved.endswith(".d31.vmcore")  # from which deploy/systemd/send-saved takes the level
    assert mounted == [
        ("/dev/vda1", str(tmp_path / "mnt"), kind, 0, "subvolid=5" if kind == "btrfs" else ""),
        (str(tmp_path / "mnt"),),
    ]
    assert f"/crash/{saved} on /dev/vda1" in said[-1]
    assert "netdump send -d 31 FILE" in said[-1]


def test_the_saved_dump_is_to_be_sent_at_the_level_of_the_client(
    core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    settings = Settings(level=17)
    monkeypatch.setattr(save, "load_config", lambda *_: Config("", (), Credentials("", "", ""), settings))
    monkeypatch.setattr(save, "VMCORE", str(core))
    monkeypatch.setattr(save, "MOUNT_POINT", str(tmp_path / "mnt"))
    monkeypatch.setattr(save, "find_device", lambda *_: "/dev/vda1")
    for call in ("mount", "unmount"):
        monkeypatch.setattr(save, call, lambda *_: None)
    monkeypatch.setattr(save, "FREE_BYTES_MIN", 0)
    assert save.save_image(Plan(save=Save("ext4", UUID, "/crash"))) == 0
    assert "netdump send -d 17 FILE" in said[-1]
    assert ".d17.vmcore" in said[-1]


def test_names_when_the_clock_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dumps of one second; and what an earlier save that was cut short has left makes room."""
    monkeypatch.setattr("time.gmtime", lambda: (1970, 1, 1, 0, 0, 9, 3, 1, 0))
    for expected in ("netdump-19700101T000009", "netdump-19700101T000009-2", "netdump-19700101T000009-3"):
        name = save.choose_name(f"{tmp_path}/", 31)
        assert name == f"{tmp_path}/{expected}.d31.vmcore"
        (tmp_path / f"{expected}.d31.vmcore").touch()
    (tmp_path / "netdump-20260101T000000.vmcore.partial").touch()
    (tmp_path / "another.partial").touch()
    save.choose_name(str(tmp_path), 31)
    assert [path.name for path in tmp_path.glob("*.partial")] == ["another.partial"]


def test_a_folder_into_which_all_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps a dump from being saved by what he puts there."""
    monkeypatch.setattr("time.gmtime", lambda: (1970, 1, 1, 0, 0, 9, 3, 1, 0))
    stem = "netdump-19700101T000009"
    for name in (f"{stem}.d31.vmcore.partial", f"{stem}-2.d31.vmcore.lost", f"{stem}-3.d31.vmcore"):
        (tmp_path / name).mkdir()
    name = save.choose_name(str(tmp_path), 31)
    assert name == f"{tmp_path}/{stem}-4.d31.vmcore"
    save.write_core(BytesSource(b"core", [(0, 4)]), name, NEVER)


def test_what_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    plan = Plan(save=Save("ext4", UUID, "/crash"))
    assert save.save_image(Plan()) == 2
    monkeypatch.setattr(save, "find_device", lambda *_: "")
    assert save.save_image(plan) == 1
    assert "is its driver in the image?" in said[-1]
    monkeypatch.setattr(save, "find_device", lambda *_: "/dev/vda1")
    monkeypatch.setattr(save, "MOUNT_POINT", str(tmp_path / "mnt"))

    def refuse(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(save, "mount", refuse)
    assert save.save_image(plan) == 1
    assert said[-1] == "the dump cannot be saved: [Errno 19] No such device"


def test_finding_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(device: str, _kind: str) -> str:
        if device == "/dev/sr0":
            raise OSError(123, "No medium found")
        return {"/dev/vda": "0" * 32, "/dev/cciss/c0d0p1": UUID}[device]

    monkeypatch.setattr("os.listdir", lambda _: ["vda", "sr0", "cciss!c0d0p1"])
    monkeypatch.setattr(save, "read_uuid", read)
    assert save.find_device("ext4", UUID, 0) == "/dev/cciss/c0d0p1"
    assert save.find_device("ext4", "ff" * 16, 0) == ""
