"""The real thing: a Debian kernel that armed itself panics; its capture kernel sends; crash reads the dump."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import vm
from tests.e2e.armed import (
    BUNDLE,
    CAPTURE_TIMEOUT,
    NODE,
    NONCE,
    Armed,
    how_it_ended,
    make_disk,
    panic,
    wait_for_bytes,
)
from tests.e2e.rig import netdump
from tests.e2e.test_tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.e2e

PANIC = "Kernel panic - not syncing: sysrq triggered crash"
CLIENT_PEAK_MAX = 32.0  # MiB (DESIGN section 6)
ESTIMATE = """\
netdump estimate --json -d 0 -d 31 > /tmp/estimate 2> /tmp/progress
tr -d '\\n' < /tmp/estimate; echo; echo ESTIMATED"""
ALL_PAGES = "netdump.level=0"  # enough to send that something can happen on the way
CHANGES_CLOCK = "now=$(date +%s); date -s {date}; hwclock -w -u; date -s @$now"  # that of the hardware


@pytest.fixture
def first(armed: Armed, tmp_path: Path) -> Iterator[vm.GuestCollector]:
    with armed.running(tmp_path) as collector:
        yield collector


@pytest.fixture
def second(armed: Armed, tmp_path: Path) -> Iterator[vm.GuestCollector]:
    with armed.running(tmp_path, "second") as collector:
        yield collector


def delivered(collector: vm.GuestCollector, console: str) -> dict[str, Any]:
    """The one dump that a collector has: complete, which means that the client's root digest is the collector's."""
    dumps = collector.dumps()
    assert len(dumps) == 1, console[-4000:]
    (dump,) = dumps
    assert (dump["state"], dump["host"], dump["kernel_release"]) == ("complete", NODE, vm.RELEASE), console[-4000:]
    assert (dump["panic"], dump["totals"]["lost"]) == (PANIC, 0)
    assert NONCE in netdump("log", dump["id"], "--root", collector.folder).stdout
    return dump


def test_a_panic_ends_up_in_the_collector(armed: Armed, first: vm.GuestCollector, tmp_path: Path) -> None:
    with armed.resume(tmp_path / "console") as guest:
        guest.type(ESTIMATE)
        guest.wait_for("ESTIMATED")
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown"  # the final action that was asked for
    dump = delivered(first, console)
    assert "NODE_DATA(1) allocated" in armed.console  # of which the page filter thinks nothing
    assert not dump["remark"]
    check_estimate(console, dump)
    target = tmp_path / "vmcore"
    analyst = first.enroll("analyst", "ann")
    netdump("fetch", dump["id"], "-o", target, NETDUMP_CONFIG=str(analyst))
    assert netdump("log", dump["id"], NETDUMP_CONFIG=str(analyst)).stdout == dumped_log(target, tmp_path)
    peak = float(re.findall(r"its peak memory was ([0-9.]+) MiB", console)[-1])
    assert 10 < peak <= CLIENT_PEAK_MAX
    check_stack(target, guest_symbols())


def test_collector_and_client_are_killed_in_mid_dump(armed: Armed, first: vm.GuestCollector, tmp_path: Path) -> None:
    """The collector by SIGKILL, then the client by the kernel's OOM killer (sysrq-f), as when memory runs out."""
    with armed.resume(tmp_path / "console") as guest:
        armed.reload(guest, words=f"sysrq_always_enabled {ALL_PAGES}")
        panic(guest)
        wait_for_bytes(first, guest, 1)
        first.kill()
        first.start()
        wait_for_bytes(first, guest, first.held_bytes() + 1)
        guest.press("alt", "sysrq", "f")
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown"
    assert "the client ended by signal 9" in delivered(first, console)["remark"]
    assert "netdump-init: the client ended by signal 9" in console
    assert console.count("its peak memory was") == 2
    begun = [float(at) for at in re.findall(rf"{first.guest_address} goes on at ([0-9.]+) MiB", console)]
    assert len(begun) == 2  # one that lost its collector, one that was started again by the init
    assert 0 < begun[0] <= begun[1]


def test_the_cable_is_pulled_in_mid_dump(armed: Armed, first: vm.GuestCollector, tmp_path: Path) -> None:
    """And the clock of the hardware says 2060, so every certificate has expired."""
    with armed.resume(tmp_path / "console") as guest:
        guest.type(CHANGES_CLOCK.format(date="2060-01-01"))
        armed.reload(guest, words=ALL_PAGES)
        panic(guest)
        wait_for_bytes(first, guest, 1)
        guest.monitor.execute("set_link", name="n0", up=False)
        guest.wait_for("nothing was sent for")
        guest.monitor.execute("set_link", name="n0", up=True)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown"
    assert "setting system clock to 2060-01-01" in console
    delivered(first, console)


def test_the_second_collector_takes_over(armed: Armed, second: vm.GuestCollector, tmp_path: Path) -> None:
    """The first one dies in mid-dump and stays dead. The clock of the hardware says 1970, and one module is broken."""
    first = armed.collector(tmp_path)
    first.start()
    files = {"lib/modules/broken.ko": b"no module", "etc/netdump/plan": armed.plan("broken")}
    with armed.resume(tmp_path / "console") as guest:
        guest.type(CHANGES_CLOCK.format(date="1970-01-02"))
        armed.reload(guest, files, ALL_PAGES)
        panic(guest)
        wait_for_bytes(first, guest, 1)
        first.kill()
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown"
    assert "setting system clock to 1970-01-02" in console
    dump = delivered(second, console)
    assert "module broken.ko does not load" in dump["remark"]
    assert first.dumps()[0]["state"] != "complete"


def test_the_kernel_command_line_names_the_collector(armed: Armed, first: vm.GuestCollector, tmp_path: Path) -> None:
    """Nobody listens where the image looks for one any more."""
    with armed.resume(tmp_path / "console") as guest:
        files = {"etc/netdump/plan": armed.plan(collectors=((vm.HOST, 9),), deadline=90.0)}
        armed.reload(guest, files, f"netdump.collectors={first.guest_address} netdump.deadline=300")
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown", console[-4000:]
    assert f"{first.guest_address} is reachable" in console
    delivered(first, console)


def test_over_a_bond_to_the_second_collector(armed: Armed, second: vm.GuestCollector, tmp_path: Path) -> None:
    """The first collector was never there. The dead system had a bond, so the capture kernel makes it again.

    Modules are given their options, and loaded without if they refuse them.
    """
    bonding = " ".join(str(vm.module_path(armed.kernel, name)) for name in ("tls", "bonding"))
    with armed.resume(tmp_path / "console") as guest:
        guest.type(f"for module in {bonding}; do insmod $module; done")
        guest.type("cd /sys/class/net/bond0/bonding; echo active-backup > mode; echo 100 > miimon")
        guest.type("ip addr flush dev eth0; ip link set eth0 down; echo +eth0 > slaves; ip link set bond0 up")
        guest.type("ip addr add 10.0.2.15/24 dev bond0; ip route add default via 10.0.2.2")
        guest.type("mkdir -p /etc/modprobe.d; echo options virtio_net csum=odd > /etc/modprobe.d/net.conf")
        again = "--append bonding.miimon=odder"
        guest.type(f"netdump arm --config /{BUNDLE} --level 1 --final poweroff {again} && echo IT-IS-ARMED-ANEW")
        guest.wait_for("IT-IS-ARMED-ANEW")
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown"
    for module, parameter, value in (("virtio_net", "csum", "odd"), ("bonding", "miimon", "odder")):
        assert f"{module}: `{value}' invalid for parameter `{parameter}'" in console  # says the kernel
        assert f"netdump-init: module {module}.ko does not load with {parameter}=" in console
    assert f"bond0 (static): 10.0.2.15/24; {second.guest_address} is reachable" in console
    delivered(second, console)


def test_over_ipv6(armed: Armed, tmp_path: Path) -> None:
    """The collector has no other address; the guest has its own from a router, and so has the capture kernel."""
    collector = armed.collector(tmp_path)
    collector.ingest, collector.api = "[::1]:0", "[::1]:0"
    collector.start()
    address = f"[{vm.HOST_IPV6}]:{collector.ingest.rpartition(':')[2]}"
    try:
        with armed.resume(tmp_path / "console") as guest:
            guest.type("ip addr del 10.0.2.15/24 dev eth0")
            guest.type(f"sed -i 's/^collectors = .*/collectors = [\"{address}\"]/' /{BUNDLE}")
            guest.type(f"netdump arm --config /{BUNDLE} --level 1 --final poweroff && echo IT-IS-ARMED-ANEW")
            guest.wait_for("IT-IS-ARMED-ANEW")
            panic(guest)
            console = guest.wait(CAPTURE_TIMEOUT)
            assert how_it_ended(guest) == "guest-shutdown"
    finally:
        collector.stop()
    assert f"eth0 (auto): has an advertised address; {address} is reachable" in console
    delivered(collector, console)


def test_without_a_collector_the_dump_is_saved_and_sent_later(armed: Armed, tmp_path: Path) -> None:
    """No collector answers until the deadline; the network comes by DHCP; the dump is kept on a disk."""
    disk = make_disk(tmp_path / "disk", "ext4")
    with armed.resume(tmp_path / "console", disk) as guest:
        guest.type("mount -t ext4 /dev/vda /mnt; mkdir -p /mnt/crash")
        guest.type(
            f"netdump arm --config /{BUNDLE} --level 1 --deadline 60 --network 'eth0 dhcp' --save /mnt/crash"
            " && echo IT-IS-ARMED-ANEW"
        )
        guest.wait_for("IT-IS-ARMED-ANEW")
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-reset"  # the failure action, by default
    assert "eth0 (dhcp): 10.0.2.15/24; no collector answers there" in console, console[-4000:]
    assert "the deadline of 60 s has passed" in console
    assert "the dump is saved: /crash/netdump-" in console

    with armed.running(tmp_path) as first, armed.resume(tmp_path / "console2", disk) as guest:  # as after its reboot
        guest.type(f"mount -t ext4 /dev/vda /mnt; netdump send --config /{BUNDLE} /mnt/crash/*; poweroff -f")
        delivered(first, guest.wait())


def check_estimate(console: str, dump: dict[str, Any]) -> None:
    """What the healthy guest forecast of its dump, and what came: nearly the same memory, at work for a few seconds."""
    found = re.search(r"^(\{.*\})\s+ESTIMATED$", console, re.MULTILINE)
    assert found is not None, console[-4000:]
    forecast = json.loads(found[1])
    assert forecast["kernel_release"] == vm.RELEASE
    assert forecast["remark"] is None
    assert forecast["crashkernel_bytes"] == vm.RESERVED << 20
    assert min(forecast["pages"][name] for name in ("kernel", "free", "cache", "user")) > 1000
    whole, small = forecast["levels"]
    assert small["wire_bytes"] < whole["wire_bytes"]
    memory = dump["totals"]["data"] + dump["totals"]["zero"] + dump["totals"]["excluded"]
    assert forecast["memory_bytes"] == pytest.approx(memory, rel=0.1)
    assert dump["level"] == 31
    assert dump["stored_bytes"] / small["wire_bytes"] > 0.5
    assert dump["stored_bytes"] / small["data_bytes"] < 2, "as it is where the link is faster than the guest"
    assert 0.5 < dump["totals"]["excluded"] / small["excluded_bytes"] < 2


def dumped_log(core: Path, folder: Path) -> str:
    """The kernel log as makedumpfile reads it."""
    text = folder / "dmesg"
    subprocess.run([tool("makedumpfile"), "--dump-dmesg", core, text], check=True, capture_output=True, timeout=120)
    return text.read_text(errors="replace")


def guest_symbols() -> Path:
    """Those of the guest's kernel, which is another than the sample's once Debian no longer offers that."""
    path = Path(os.environ.get("NETDUMP_VMLINUX", "/nonexistent")).with_name(f"vmlinux-{vm.RELEASE}")
    if not path.exists():
        pytest.skip(f"no debug symbols of {vm.RELEASE}; ./run e2e fetches them")
    return path


def check_stack(core: Path, symbols: Path) -> None:
    done = subprocess.run(
        [tool("crash"), "-s", symbols, core], input="bt\nquit\n", capture_output=True, text=True, timeout=300
    )
    stack = [line.split()[2] for line in done.stdout.splitlines() if line.lstrip().startswith("#")]
    assert stack[:4] == ["machine_kexec", "__crash_kexec", "panic", "sysrq_handle_crash"], done.stdout + done.stderr
    assert 'COMMAND: "sh"' in done.stdout  # the shell that wrote the c
