"""The real thing: a Debian kernel enrols, arms itself and panics; its capture kernel sends; crash reads the dump."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import vm
from tests.e2e.rig import netdump, wait_until
from tests.e2e.test_tools import symbols, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.image.kernel import Kernel

__all__ = ["symbols"]
pytestmark = pytest.mark.e2e

MEMORY = "416M"
CRASHKERNEL = "crashkernel=112M"
NONCE = "netdump crash test: last words 4711"
CLIENT_PEAK_MAX = 32.0  # MiB (DESIGN section 6)
ESTIMATE = """\
netdump estimate --json -d 0 -d 31 > /tmp/estimate 2> /tmp/progress
tr -d '\\n' < /tmp/estimate; echo; echo ESTIMATED
"""
ARM_AND_CRASH = f"""\
{vm.STATIC_NETWORK}
netdump enroll {{url}} --token {{token}} --out /root/client.toml || exit
netdump arm --config /root/client.toml --level 1 {{options}} || exit
echo '{NONCE}' > /dev/kmsg
echo c > /proc/sysrq-trigger
"""


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    return vm.kernel()


@pytest.fixture(scope="session")
def root(kernel: Kernel) -> bytes:
    return vm.build_root(kernel)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[vm.GuestCollector]:
    running = vm.GuestCollector(tmp_path / "collector")
    running.start()
    yield running
    running.stop()


def token(collector: vm.GuestCollector) -> str:
    made: str = json.loads(netdump("token", collector.folder, "--host", "crashy", "--json").stdout)["token"]
    return made


def test_a_panic_ends_up_in_the_collector(
    collector: vm.GuestCollector, kernel: Kernel, root: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    script = ESTIMATE + ARM_AND_CRASH.format(
        url=collector.guest_url, token=token(collector), options="--final poweroff"
    )
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, script)])
    console = vm.boot(kernel, initrd, tmp_path / "console", memory=MEMORY, append=CRASHKERNEL)

    dumps = collector.dumps()
    assert len(dumps) == 1, console[-4000:]
    (dump,) = dumps
    assert (dump["state"], dump["host"], dump["kernel_release"]) == ("complete", "crashy", vm.RELEASE), console[-4000:]
    assert dump["panic"] == "Kernel panic - not syncing: sysrq triggered crash"
    assert dump["totals"]["lost"] == 0

    check_estimate(console, dump)

    target = tmp_path / "vmcore"
    analyst = collector.enroll("analyst", "ann")
    netdump("fetch", dump["id"], "-o", target, NETDUMP_CONFIG=str(analyst))
    log = netdump("log", dump["id"], NETDUMP_CONFIG=str(analyst)).stdout
    assert NONCE in log
    assert log == dumped_log(target, tmp_path)

    peak = float(re.findall(r"its peak memory was ([0-9.]+) MiB", console)[-1])
    assert 10 < peak <= CLIENT_PEAK_MAX
    assert "netdump-init: poweroff" in console  # the final action that was asked for, and it happened:
    assert "reboot: Power down" in console
    check_stack(target, request.getfixturevalue("symbols"))


def test_collector_and_client_are_killed_in_mid_dump(
    collector: vm.GuestCollector, kernel: Kernel, root: bytes, tmp_path: Path
) -> None:
    """The collector by SIGKILL, then the client by the kernel's OOM killer (sysrq-f), as when memory runs out."""
    options = "--final poweroff --append 'sysrq_always_enabled netdump.level=0'"  # all of it, which takes its time
    script = ARM_AND_CRASH.format(url=collector.guest_url, token=token(collector), options=options)
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, script)])
    command = vm.qemu(kernel, initrd, tmp_path / "console", memory=MEMORY, append=CRASHKERNEL)
    with vm.Guest(command, tmp_path / "console") as guest:
        wait_for_bytes(collector, guest, 1)
        collector.kill()
        collector.start()
        (before,) = collector.dumps()
        wait_for_bytes(collector, guest, before["durable_bytes"] + 1)
        guest.press("alt-sysrq-f")
        console = guest.wait()
    (dump,) = collector.dumps()
    assert dump["state"] == "complete", console[-4000:]
    assert "netdump-init: the client ended by signal 9" in console
    assert console.count("its peak memory was") == 2
    assert "reboot: Power down" in console


def test_without_a_collector_the_dump_is_saved_and_sent_later(
    collector: vm.GuestCollector, kernel: Kernel, root: bytes, tmp_path: Path
) -> None:
    """No collector answers until the deadline; the network comes by DHCP; the dump is kept on a disk."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run([vm.find("mke2fs") or "mke2fs", "-q", "-t", "ext4", disk], check=True)
    drive = ["-drive", f"file={disk},if=none,format=raw,id=d0", "-device", "virtio-blk-pci,drive=d0"]
    options = "--deadline 60 --network 'eth0 dhcp' --save /mnt/crash --failure poweroff"
    script = "mount -t ext4 /dev/vda /mnt || exit; mkdir -p /mnt/crash\n" + ARM_AND_CRASH.format(
        url=collector.guest_url, token=token(collector) + f" --collector {vm.HOST}:9", options=options
    )
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, script)])
    console = vm.boot(kernel, initrd, tmp_path / "console", memory=MEMORY, append=CRASHKERNEL, options=drive)
    assert "eth0 (dhcp): 10.0.2.15/24; no collector answers there" in console, console[-4000:]
    assert "the deadline of 60 s has passed" in console
    assert "the dump is saved: /crash/netdump-" in console
    assert "reboot: Power down" in console
    assert collector.dumps() == []

    script = (
        f"{vm.STATIC_NETWORK}\nmount -t ext4 /dev/vda /mnt\n"
        f"netdump enroll {collector.guest_url} --token {token(collector)} --out /root/client.toml\n"
        "netdump send --config /root/client.toml /mnt/crash/netdump-*.vmcore"
    )
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, script)])
    console = vm.boot(kernel, initrd, tmp_path / "console2", append="", options=drive)
    (dump,) = collector.dumps()
    assert (dump["state"], dump["panic"]) == ("complete", "Kernel panic - not syncing: sysrq triggered crash"), console


def check_estimate(console: str, dump: dict[str, Any]) -> None:
    """What the healthy guest forecast of its dump, and what came: nearly the same memory, at work for a few seconds."""
    found = re.search(r"^(\{.*\})\s+ESTIMATED$", console, re.MULTILINE)
    assert found is not None, console[-4000:]
    forecast = json.loads(found[1])
    assert forecast["kernel_release"] == vm.RELEASE
    assert forecast["remark"] is None
    assert forecast["crashkernel_bytes"] == 112 << 20
    assert min(forecast["pages"][name] for name in ("kernel", "free", "cache", "user")) > 1000
    whole, small = forecast["levels"]
    assert small["wire_bytes"] < whole["wire_bytes"]
    memory = dump["totals"]["data"] + dump["totals"]["zero"] + dump["totals"]["excluded"]
    assert forecast["memory_bytes"] == pytest.approx(memory, rel=0.1)
    assert dump["level"] == 31
    assert 0.5 < dump["stored_bytes"] / small["wire_bytes"] < 2
    assert 0.5 < dump["totals"]["excluded"] / small["excluded_bytes"] < 2


def wait_for_bytes(collector: vm.GuestCollector, guest: vm.Guest, count: int) -> None:
    """Until the collector has that many bytes of the one dump on disk."""

    def arrived() -> bool:
        assert guest.runs, guest.console[-4000:]
        dumps = collector.dumps()
        return bool(dumps) and dumps[0]["durable_bytes"] >= count

    wait_until(arrived, f"{count} bytes of the dump")


def dumped_log(core: Path, folder: Path) -> str:
    """The kernel log as makedumpfile reads it."""
    text = folder / "dmesg"
    subprocess.run([tool("makedumpfile"), "--dump-dmesg", core, text], check=True, capture_output=True, timeout=120)
    return text.read_text(errors="replace")


def check_stack(core: Path, symbols: Path) -> None:
    done = subprocess.run(
        [tool("crash"), "-s", symbols, core], input="bt\nquit\n", capture_output=True, text=True, timeout=300
    )
    stack = [line.split()[2] for line in done.stdout.splitlines() if line.lstrip().startswith("#")]
    assert stack[:4] == ["machine_kexec", "__crash_kexec", "panic", "sysrq_handle_crash"], done.stdout + done.stderr
    assert 'COMMAND: "init"' in done.stdout  # the script, process 1, that wrote the c
