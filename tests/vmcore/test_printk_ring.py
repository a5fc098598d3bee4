from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import KernelDataError
from netdump.testing.kernel_writer import COMMITTED, REUSABLE, DeadKernel, Message
from netdump.vmcore.printk import format_record
from netdump.vmcore.printk_ring import Record
from tests.vmcore.test_printk import log_of


def ring(messages: list[Message], word: int = 8, **sizes: int) -> DeadKernel:
    kernel = DeadKernel(word)
    kernel.add_printk_ring(messages, **sizes)  # type: ignore[arg-type]
    return kernel


def lines(messages: list[Message]) -> bytes:
    return b"".join(format_record(Record(message.ts_nsec, message.text)) for message in messages)


def test_only_committed_records_count() -> None:
    messages = [
        Message(1, b"finalized"),
        Message(2, b"reserved: being written", state=0),
        Message(3, b"committed", state=COMMITTED),
        Message(4, b"reusable", state=REUSABLE),
        Message(5, b"no room for its text", lost=True),
        Message(6, b""),
    ]
    log = log_of(ring(messages))
    assert log.text == lines([messages[0], messages[2]])
    assert not log.truncated


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("perfect_fit", [False, True])
def test_wrapping_in_every_way(word: int, perfect_fit: bool) -> None:
    """Rings turn around many times; blocks of every size meet the end of the ring, exactly too."""
    for length in range(1, 70):
        messages = [Message(number, bytes([97 + number % 26]) * length) for number in range(80)]
        kernel = DeadKernel(word)
        kernel.add_printk_ring(messages, count_bits=5, size_bits=9, perfect_fit=perfect_fit)
        log = log_of(kernel)
        assert not log.truncated
        assert log.text
        assert lines(messages).endswith(log.text)
        if perfect_fit and 512 % (word + length + -length % word) == 0:
            assert len(log.text) == min(32, 512 // (word + length + -length % word)) * (16 + length)


def test_a_block_that_ends_where_the_ring_ends() -> None:
    """Linux commit 67e1b0052f6b: indexes alone say that it lies at the start, where another record's text is."""
    messages = [Message(number, b"%03d" % number * 8) for number in range(20)]  # blocks of 32 bytes, 8 to the ring
    assert log_of(ring(messages, size_bits=8)).text == lines(messages[-8:])


def test_lost_pages_cost_their_records_only() -> None:
    messages = [Message(number, b"message %04d" % number) for number in range(1000)]
    kernel = ring(messages, count_bits=10, size_bits=15)
    start = kernel.memory.index(b"message 0500") // 4096 * 4096
    log = log_of(kernel, bad=[(start, start + 4096)])
    assert log.truncated
    kept = log.text.splitlines(keepends=True)
    assert 800 < len(kept) < 1000
    assert kept[0] == lines(messages[:1])
    assert kept[-1] == lines(messages[-1:])
    assert set(kept) < set(lines(messages).splitlines(keepends=True))


def test_lost_descriptors_cost_their_records_only() -> None:
    messages = [Message(number, b"message %04d" % number) for number in range(1000)]
    kernel = ring(messages, count_bits=10, size_bits=15)
    log = log_of(kernel, bad=[(4096, 8192)])
    assert log.truncated
    assert 800 < log.text.count(b"\n") < 1000


def test_a_ring_that_is_lost_is_an_error() -> None:
    with pytest.raises(KernelDataError, match="not in the core"):
        log_of(ring([Message(0, b"x")]), bad=[(0, 1 << 20)])


@pytest.mark.parametrize("key", ["SIZE(prb_desc)", "OFFSET(prb_desc.state_var)", "OFFSET(atomic_long_t.counter)"])
def test_a_missing_key_is_named(key: str) -> None:
    kernel = ring([Message(0, b"x")])
    del kernel.lines[key]
    with pytest.raises(KernelDataError) as caught:
        log_of(kernel)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SIZE(prb_desc)", "0"),
        ("SIZE(prb_desc)", "99999"),
        ("SIZE(printk_info)", "17"),
        ("OFFSET(prb_desc.text_blk_lpos)", "17"),
        ("OFFSET(printk_info.ts_nsec)", "18446744073709551615"),
    ],
)
def test_descriptions_that_make_no_sense(key: str, value: str) -> None:
    kernel = ring([Message(0, b"x")])
    kernel.lines[key] = value
    with pytest.raises(KernelDataError):
        log_of(kernel)


def set_ring(kernel: DeadKernel, word: int, value: int) -> None:
    """Overwrite a word of the printk_ringbuffer, which was put last but one."""
    at = kernel.memory.index(kernel.uint(int(kernel.lines["SYMBOL(prb)"], 16) - 128)) - 128
    kernel.memory[at + 8 * word : at + 8 * word + 8] = kernel.uint(value)


@pytest.mark.parametrize(("word", "bits"), [(0, 0), (0, 27), (0, 1 << 31), (6, 0), (6, 32), (6, 1 << 31)])
def test_sizes_that_make_no_sense(word: int, bits: int) -> None:
    kernel = ring([Message(0, b"x")])
    set_ring(kernel, word, bits)
    with pytest.raises(KernelDataError, match="claims a size"):
        log_of(kernel)


def test_ids_that_lie_are_bounded() -> None:
    """Head and tail 2^60 apart, and a ring that claims 2^26 descriptors: the newest are found, and soon."""
    messages = [Message(number, b"%d" % number) for number in range(50)]
    kernel = ring(messages)
    set_ring(kernel, 4, 12345)
    log = log_of(kernel)
    assert log.truncated
    assert log.text == lines(messages)
    set_ring(kernel, 0, 26)
    began = time.process_time()
    log_of(kernel)
    assert time.process_time() - began < 10


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_mutations_raise_what_is_declared(data: st.DataObject) -> None:
    messages = [Message(number * 10**9, b"message %d" % number) for number in range(30)]
    kernel = ring(messages, word=data.draw(st.sampled_from([4, 8])), count_bits=4, size_bits=8)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(kernel.memory) - 4))
        value = data.draw(st.sampled_from([0, 1, 3, 0xFFFFFFFF]) | st.integers(0, (1 << 32) - 1))
        kernel.memory[at : at + 4] = value.to_bytes(4, "little")
    key = data.draw(st.sampled_from(sorted(kernel.lines)))
    if data.draw(st.booleans()):
        kernel.lines[key] = str(data.draw(st.integers(0, 64) | st.integers(0, (1 << 64) - 1)))
    began = time.process_time()
    try:
        log = log_of(kernel)
    except KernelDataError:
        pass
    else:
        assert log.text.isascii()
    assert time.process_time() - began < 10
