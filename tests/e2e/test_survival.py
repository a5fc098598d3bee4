"""What analysts need survives the page filter: crash and drgn say of a dump at level 31 what they say of the whole."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.rig import Collector, netdump
from tests.e2e.test_tools import SYSTEM_PYTHON, symbols, tool

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["symbols"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CRASH = "sys\nforeach bt\nps\nps -S\nmod\nlog\nkmem -i\nkmem -z\nkmem -o\nnet\nmount\nrunq\nfiles 1\ntimer\nirq\nquit\n"
DRGN = """
import sys
import drgn
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.percpu import per_cpu

program = drgn.Program()
program.set_core_dump(sys.argv[1])
program.load_debug_info([sys.argv[2]])
first = program["init_task"]
for task in list_for_each_entry("struct task_struct", first.tasks.address_of_(), "tasks"):
    print(task.pid.value_(), task.comm.string_().decode())
    try:
        for frame in program.stack_trace(task):
            print("   ", frame.name, hex(frame.pc))
    except ValueError as error:
        print("   ", error)
for module in list_for_each_entry("struct module", program["modules"].address_of_(), "list"):
    print(module.name.string_().decode(), module.core_layout.size.value_())
for counter in program["vm_zone_stat"], program["vm_node_stat"]:
    print([value.counter.value_() for value in counter])
for cpu in range(2):
    print(per_cpu(program["kernel_cpustat"], cpu).cpustat)
"""


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory, whole_core: Path) -> dict[int, Path]:
    """The whole core, sent at levels 0 and 31 and fetched again."""
    folder = tmp_path_factory.mktemp("survival")
    collector = Collector(folder / "collector")
    collector.start()
    try:
        host = collector.enroll("host", "crashy")
        analyst = str(collector.enroll("analyst", "ann"))
        fetched = {}
        for level in (0, 31):
            netdump("send", whole_core, "-d", str(level), "--config", host)
            (dump,) = (dump for dump in collector.dumps() if dump["level"] == level)
            assert dump["remark"] is None
            fetched[level] = folder / f"vmcore{level}"
            netdump("fetch", dump["id"], "-o", fetched[level], NETDUMP_CONFIG=analyst)
    finally:
        collector.stop()
    assert fetched[31].stat().st_blocks * 1.3 < fetched[0].stat().st_blocks  # whose free pages are zero already
    return fetched


def test_crash(dumps: dict[int, Path], symbols: Path) -> None:
    whole, filtered = (
        subprocess.run(
            [tool("crash"), "-s", symbols, dumps[level]], input=CRASH, capture_output=True, text=True, timeout=600
        )
        for level in (0, 31)
    )
    assert filtered.stdout.replace("vmcore31", "vmcore0") == whole.stdout
    assert whole.stdout.count("PID: ") >= 3  # all that crash 8.0.2 finds in this core; drgn finds more
    for sign in (
        "entry_SYSCALL_64_after_hwframe",
        "TOTAL MEM",
        "virtio_net",
        "sysrq triggered crash",
        "NODE: 0  ZONE: 1",
    ):
        assert sign in whole.stdout, sign
    assert filtered.stderr == whole.stderr


def test_drgn(dumps: dict[int, Path], symbols: Path) -> None:
    whole, filtered = (
        subprocess.run([SYSTEM_PYTHON, "-c", DRGN, dumps[level], symbols], capture_output=True, text=True, timeout=600)
        for level in (0, 31)
    )
    assert whole.returncode == 0, whole.stderr
    assert filtered.stdout == whole.stdout
    assert "sysrq_handle_crash" in whole.stdout
    assert whole.stdout.count("schedule ") > 30
    assert "virtio_net" in whole.stdout
