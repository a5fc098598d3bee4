from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.testing.kernel_writer import FINALIZED, REUSABLE, DeadKernel, Message

if TYPE_CHECKING:
    from netdump.testing.elf_writer import ByteOrder


def word_at(kernel: DeadKernel, address: int, size: int | None = None) -> int:
    at = address - kernel.vaddr
    return int.from_bytes(kernel.memory[at : at + (size or kernel.word)], kernel.byteorder)


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_memory_is_where_vmcoreinfo_says(word: int, byteorder: ByteOrder) -> None:
    kernel = DeadKernel(word, byteorder, vaddr=0xC1000000)
    kernel.add_uts(nodename="web1")
    address = int(kernel.lines["SYMBOL(init_uts_ns)"], 16) + int(kernel.lines["OFFSET(uts_namespace.name)"])
    at = address - kernel.vaddr
    fields = [bytes(kernel.memory[at + 65 * n : at + 65 * n + 65]).rstrip(b"\0") for n in range(6)]
    assert fields == [b"Linux", b"web1", b"6.1.0-test", b"#1 SMP", b"x86_64", b"(none)"]
    load = kernel.load()
    assert load.vaddr == 0xC1000000
    assert load.size % 4096 == 0
    assert kernel.vmcoreinfo().decode().splitlines()[0] == "OSRELEASE=6.1.0-test"
    assert kernel.vmcoreinfo() in kernel.note()


def ring_of(kernel: DeadKernel) -> dict[str, int]:
    """The numbers of the printk_ringbuffer, read by its layout."""
    ring = word_at(kernel, int(kernel.lines["SYMBOL(prb)"], 16))
    word = kernel.word
    names = ["count_bits", "descs", "infos", "head_id", "tail_id", "", "size_bits", "data", "head_lpos", "tail_lpos"]
    numbers = {name: word_at(kernel, ring + word * place) for place, name in enumerate(names) if name}
    for name, place in (("count_bits", 0), ("size_bits", 6)):
        numbers[name] = word_at(kernel, ring + word * place, 4)
    return numbers


@pytest.mark.parametrize("word", [4, 8])
def test_an_empty_ring_starts_as_the_kernels(word: int) -> None:
    """Linux kernel/printk/printk_ringbuffer.h: DESC0_ID, BLK0_LPOS."""
    kernel = DeadKernel(word)
    kernel.add_printk_ring([], count_bits=4, size_bits=8)
    ring = ring_of(kernel)
    assert ring["head_id"] == ring["tail_id"] == -17 % (1 << 8 * word - 2)
    assert ring["head_lpos"] == ring["tail_lpos"] == -256 % (1 << 8 * word)


def test_old_messages_give_way() -> None:
    kernel = DeadKernel()
    kernel.add_printk_ring([Message(number, b"x" * 24) for number in range(100)], count_bits=4, size_bits=8)
    ring = ring_of(kernel)
    mask = (1 << 62) - 1
    assert (ring["head_id"] - ring["tail_id"]) & mask == 7, "eight blocks of 32 bytes"
    assert ring["head_lpos"] - ring["tail_lpos"] == 256
    states = [word_at(kernel, ring["descs"] + 24 * slot) >> 62 for slot in range(16)]
    assert states.count(FINALIZED) == 8
    assert states.count(REUSABLE) == 8


@pytest.mark.parametrize(("perfect_fit", "index"), [(True, 192), (False, 0)])
def test_a_block_that_fits_exactly(perfect_fit: bool, index: int) -> None:
    kernel = DeadKernel()
    kernel.add_printk_ring([Message(0, b"a" * 56)] * 3 + [Message(0, b"b" * 56)], 4, 8, perfect_fit)
    text = ring_of(kernel)["data"] - kernel.vaddr
    assert kernel.memory[text : text + 256].index(b"b") == index + 8


def test_records_follow_one_another() -> None:
    kernel = DeadKernel()
    kernel.add_printk_records([Message(5, b"abc"), Message(6, b"defgh")], buffer_bytes=256)
    numbers = {name: int(kernel.lines[f"SYMBOL({name})"], 16) for name in ("log_buf", "log_first_idx", "log_next_idx")}
    buffer = word_at(kernel, numbers["log_buf"])
    assert word_at(kernel, numbers["log_first_idx"], 4) == 0
    assert word_at(kernel, numbers["log_next_idx"], 4) == 20 + 24
    assert word_at(kernel, buffer + 8, 2) == 20
    assert word_at(kernel, buffer + 20 + 10, 2) == 5


def test_old_records_give_way() -> None:
    kernel = DeadKernel()
    kernel.add_printk_records([Message(number, b"x" * 16) for number in range(100)], buffer_bytes=256)
    first, after = (word_at(kernel, int(kernel.lines[f"SYMBOL(log_{name}_idx)"], 16), 4) for name in ("first", "next"))
    assert first != after
    assert first % 32 == after % 32 == 0


def test_bytes_in_the_kernels_order() -> None:
    assert DeadKernel(4, "big").uint(-2) == b"\xff\xff\xff\xfe"
    assert DeadKernel(8, "little").uint(1, 2) == b"\x01\x00"
