"""The other formats, read by the tools they are made for."""

from __future__ import annotations

import filecmp
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass, PageState, Run
from netdump.store.intake import verify_chunk
from netdump.store.origin import Origin
from netdump.store.store import Store
from netdump.testing.sample_dump import received_chunk
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import iter_chunks
from netdump.wire import HeadlineDocument, chain_link, chain_start, pack_document, root_digest
from tests.e2e.rig import Collector, netdump
from tests.e2e.test_tools import SYSTEM_PYTHON, symbols, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e
__all__ = ["symbols"]  # the fixture

COMMANDS = "sys\nbt\nps\nmod\nlog\nbt -a\nforeach bt\nquit\n"
PAGE = 4096
EXCLUDED = range(0xFE00, 0xFE10)  # of the sample's frames: user memory of no importance to crash
LOST = range(0xFE20, 0xFE24)
READ = """
import drgn, sys
program = drgn.Program()
program.set_core_dump(sys.argv[1])
print(program["UTS_RELEASE"].string_().decode())
for frame in map(int, sys.argv[2:]):
    try:
        print(frame, program.read(frame * 4096, 4096, physical=True).hex())
    except drgn.FaultError as error:
        print(frame, "none")
"""


@pytest.fixture
def sent(collector: Collector, sample: Path) -> tuple[Collector, Path, str]:
    """A collector with the sample, sent to it over the network; an analyst's bundle; the dump's id."""
    netdump("send", sample, "--config", collector.enroll("host", "crashy"))
    (dump,) = collector.dumps()
    return collector, collector.enroll("analyst", "ann"), dump["id"]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def crash(vmlinux: Path, core: Path) -> list[str]:
    command = [tool("crash"), "-s", str(vmlinux), core.name]
    done = subprocess.run(command, input=COMMANDS, cwd=core.parent, capture_output=True, text=True, timeout=300)
    return [line for line in (done.stdout + done.stderr).splitlines() if "DUMPFILE" not in line]


def drgn(core: Path, *frames: int) -> list[str]:
    return run(SYSTEM_PYTHON, "-c", READ, core, *map(str, frames)).splitlines()


def dmesg(core: Path, target: Path) -> bytes:
    run(tool("makedumpfile"), "--dump-dmesg", core, target)
    return target.read_bytes()


@pytest.mark.parametrize("compression", ["zlib", "zstd", "none"])
def test_kdump_shows_what_the_elf_core_shows(
    sent: tuple[Collector, Path, str], sample: Path, tmp_path: Path, symbols: Path, compression: str
) -> None:
    _, analyst, dump_id = sent
    core = tmp_path / "core.kdump"
    options = ("--format", "kdump", "--compression", compression)
    netdump("fetch", dump_id, "-o", core, *options, NETDUMP_CONFIG=str(analyst))
    shown = crash(symbols, core)
    assert shown == crash(symbols, sample)
    assert any("sysrq_handle_crash" in line for line in shown)
    assert any("virtio_net" in line for line in shown)
    frames = (0x10, 0x1000, 0x1100, 0x1200, 0xA000)
    assert drgn(core, *frames)[0] == "6.1.0-56-cloud-amd64"
    kept = frames[:4]
    assert drgn(core, *kept) == drgn(sample, *kept)
    if compression == "zstd":
        return  # Debian builds makedumpfile without it
    assert dmesg(core, tmp_path / "one") == dmesg(sample, tmp_path / "two")
    # makedumpfile filters it again, and crash reads the result.
    again = tmp_path / "again.kdump"
    run(tool("makedumpfile"), "-d", "31", "-c", core, again)
    assert crash(symbols, again) == shown


def test_zst_is_the_core(sent: tuple[Collector, Path, str], sample: Path, tmp_path: Path) -> None:
    _, analyst, dump_id = sent
    packed = tmp_path / "core.zst"
    netdump("fetch", dump_id, "-o", packed, "--format", "zst", NETDUMP_CONFIG=str(analyst))
    run(tool("zstd"), "-q", "-d", packed)
    assert filecmp.cmp(tmp_path / "core", sample, shallow=False)


def test_pages_are_the_same_from_near_and_afar(sent: tuple[Collector, Path, str]) -> None:
    collector, analyst, dump_id = sent
    for options in (("--json",), ("--list", "data"), ("--list", "absent", "--json")):
        near = netdump("pages", dump_id, *options, "--root", collector.folder).stdout
        assert netdump("pages", dump_id, *options, NETDUMP_CONFIG=str(analyst)).stdout == near


@pytest.fixture
def filtered(collector: Collector, whole_core: Path) -> str:
    """The whole core in the store, with some frames excluded and some lost."""
    source = FileSource(str(whole_core))
    headers = parse_headers(source.read, source.size)
    image_map = ImageMap(headers)

    def classify(paddr: int, pages: int) -> Iterator[tuple[ExcludeClass, int]]:
        for frame in range(paddr // PAGE, paddr // PAGE + pages):
            named = {**dict.fromkeys(EXCLUDED, ExcludeClass.USER), **dict.fromkeys(LOST, ExcludeClass.CACHE)}
            yield named.get(frame, ExcludeClass.NONE), 1

    dump_id = "ab" * 16
    origin = Origin(dump_id, "web1", "ab" * 32, source.size, PAGE, 31, False, "test/1", 1_795_377_839)
    chain, count = chain_start(bytes.fromhex(dump_id), source.size), 0
    with Store(collector.folder / "dumps").open_writer(origin) as writer:
        writer.put_headline(pack_document(HeadlineDocument(ehdr=headers.ehdr, phdrs=headers.phdrs)))
        for planned in iter_chunks(source, image_map, PAGE, classify=classify):
            lost = Run(PageState.LOST, 0)
            runs = [lost._replace(length=r.length) if r.exclude is ExcludeClass.CACHE else r for r in planned.runs]
            chunk = received_chunk(planned.offset, runs, bytes(planned.data))
            writer.append(chunk, len(verify_chunk(chunk)))
            chain, count = chain_link(chain, chunk.digest), count + 1
        writer.publish()
        writer.finish(root_digest(chain, source.size, count))
    source.close()
    return dump_id


def test_excluded_and_lost_pages_are_not_taken_for_zeros(
    collector: Collector, filtered: str, whole_core: Path, tmp_path: Path, symbols: Path
) -> None:
    near = ("--root", collector.folder)
    assert netdump("pages", filtered, "--list", "user", *near).stdout == "fe00-fe0f\n"
    assert netdump("pages", filtered, "--list", "lost", *near).stdout == "fe20-fe23\n"
    core = tmp_path / "core.kdump"
    netdump("fetch", filtered, "-o", core, "--format", "kdump", *near)
    around = (EXCLUDED.start - 1, EXCLUDED.stop, LOST.start - 1, LOST.stop)
    assert drgn(core, *around) == drgn(whole_core, *around)
    assert drgn(core, *EXCLUDED, *LOST)[1:] == [f"{frame} none" for frame in (*EXCLUDED, *LOST)]
    shown = crash(symbols, core)
    wanted = crash(symbols, whole_core)
    assert [line for line in wanted if line not in shown] == []
    run(tool("makedumpfile"), "-d", "31", "-c", core, tmp_path / "again.kdump")
    assert os.path.getsize(tmp_path / "again.kdump") > 1 << 20
