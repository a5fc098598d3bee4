from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.errors import ConfigMissingError, DriverError, ImageError
from netdump.image import build
from netdump.image.build import PROGRAMS_BUDGET, CaptureImage, ImageSpec, build_image, write_image
from netdump.image.init.plan import DEADLINE, DEADLINE_MIN, FIRST_LINE, Link, Module, Way, parse_plan
from netdump.image.init.supervisor import CLIENT, STAGE
from netdump.image.network import plan_from
from tests.image.archives import unpack, write
from tests.image.conftest import MAC, RELEASE
from tests.image.modules import kernel_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from netdump.image.network import Snapshot

RUN = 'root=$1; shift; mount -t proc proc $root/proc; exec chroot $root "$@"'


def spec(bundle: Path, **more: object) -> ImageSpec:
    return ImageSpec(bundle, kernel=RELEASE, level=1, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def image(bundle: Path, machine: Path) -> CaptureImage:
    return build_image(spec(bundle), machine)


def test_what_is_in_it(image: CaptureImage, bundle: Path) -> None:
    entries = unpack(image.data)
    assert entries["etc/netdump/client.toml"] == (0o100600, bundle.read_bytes())
    assert entries["etc/netdump"].mode == 0o40700
    assert entries["init"].content.startswith(b"#!/usr/bin/python3 -")
    assert entries["init"].mode == 0o100755
    assert entries["etc/nsswitch.conf"].content == b"hosts: dns files\n"
    assert {"dev/console", "dev/kmsg", "proc", "sys", "usr/bin/python3"} <= entries.keys()
    plan = parse_plan(entries["etc/netdump/plan"].content.decode())
    assert plan == image.plan
    assert plan.modules == (Module("/lib/modules/virtio.ko"), Module("/lib/modules/virtio_net.ko"))
    assert all(module.path[1:] in entries for module in plan.modules)
    assert plan.links == (Link("eth0", "ether", MAC),)
    assert plan.ways == (Way("eth0", "static", ("192.0.2.7/24",)),)
    assert plan.deadline == DEADLINE
    assert plan.collectors == (("192.0.2.9", 7461), ("collector.invalid", 7461))
    assert image.interfaces == "eth0"
    assert replace(image, plan=plan._replace(ways=plan.ways * 2)).interfaces == "eth0"


@pytest.mark.e2e
def test_byte_for_byte_the_same(image: CaptureImage, bundle: Path, machine: Path) -> None:
    assert build_image(spec(bundle), machine).data == image.data


@pytest.mark.skipif(shutil.which("strip") is None, reason="binutils")
def test_the_budget_holds(image: CaptureImage, bundle: Path, machine: Path) -> None:
    if image.programs_bytes > PROGRAMS_BUDGET:  # at level 1: Python 3.12 is the largest; people have a higher one
        image = build_image(ImageSpec(bundle, kernel=RELEASE), machine)
    # Of Python 3.14, itself larger and with OpenSSL 3.6, 9.0 MiB were measured in Debian (docs/capture.md).
    assert image.programs_bytes <= (PROGRAMS_BUDGET if sys.version_info < (3, 14) else 10 << 20)
    assert image.raw_bytes < (24 if sys.version_info < (3, 14) else 28) << 20


def test_more_drivers(bundle: Path, machine: Path, few_programs: Path) -> None:
    image = build_image(spec(bundle, drivers=("bonding",)), machine)
    assert image.plan.modules[-1].path == "/lib/modules/bonding.ko"
    with pytest.raises(DriverError, match="no module mlx5_core"):
        build_image(spec(bundle, drivers=("mlx5_core",)), machine)


@pytest.mark.usefixtures("few_programs")
@pytest.mark.parametrize(
    ("way", "module"), [("eth0 auto", "ipv6"), ("eth0 2001:db8::7/64", "ipv6"), ("eth0 dhcp", "af_packet")]
)
def test_kinds_of_sockets_that_are_modules(bundle: Path, machine: Path, way: str, module: str) -> None:
    """In the healthy system the first program that wants one has it loaded."""
    assert build_image(spec(bundle, network=(way,)), machine).plan.modules[-1].path == f"/lib/modules/{module}.ko"


@pytest.mark.usefixtures("few_programs")
def test_the_phy_comes_before_the_device(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that finds none is content with the kernel's generic driver. Another kernel may lack it."""
    monkeypatch.setattr("netdump.image.build.phy_modules", lambda *_: ["absent", "bonding"])
    assert build_image(spec(bundle), machine).plan.modules[0].path == "/lib/modules/bonding.ko"


@pytest.mark.usefixtures("few_programs")
def test_modules_get_their_options(bundle: Path, machine: Path) -> None:
    """And an armed image without them is out of date."""
    before = build_image(spec(bundle), machine)
    (machine / "etc/modprobe.d").mkdir(parents=True)
    (machine / "etc/modprobe.d/net.conf").write_text("options virtio-net napi_weight=32 csum=0\n")
    image = build_image(spec(bundle), machine)
    (machine / "etc/modprobe.d/net.conf").unlink()
    assert image.plan.modules[1] == Module("/lib/modules/virtio_net.ko", ("napi_weight=32", "csum=0"))
    changed = {name for name in image.digests if image.digests[name] != before.digests[name]}
    assert changed == {"drivers"}


@pytest.mark.usefixtures("few_programs")
def test_the_watchdog_comes_first(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs already must not wait for a slow device. Its drivers are those of the kernel to be booted."""
    there = machine / "sys", machine / "lib/modules" / RELEASE / "kernel/drivers/watchdog"
    monkeypatch.setattr("netdump.image.build.watchdog_modules", lambda *asked: ["bonding"] if asked == there else [])
    assert build_image(spec(bundle), machine).plan.modules[0].path == "/lib/modules/bonding.ko"


@pytest.mark.usefixtures("few_programs")
def test_firmware_is_found_where_the_kernel_finds_it(bundle: Path, machine: Path) -> None:
    names = ("a.bin", "b.bin", "c.bin", "absent.bin", "../../evil")
    module = kernel_module({"name": "bonding"}, firmware=names)
    (machine / "lib/modules" / RELEASE / "kernel/bonding.ko").write_bytes(module)
    (machine / "evil").write_bytes(b"not below lib/firmware")
    for place, name in (
        ("", "a.bin"), ("updates", "a.bin"), (f"updates/{RELEASE}", "a.bin"), ("", "b.bin"), (RELEASE, "b.bin"),
        ("", "c.bin.xz"), ("updates", "c.bin.xz"),
    ):  # fmt: skip
        path = machine / "lib/firmware" / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{place}: {name}")
    entries = unpack(build_image(spec(bundle, drivers=("bonding",)), machine).data)
    assert {
        name: entry.content.decode() for name, entry in entries.items() if entry.content and "firmware" in name
    } == {
        "lib/firmware/a.bin": f"updates/{RELEASE}: a.bin",
        "lib/firmware/b.bin": f"{RELEASE}: b.bin",
        "lib/firmware/c.bin.xz": "updates: c.bin.xz",
    }


@pytest.mark.usefixtures("few_programs")
def test_the_deadline_of_the_bundle(bundle: Path, machine: Path, tmp_path: Path) -> None:
    own = tmp_path / "client.toml"
    for said, deadline in ((900, 900), (5, DEADLINE_MIN)):  # in less no capture kernel reaches anybody
        own.write_text(bundle.read_text() + f"[send]\ndeadline = {said}\n")
        own.chmod(0o600)
        assert build_image(spec(own), machine).plan.deadline == deadline
    assert build_image(spec(own, deadline=120.0), machine).plan.deadline == 120


@pytest.mark.usefixtures("few_programs")
def test_the_words_of_the_command_line(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    snapshot: Snapshot = vars(build)["take_snapshot"]((), machine)

    def take(targets: Iterable[str], _: Path) -> Snapshot:
        asked.extend(targets)
        return snapshot

    monkeypatch.setattr(build, "take_snapshot", take)
    words = {"collectors": "localhost:7,192.0.2.77", "deadline": "300", "levle": "3"}
    image = build_image(spec(bundle, words=words), machine)
    assert image.plan.collectors == (("localhost", 7), ("192.0.2.77", 7461))
    assert image.plan.deadline == 300
    assert set(image.known) == {"localhost", "192.0.2.77"}
    assert {"127.0.0.1", "192.0.2.77"} <= {*asked}, "the routes to them are what counts"
    (doubt,) = image.warnings
    assert (doubt.topic, doubt.fact.startswith("kernel command line: unknown setting netdump.levle; did you")) == (
        build.TOPIC_WORDS, True,
    )  # fmt: skip
    assert image.digests["options"] != build_image(spec(bundle), machine).digests["options"]


@pytest.mark.usefixtures("few_programs")
def test_a_collector_of_one_link(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, found, doubted in (
        ("[fe80::1%eth0]:7461", ["fe80::1"], True),
        ("c.local:7461", ["fe80::1"], True),
        ("c.local:7461", ["fe80::1", "2001:db8::1"], False),
    ):
        monkeypatch.setattr(build, "resolve", lambda asked, found=found: {each.host: found for each in asked})
        facts = [each.fact for each in build_image(spec(bundle, words={"collectors": given}), machine).warnings]
        assert any(" is of one link only" in fact for fact in facts) == doubted, facts


@pytest.mark.usefixtures("few_programs")
def test_firmware_of_a_driver_that_is_built_in(bundle: Path, machine: Path) -> None:
    told = machine / "lib/modules" / RELEASE / "modules.builtin.modinfo"
    told.write_bytes(b"virtio_pci.firmware=builtin.bin\0")
    path = machine / "lib/firmware/builtin.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"of the card")
    assert unpack(build_image(spec(bundle), machine).data)["lib/firmware/builtin.bin"].content == b"of the card"
    told.unlink()


@pytest.mark.usefixtures("few_programs")
def test_a_kernel_that_has_no_modules(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs depmod for one. What it lacks is missed only if the image must have it."""
    monkeypatch.setattr("netdump.image.build.network_modules", lambda *_: [])
    told = machine / "lib/modules" / RELEASE / "modules.dep"
    aside = told.rename(told.with_name("aside"))
    try:
        assert build_image(spec(bundle, network=("eth0 dhcp",)), machine).plan.modules == ()
        with pytest.raises(DriverError, match="depmod"):
            build_image(spec(bundle, network=("eth0 dhcp",), drivers=("bonding",)), machine)
    finally:
        aside.rename(told)


@pytest.mark.usefixtures("few_programs")
def test_what_keeps_it_from_delivering(bundle: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build_image(spec(bundle), machine)
    assert [each.fact.partition(":")[0] for each in image.warnings] == [
        "the collector's name collector.invalid cannot be looked up now"
    ]
    monkeypatch.setattr(build, "plan_from", lambda snapshot: replace(plan_from(snapshot), beyond=("team0", "wg0")))
    doubt = build_image(spec(bundle), machine).warnings[-1]
    assert doubt.fact.startswith("the collectors are reached over team0, wg0, which the capture kernel cannot use; ")
    assert doubt.fact.endswith("over eth0")
    assert "--network" in str(doubt)
    monkeypatch.setattr(build, "plan_from", lambda snapshot: replace(plan_from(snapshot), beyond=("eth0",)))
    assert build_image(spec(bundle), machine).warnings[-1].fact.endswith("cannot use; it has no other")
    monkeypatch.setattr(build, "plan_from", plan_from)
    snapshot = vars(build)["take_snapshot"]((), machine)
    monkeypatch.setattr(build, "take_snapshot", lambda *_: replace(snapshot, targets=()))
    assert build_image(spec(bundle), machine).warnings[-1].fact.startswith("this machine has no route to a collector")
    given = build_image(spec(bundle, network=("eth0 192.0.2.7/24 via 192.0.2.1",)), machine)
    assert len(given.warnings) == 1, "who says it himself is believed"


def test_what_cannot_be_built(bundle: Path, machine: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigMissingError, match=r"absent\.toml does not exist"):
        build_image(spec(tmp_path / "absent.toml"), machine)
    with pytest.raises(ImageError, match=r"no modules of kernel 9\.9"):
        build_image(ImageSpec(bundle, kernel="9.9"), machine)


def test_the_file_is_for_its_owner(image: CaptureImage, tmp_path: Path) -> None:
    path = tmp_path / "capture.img"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_image(image, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == image.data
    assert [each.name for each in tmp_path.iterdir() if "capture" in each.name] == ["capture.img"]
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(image, tmp_path / "absent" / "capture.img")


@pytest.mark.parametrize("what", [os.mkfifo, lambda path: path.symlink_to("/proc/self/fd/1")], ids=["pipe", "link"])
def test_what_is_no_file_is_never_replaced(image: CaptureImage, tmp_path: Path, what: Callable[[Path], None]) -> None:
    """Of root's that would be /dev/null and /dev/stdout, for the whole machine."""
    what(tmp_path / "null")
    with pytest.raises(ImageError, match="null is not a file, and is never replaced"):
        write_image(image, tmp_path / "null")
    assert not stat.S_ISREG((tmp_path / "null").lstat().st_mode)


def test_client_and_stages_start_with_nothing_but_the_image(image: CaptureImage, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(unpack(image.data), root)
    (root / "etc/netdump/plan").write_text(FIRST_LINE + "\ncollector 127.0.0.1 1\n")
    if subprocess.run(
        ["unshare", "-mn", "sh", "-c", f"mount -t proc proc {root}/proc"], capture_output=True
    ).returncode:
        pytest.skip("no permission to make name spaces")
    for command, status, expected in (
        ((*CLIENT, "/nothing", "--config", "/etc/netdump/client.toml"), 15, "/nothing cannot be opened"),
        ((*STAGE, "network"), 1, ""),
    ):
        done = subprocess.run(
            ["unshare", "-mn", "sh", "-c", RUN, "sh", str(root), *command], capture_output=True, text=True, timeout=60
        )
        assert expected in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == status, done.stderr
