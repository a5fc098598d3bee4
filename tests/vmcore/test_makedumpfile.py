"""The log of made-up kernels, read by netdump and by the tool it must equal."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from netdump.testing.kernel_writer import DeadKernel, Message
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

TEXT = 0xFFFFFFFFBA600000  # where the sample's kernel image starts, in memory and in the file
TEXT_OFFSET = 0x1420
ROOM = 0x100000  # within it: overwritten with the made-up log

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("makedumpfile") is None, reason="no makedumpfile"),
]


@pytest.fixture
def victim(sample: Path, tmp_path: Path) -> Path:
    """A copy of the real core: makedumpfile wants page tables and much else of a kernel before it looks at a log."""
    return shutil.copyfile(sample, tmp_path / "core")


def implant(path: Path, sample: Path, kernel: DeadKernel, release: str) -> None:
    """Put a made-up log into the real kernel: its memory over the text, its keys over those of the real log."""
    with sample.open("rb") as file:
        head = file.read(TEXT_OFFSET)
    at = head.index(b"OSRELEASE=")
    text = head[at:].split(b"\0")[0]
    lines = kernel.lines | {"OSRELEASE": release}
    for line in text.decode().splitlines():
        key, _, value = line.partition("=")
        if not any(word in key for word in ("prb", "printk", "kallsyms", "BUILD", "latched")):
            lines.setdefault(key, value)
    packed = "".join(f"{key}={value}\n" for key, value in lines.items()).encode()
    assert len(packed) <= len(text)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(packed.ljust(len(text), b"\n"))
        file.seek(TEXT_OFFSET + ROOM)
        file.write(kernel.memory)


def ours(path: Path) -> bytes:
    source = open_source(str(path))
    log = read_facts(source, parse_headers(source.read, source.size)).log
    source.close()
    assert log is not None
    assert not log.truncated
    return log.text


def theirs(path: Path) -> bytes:
    target = path.with_suffix(".dmesg")
    subprocess.run(["makedumpfile", "-f", "--dump-dmesg", path, target], check=True, capture_output=True)
    return target.read_bytes()


def messages(generator: random.Random) -> list[Message]:
    return [
        Message(
            generator.randrange(10**13),
            bytes(generator.choices(b"abc \n\t\r\x01[]\\\x7f", k=generator.randrange(200))),
            state=generator.choice((0, 1, 2, 2, 2, 2, 3)),
        )
        for _ in range(generator.randrange(1, 200))
    ]


def test_rings(victim: Path, sample: Path) -> None:
    generator = random.Random(1)
    for _ in range(15):
        kernel = DeadKernel(vaddr=TEXT + ROOM)
        sizes = {"count_bits": generator.randrange(2, 8), "size_bits": generator.randrange(10, 14)}
        kernel.add_printk_ring(messages(generator), **sizes, perfect_fit=False)  # makedumpfile 1.7 gets those wrong
        implant(victim, sample, kernel, "6.1.0-56-cloud-amd64")
        assert ours(victim) == theirs(victim)


def test_records(victim: Path, sample: Path) -> None:
    generator = random.Random(2)
    for _ in range(15):
        kernel = DeadKernel(vaddr=TEXT + ROOM)
        kernel.add_printk_records(messages(generator), generator.choice((1024, 4096, 16384)))
        implant(victim, sample, kernel, "5.4.0-56-cloud-amd64")
        assert ours(victim) == theirs(victim)
