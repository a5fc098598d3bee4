"""A few faults with every run, more at every landing (`index-faults`); and an index that swallows them is found out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import IndexFaultError
from netdump.index.place import NAME
from netdump.testing.elf_writer import Core, Load, counter_pages
from tests.campaign.frame import Tally
from tests.crashes import index_faults
from tests.crashes.index_faults import Fault
from tests.e2e.rig import Collector, netdump, start, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(index_faults.missing() is not None, reason="strace is not installed")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("fdatasync", 20, "EIO", stays=False),  # of a journal or of the index, before a commit
        Fault("pwrite64", 200, "ENOSPC", stays=True),
        Fault("pread64", 20, "EIO", stays=False),
    ],
)
def test_a_fault(fault: Fault) -> None:
    tally = Tally()
    index_faults.look_at(fault, tally)
    assert tally.counts == {f"faults of {fault.call}": 1, "of them told": 1}


def test_an_index_that_cannot_take_back_a_failed_change_is_found_out() -> None:
    """What it leaves is by half, or makes no sense at all."""

    def is_found_out(number: int) -> bool:
        try:
            index_faults.look_at(Fault("pwrite64", number, "EIO", stays=True), Tally(), "journal_mode=OFF")
        except (AssertionError, IndexFaultError):
            return True
        return False

    assert any(map(is_found_out, range(60, 120, 12)))


@pytest.mark.e2e
@pytest.mark.parametrize(("error", "is_new"), [("EIO", False), ("ENOSPC", True)])
def test_a_collector_receives_while_nothing_can_be_written_to_its_index(
    tmp_path: Path, error: str, is_new: bool
) -> None:
    """From its start on; the next one, whose disk is in order, lists the dump as it is. is_new: it has to make one."""
    collector = Collector(tmp_path / "collector").start()
    bundle = collector.enroll("host", "web1", collector.ingest)
    collector.stop()
    if is_new:
        (collector.folder / NAME).unlink()
    core = tmp_path / "core"
    Core([Load(0x100000, 4096 * 200, {0: counter_pages(1, 200)})]).write(core)
    command = ["strace", "-D", "-f", "--seccomp-bpf", "-o", str(tmp_path / "calls")]
    for name in (NAME, f"{NAME}-journal"):
        command += ["-P", str(collector.folder / name)]
    for call in ("pwrite64", "fdatasync"):
        command += ["-e", Fault(call, 1, error, stays=True).option]
    ports = ["--ingest", collector.ingest, "--api", collector.api]
    command += [sys.executable, "-m", "netdump", "serve", str(collector.folder), *ports]
    with (tmp_path / "serve.log").open("w") as log:
        failing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert failing.stdout is not None
    failing.stdout.readline()
    try:
        assert netdump("send", core, "--config", bundle).returncode == 0
    finally:
        failing.terminate()
        assert failing.wait(60) == 0
        failing.stdout.close()
    said = (tmp_path / "serve.log").read_text()
    assert "index-failed" in said
    assert "index-rebuilt" not in said
    assert "index-mended" not in said
    with (tmp_path / "again.log").open("w") as log:
        again = start("serve", collector.folder, *ports, stdout=log, stderr=log)
    try:
        wait_until(lambda: any((collector.folder / "dumps").glob("*/vmcore")), "vmcore")
    finally:
        again.terminate()
        again.wait(60)
    listed = netdump("list", "--root", collector.folder).stdout
    assert [line.split()[1:3] for line in listed.splitlines()[1:]] == [["web1", "complete"]]
