from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.errors import ArmError, ImageError
from netdump.image.armed import (
    HARDWARE,
    LOCK,
    RECORD,
    Armed,
    changes,
    digests,
    follows_hardware,
    forget_record,
    hardware,
    only_one,
    read_record,
    write_record,
)
from netdump.image.build import ImageSpec, build_image
from tests.image.conftest import RELEASE

if TYPE_CHECKING:
    from typing import Any

OPTIONS: dict[str, Any] = {
    "bundle": Path("/etc/b.toml"), "kernel": None, "drivers": ("a", "b"), "network": (), "save": None,
    "deadline": 60.0, "final": "reboot", "failure": "halt", "watchdog": False, "compression": None, "level": 3,
}  # fmt: skip
ARMED = Armed("6.1", "x=1", {"kernel": "1"}, 1_700_000_000, 1, 2, 3, ["eth0 dhcp"], ["c:1"], {"c": ["::1"]}, OPTIONS)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(ARMED, tmp_path)
    read = read_record(tmp_path)
    assert read is not None
    assert (read.digests, read.known, read.at) == (ARMED.digests, ARMED.known, ARMED.at)
    assert read.spec() == ImageSpec(**OPTIONS, known=ARMED.known)
    words = replace(read, command_line="x=1 netdump.level=0").spec().words
    assert words == {"level": "0"}  # what was armed counts, not what the bundle alone would do
    forget_record(tmp_path)
    forget_record(tmp_path)
    assert read_record(tmp_path) is None


def test_everybody_may_know_what_is_armed(tmp_path: Path) -> None:
    """Whatever the umask: that of netdump-arm.service is 0077, and without a record it was not netdump that armed."""
    run = tmp_path / "run"
    before = os.umask(0o077)
    try:
        with only_one(run):
            write_record(ARMED, run)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (run, *run.iterdir())}
    assert modes == {"run": 0o755, RECORD: 0o644, LOCK: 0o600}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": 1}', "\xff", "null"])
def test_a_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    write_record(ARMED, tmp_path)
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None


def test_a_record_of_other_types_is_none(tmp_path: Path) -> None:
    write_record(ARMED, tmp_path)
    path = tmp_path / RECORD
    path.write_text(path.read_text().replace('{\n  "kernel": "1"\n }', '["kernel"]'))
    assert "[" in path.read_text()
    assert read_record(tmp_path) is None


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArmError, match="cannot be written"):
        write_record(ARMED, tmp_path / "file")
    with pytest.raises(ArmError, match="cannot be removed"):
        forget_record(tmp_path / "file")
    with pytest.raises(ArmError, match="cannot be used"), only_one(tmp_path / "file"):
        pass


def test_what_has_changed() -> None:
    assert changes({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == ["b", "c", "d"]
    assert changes(ARMED.digests, ARMED.digests) == []


def test_digests_tell_what_changed(bundle: Path, machine: Path, few_programs: Path, tmp_path: Path) -> None:
    kernel = machine / "boot" / f"vmlinuz-{RELEASE}"
    kernel.parent.mkdir(exist_ok=True)
    kernel.write_bytes(b"kernel")
    spec = ImageSpec(bundle, kernel=RELEASE, level=1, strip=False)
    before = digests(build_image(spec, machine), "a", tmp_path)
    assert changes(before, digests(build_image(spec, machine), "a", tmp_path)) == []

    other = tmp_path / "client.toml"
    other.write_text(bundle.read_text() + "[send]\nlevel = 1\n")
    kernel.write_bytes(b"another kernel")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("00001000-0009ffff : System RAM\n")
    spec = ImageSpec(other, kernel=RELEASE, level=1, strip=False, drivers=("bonding",), final="halt")
    after = digests(build_image(spec, machine), "b", tmp_path)
    assert changes(before, after) == [
        "bundle", "command line", "drivers", "kernel", "memory and processors", "options",
    ]  # fmt: skip
    kernel.unlink()
    with pytest.raises(ImageError, match=f"the kernel image of {RELEASE} is not in /boot"):
        digests(build_image(spec, machine), "b", tmp_path)


def test_digests_tell_of_another_program(bundle: Path, machine: Path, few_programs: Path, tmp_path: Path) -> None:
    kernel = machine / "boot" / f"vmlinuz-{RELEASE}"
    kernel.parent.mkdir(exist_ok=True)
    kernel.write_bytes(b"kernel")
    spec = ImageSpec(bundle, kernel=RELEASE, level=1, strip=False)
    before = digests(build_image(spec, machine), "a", tmp_path)
    few_programs.write_bytes(b"another interpreter")
    assert changes(before, digests(build_image(spec, machine), "a", tmp_path)) == ["programs"]


def test_hardware_that_can_be_plugged(tmp_path: Path) -> None:
    assert hardware(tmp_path) == ""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("00001000-0009ffff : System RAM\n000a0000-000fffff : PCI Bus 0000:00\n")
    cpus = tmp_path / "sys/devices/system/cpu"
    cpus.mkdir(parents=True)
    (cpus / "present").write_text("0-3\n")
    assert hardware(tmp_path) == "00001000-0009ffff : System RAM\n0-3"


@pytest.mark.parametrize(
    ("cpu", "memory", "follows"),
    [("1", "1", True), ("1", None, True), ("1", "0", False), ("1", "", False), ("0", "1", False), (None, None, False)],
)
def test_hardware_that_the_kernel_follows(cpu: str | None, memory: str | None, follows: bool, tmp_path: Path) -> None:
    """ "" is a folder without crash_hotplug."""
    for name, content in (("cpu", cpu), ("memory", memory)):
        if content is not None:
            folder = tmp_path / "sys/devices/system" / name
            folder.mkdir(parents=True)
            if content:
                (folder / "crash_hotplug").write_text(f"{content}\n")
    assert follows_hardware(tmp_path) == follows
    changed = changes({HARDWARE: "1", "kernel": "1"}, {HARDWARE: "2", "kernel": "2"}, tmp_path)
    assert changed == (["kernel"] if follows else ["kernel", HARDWARE])


def test_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait(10)
        with only_one(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with only_one(tmp_path):
        inside.set()
        thread.join(0.1)  # it cannot get in
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
