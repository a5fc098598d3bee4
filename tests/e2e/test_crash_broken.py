"""What is broken inside the capture kernel leads on to the failure action, and what it was stands on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.armed import CAPTURE_TIMEOUT, Armed, how_it_ended, panic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.e2e

PLAN = "etc/netdump/plan"
HOG = """\
#!/usr/bin/python3 -ISB
import os, signal
from netdump.image.init.kernelcalls import mount
from netdump.image.init.supervisor import System, supervise
mount("proc", "/proc", "proc")
held = System().free_kib() - (8 << 10)
if os.fork() == 0:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    memory = b"1" * (held << 10)
    signal.pause()
supervise()
"""
AFTER_A_WHILE = """\
#!/usr/bin/python3 -ISB
import os, time
from netdump.image.init import supervisor
class System(supervisor.System):
    def sleep(self, seconds):
        if self.sent_bytes() > 1 << 20:
            {what}
        super().sleep(seconds)
supervisor.System = System
supervisor.supervise()
"""


def crash(armed: Armed, folder: Path, files: Mapping[str, bytes]) -> str:
    """Panic with files in the image. Returns the console; the end must be a reset."""
    with armed.resume(folder / "console") as guest:
        armed.reload(guest, files)
        panic(guest)
        console = guest.wait(CAPTURE_TIMEOUT)
        assert how_it_ended(guest) == "guest-reset", console[-4000:]
        return console


def test_a_damaged_bundle_and_a_module_that_does_not_load(armed: Armed, tmp_path: Path) -> None:
    files = {
        "etc/netdump/client.toml": b'version = 1\n[tls]\nca = "',
        "lib/modules/broken.ko": b"no module",
        PLAN: armed.plan("broken"),
    }
    with armed.running(tmp_path) as collector:
        console = crash(armed, tmp_path, files)
    assert "netdump-init: module broken.ko does not load: Exec format error" in console
    assert f"{collector.guest_address} is reachable" in console  # the other modules were loaded
    assert "netdump: /etc/netdump/client.toml is not valid TOML" in console
    assert "netdump-init: trying again is of no use" in console
    assert "netdump-init: the dump is not delivered: reboot follows" in console


def test_memory_is_used_up(armed: Armed, tmp_path: Path) -> None:
    """By something that the kernel may not kill, so that it kills whatever the init starts."""
    console = crash(armed, tmp_path, {"init": HOG.encode(), PLAN: armed.plan(deadline=30.0)})
    assert "Out of memory: Killed process" in console
    ends = ("netdump-init: the dump is not delivered: reboot follows", "System is deadlocked on memory")
    assert any(end in console for end in ends), console[-4000:]  # the latter if not even the init finds a page


def test_the_init_dies_in_mid_dump(armed: Armed, tmp_path: Path) -> None:
    with armed.running(tmp_path) as collector:
        console = crash(armed, tmp_path, {"init": AFTER_A_WHILE.format(what="os._exit(3)").encode()})
    assert "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300" in console
    (dump,) = collector.dumps()
    assert dump["state"] != "complete"
    assert dump["panic"]  # what had arrived is of use
