"""`netdump doctor` on a real kernel: what it says before and after arming, a drill, and a collector that has gone."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import vm
from tests.e2e.rig import POLL_PERIOD, netdump

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.kernel import Kernel

pytestmark = pytest.mark.e2e

MEMORY = "416M"
NONCE = "netdump drill test: 4711"
# At the end no image is built, for there is no such kernel: that would take as long as all the rest.
BARE = f"""\
{vm.STATIC_NETWORK}
echo BEGIN bare; netdump doctor --json --config /root/client.toml; echo END $?
"""
ARMED = f"""\
{vm.STATIC_NETWORK}
echo 1 > /proc/sys/kernel/panic_on_oops
netdump enroll {{url}} --token {{token}} --out /root/client.toml || exit
netdump arm --config /root/client.toml --no-watchdog || exit
echo BEGIN armed; netdump doctor --json; echo END $?
echo '{NONCE}' > /dev/kmsg
echo BEGIN drill; netdump doctor --drill --json 2>/dev/null; echo END $?
echo DRILLED
while nc -w 1 10.0.2.2 {{port}} < /dev/null > /dev/null 2>&1; do sleep 0.2; done
echo BEGIN alone; netdump doctor --json --config /root/client.toml --kernel none; echo END $?
"""


def told(console: str, name: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a command between its marks. Lines of the kernel may stand in between."""
    match = re.search(rf"BEGIN {name}\n(.*?)END ([0-9]+)", console, re.DOTALL)
    assert match, console[-4000:]
    lines = [line for line in match[1].splitlines() if not re.match(r"\[ *[0-9]+\.[0-9]+\]", line)]
    return int(match[2]), json.loads("\n".join(lines))


def await_line(guest: vm.Guest, text: str) -> None:
    """Until the guest says so, or ends."""
    until = time.monotonic() + vm.BOOT_TIMEOUT
    while text not in guest.console and guest.runs:
        assert time.monotonic() < until, guest.console[-4000:]
        time.sleep(POLL_PERIOD)


def states(report: dict[str, Any]) -> dict[str, str]:
    return {each["topic"]: each["state"] for each in report["findings"]}


def test_a_machine_without_reserved_memory(kernel: Kernel, root: bytes, tmp_path: Path) -> None:
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, BARE)])
    console = vm.boot(kernel, initrd, tmp_path / "console", memory=MEMORY, append="")
    status, report = told(console, "bare")
    assert (status, report["ready"]) == (96, False)
    found = states(report)
    assert (found["reserved memory"], found["bundle"], found["loaded"]) == ("problem", "problem", "problem")
    assert (found["kernel configuration"], found["kexec"]) == ("ok", "ok")
    remedies = {each["topic"]: each["remedy"] for each in report["findings"]}
    assert "crashkernel=128M" in remedies["reserved memory"]


def test_arm_drill_and_a_collector_that_goes(
    guest_collector: vm.GuestCollector, kernel: Kernel, root: bytes, tmp_path: Path
) -> None:
    collector = guest_collector
    script = ARMED.format(
        url=collector.guest_url, token=collector.token("host", "crashy"), port=collector.ingest.rpartition(":")[2]
    )
    initrd = vm.write_initrd(tmp_path / "initrd", [root, vm.script_archive(kernel, script)])
    command = vm.qemu(kernel, initrd, tmp_path / "console", memory=MEMORY, append="crashkernel=112M")
    with vm.Guest(command, tmp_path / "console") as guest:
        await_line(guest, "DRILLED")
        dumps = collector.dumps()
        analyst = collector.enroll("analyst", "ann")
        log = netdump("log", dumps[0]["id"], NETDUMP_CONFIG=str(analyst)).stdout if dumps else ""
        collector.stop()
        console = guest.wait()
    status, report = told(console, "armed")
    assert (status, report["counts"]["problem"], report["counts"]["unknown"]) == (0, 0, 0), report
    assert set(states(report).values()) == {"ok"}, report

    status, report = told(console, "drill")
    assert status == 0, console[-4000:]
    (dump,) = dumps
    assert (dump["id"], dump["state"], dump["drill"]) == (report["drill"]["id"], "complete", True)
    assert (dump["kernel_release"], dump["nodename"], dump["panic"]) == (vm.RELEASE, "crashy", None)
    assert NONCE in log

    status, report = told(console, "alone")
    found = states(report)
    assert status == 96
    assert [state for topic, state in found.items() if topic.startswith("collector ")] == ["problem"]
    assert found["clock"] == "unknown"
