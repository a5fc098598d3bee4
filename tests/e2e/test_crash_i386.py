"""The same on a 32-bit machine: ELF32 headers, a processor without PAE, and a hardware watchdog."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.armed import CAPTURE_TIMEOUT, NODE, NONCE, Armed, how_it_ended, panic
from tests.e2e.rig import netdump
from tests.e2e.test_crash_broken import AFTER_A_WHILE, PLAN
from tests.e2e.test_tools import SYSTEM_PYTHON, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e import vm

pytestmark = pytest.mark.e2e

WATCHDOG_SECONDS = 10
BY_DRGN = """\
import drgn, sys
program = drgn.Program()
program.set_core_dump(sys.argv[1])
print(program["UTS_RELEASE"].string_().decode(), program.platform.arch.name, program.platform.flags.value & 1)
"""


@pytest.fixture
def first(armed_i386: Armed, tmp_path: Path) -> Iterator[vm.GuestCollector]:
    with armed_i386.running(tmp_path) as collector:
        yield collector


def fetch(collector: vm.GuestCollector, dump: dict[str, Any], target: Path) -> Path:
    netdump("fetch", dump["id"], "-o", target, "--root", collector.folder)
    return target


def test_a_32_bit_machine(armed_i386: Armed, first: vm.GuestCollector, tmp_path: Path) -> None:
    """All its pages, sent by the client in that kernel, with the watchdog shorter than it takes."""
    with armed_i386.resume(tmp_path / "console") as guest:
        armed_i386.reload(guest, {PLAN: plan(armed_i386)}, "netdump.level=0")
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-shutdown", console[-4000:]
    (dump,) = first.dumps()
    facts = (dump["state"], dump["host"], dump["kernel_release"], dump["machine"], dump["totals"]["lost"])
    assert facts == ("complete", NODE, armed_i386.kernel.release, "i686", 0), console[-4000:]
    opened, ended = times(console, r"netdump-init: /dev/watchdog0 resets .* about 10 s", r"netdump-init: poweroff")
    assert ended - opened > WATCHDOG_SECONDS  # it was fed

    core = fetch(first, dump, tmp_path / "vmcore")
    assert core.read_bytes()[:5] == b"\x7fELF\x01"
    log = netdump("log", dump["id"], "--root", first.folder).stdout
    printed = [line for line in armed_i386.console.splitlines() if re.match(r"\[ +[0-9.]+\] ", line)]
    assert len(printed) > 200
    assert set(printed) <= set(log.splitlines())
    assert NONCE in log
    read = subprocess.run([SYSTEM_PYTHON, "-c", BY_DRGN, core], capture_output=True, text=True, timeout=120)
    assert read.stdout.split()[:2] == [armed_i386.kernel.release, "I386"], read.stderr
    registers = subprocess.run(
        [tool("gdb"), "-batch", "-nx", "-ex", "info registers eip esp", "--core", core],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert re.search(r"eip +0x[c-f][0-9a-f]{7}", registers.stdout), registers.stdout + registers.stderr

    # The same core again, without what can be left out: fewer pages, and not another one of those that there are.
    host = first.enroll("host", NODE)
    netdump("send", "-d", "31", core, "--config", host)
    filtered = next(each for each in first.dumps() if each["level"] == 31)
    assert filtered["state"] == "complete"
    left_out = dump["totals"]["data"] - filtered["totals"]["data"]
    assert left_out > dump["totals"]["data"] // 4
    assert differing_bytes(core, fetch(first, filtered, tmp_path / "vmcore31")) == left_out
    assert netdump("log", filtered["id"], "--root", first.folder).stdout == log


def test_an_init_that_hangs_is_reset_by_the_hardware(
    armed_i386: Armed, first: vm.GuestCollector, tmp_path: Path
) -> None:
    hanging = AFTER_A_WHILE.format(what="time.sleep(3600)").encode()
    with armed_i386.resume(tmp_path / "console") as guest:
        armed_i386.reload(guest, {PLAN: plan(armed_i386), "init": hanging})
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        events = [(event["event"], event.get("data", {}).get("action")) for event in guest.monitor.events]
        assert how_it_ended(guest) == "guest-reset", console[-4000:]
    assert ("WATCHDOG", "reset") in events
    assert "netdump-init: poweroff" not in console


def plan(armed: Armed) -> bytes:
    return armed.plan("watchdog", "i6300esb", watchdog=WATCHDOG_SECONDS)


def times(console: str, *patterns: str) -> list[float]:
    """When the capture kernel said that, in seconds of its own clock."""
    captured = console[console.rindex("Linux version") :]
    found = [re.search(rf"\[ *([0-9.]+)\] {pattern}", captured) for pattern in patterns]
    assert all(found), captured[-4000:]
    return [float(match[1]) for match in found if match]


def differing_bytes(whole: Path, filtered: Path) -> int:
    """How much of a core is zero in the filtered one. What is not must be the same."""
    old, new, size = whole.read_bytes(), filtered.read_bytes(), 4096
    assert len(old) == len(new)
    differing = [at for at in range(0, len(old), size) if old[at : at + size] != new[at : at + size]]
    assert not any(any(new[at : at + size]) for at in differing)
    return len(differing) * size
