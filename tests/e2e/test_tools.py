"""crash, drgn and gdb open what the collector put together."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netdump.errors import IncompleteDumpError
from netdump.vmcore.elf import parse_headers
from tests.e2e.rig import Collector, netdump

pytestmark = pytest.mark.e2e

RELEASE = "6.1.0-56-cloud-amd64"
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's drgn belongs to Debian's Python


@pytest.fixture
def fetched(collector: Collector, sample: Path, tmp_path: Path) -> Path:
    host = collector.enroll("host", "crashy")
    analyst = collector.enroll("analyst", "ann")
    netdump("send", sample, "--config", host)
    (dump,) = collector.dumps()
    target = tmp_path / "vmcore"
    netdump("fetch", dump["id"], "-o", target, NETDUMP_CONFIG=str(analyst))
    return target


@pytest.fixture(scope="session")
def symbols() -> Path:
    path = Path(os.environ.get("NETDUMP_VMLINUX", "/nonexistent"))
    if not path.exists():
        pytest.skip("no debug symbols of the sample's kernel (NETDUMP_VMLINUX)")
    return path


def tool(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is missing; ./run e2e installs it"
    return path


def drgn(core: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run these lines with the core as program."""
    script = "\n".join(("import drgn, sys", "program = drgn.Program()", "program.set_core_dump(sys.argv[1])", *lines))
    return subprocess.run([SYSTEM_PYTHON, "-c", script, core], capture_output=True, text=True, timeout=120)


WHICH = "print(program['UTS_RELEASE'].string_().decode(), program.platform.arch.name)"


def test_drgn_reads_the_kernel_release_out_of_memory(fetched: Path) -> None:
    done = drgn(fetched, WHICH)
    assert done.stdout.split() == [RELEASE, "X86_64"], done.stderr


def test_drgn_opens_what_has_come_of_a_dump(collector: Collector, sample: Path, tmp_path: Path) -> None:
    """What has not come is an error there, and never zeros."""
    (collector.folder / "config.toml").write_text("[store]\npublish_bytes = 1048576\n")
    collector.stop()
    collector.start()
    netdump("send", sample, "--config", collector.enroll("host", "crashy"))
    (dump,) = collector.dumps()
    collector.stop()
    folder = collector.folder / "dumps" / dump["id"]
    for end in (folder / "manifest.json", folder / "receipt.json", folder / "vmcore"):
        end.unlink(missing_ok=True)
    _, *later = sorted((folder / "segments").iterdir())
    for segment in later[len(later) // 2 :]:
        segment.unlink()
    netdump("reindex", collector.folder)
    done = netdump("fetch", dump["id"], "-o", tmp_path / "vmcore", "--root", collector.folder, check=False)
    assert done.returncode == IncompleteDumpError.exit_status, done.stderr
    came = tmp_path / "vmcore.incomplete"
    assert 0 < came.stat().st_size < sample.stat().st_size
    with came.open("rb") as some, sample.open("rb") as all_:
        assert all_.read(came.stat().st_size) == some.read()
    done = drgn(came, WHICH)
    assert done.stdout.split() == [RELEASE, "X86_64"], done.stderr
    done = drgn(came, f"program.read({last_address(sample)}, 8)")
    assert "FaultError: short read" in done.stderr


def last_address(core: Path) -> int:
    """The virtual address of the last stretch of memory that has content."""
    with core.open("rb") as file:
        headers = parse_headers(lambda offset, length: os.pread(file.fileno(), length, offset), core.stat().st_size)
    return max((each for each in headers.segments if each.filesz), key=lambda each: each.offset).vaddr


def test_gdb_sees_a_thread_per_cpu(fetched: Path) -> None:
    done = subprocess.run(
        [tool("gdb"), "-batch", "-nx", "-ex", "info threads", "-c", fetched],
        capture_output=True,
        text=True,
        timeout=120,
    )
    threads = [line for line in done.stdout.splitlines() if "process 1" in line or "LWP" in line or "Thread" in line]
    assert len(threads) >= 1, done.stdout + done.stderr
    assert "is truncated" not in done.stdout + done.stderr


def test_crash_shows_the_panicking_task(fetched: Path, symbols: Path) -> None:
    done = subprocess.run(
        [tool("crash"), "-s", symbols, fetched],
        input="sys\nbt\nps\nmod\nquit\n",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'PANIC: "Kernel panic - not syncing: sysrq triggered crash"' in done.stdout, done.stdout + done.stderr
    stack = [line.split()[2] for line in done.stdout.splitlines() if line.lstrip().startswith("#")]
    assert stack[:4] == ["machine_kexec", "__crash_kexec", "panic", "sysrq_handle_crash"]
    assert "entry_SYSCALL_64_after_hwframe" in stack
    assert "virtio_net" in done.stdout
