from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import KernelDataError
from netdump.testing.kernel_writer import DeadKernel, Message
from tests.vmcore.test_printk import log_of
from tests.vmcore.test_printk_ring import lines

MESSAGES = [Message(number * 10**6, b"message %d" % number) for number in range(100)]


def records(messages: list[Message], word: int = 8, buffer_bytes: int = 4096, name: str = "printk_log") -> DeadKernel:
    kernel = DeadKernel(word)
    kernel.add_printk_records(messages, buffer_bytes, name)
    return kernel


def set_number(kernel: DeadKernel, symbol: str, value: int, size: int = 4) -> None:
    """Overwrite a variable of the kernel."""
    at = int(kernel.lines[f"SYMBOL({symbol})"], 16) - kernel.vaddr
    kernel.memory[at : at + size] = kernel.uint(value, size)


@pytest.mark.parametrize("word", [4, 8])
def test_wrapping_in_every_way(word: int) -> None:
    for length in range(70):
        messages = [Message(number, bytes([97 + number % 26]) * length) for number in range(90)]
        log = log_of(records(messages, word, buffer_bytes=1024))
        assert not log.truncated
        assert log.text
        assert lines(messages).endswith(log.text)


def test_empty_messages_are_lines_too() -> None:
    messages = [Message(0, b"a"), Message(1000, b""), Message(2000, b"b")]
    assert log_of(records(messages)).text == lines(messages)


def test_the_older_name_of_the_structure() -> None:
    assert log_of(records(MESSAGES[:5], name="log")).text == lines(MESSAGES[:5])


def test_an_empty_log() -> None:
    log = log_of(records([]))
    assert log.text == b""
    assert not log.truncated


def test_a_cycle_ends_at_the_damage() -> None:
    kernel = records(MESSAGES[:20])
    set_number(
        kernel, "log_next_idx", 4090
    )  # never met: the zeros behind the last record lead to the start, again and again
    log = log_of(kernel)
    assert log.truncated
    assert log.text.startswith(lines(MESSAGES[:20]))
    assert log.text.count(b"\n") <= 40


def test_a_record_of_no_length_is_no_trap() -> None:
    kernel = records(MESSAGES[:20])
    set_number(kernel, "log_first_idx", 4000)  # zeros: leads to the start
    assert log_of(kernel).text == lines(MESSAGES[:20])


def test_lost_pages_leave_what_stood_before() -> None:
    messages = [Message(number, b"message %04d" % number) for number in range(1000)]
    kernel = records(messages, buffer_bytes=1 << 16)
    start = kernel.memory.index(b"message 0500") // 4096 * 4096
    log = log_of(kernel, bad=[(start, start + 4096)])
    assert log.truncated
    assert log.text
    assert lines(messages).startswith(log.text)


def test_a_buffer_that_is_lost_is_an_error() -> None:
    kernel = records(MESSAGES)
    with pytest.raises(KernelDataError, match="not in the core"):
        log_of(kernel, bad=[(0, 1 << 20)])


@pytest.mark.parametrize(
    ("symbol", "value"),
    [
        ("log_buf_len", 0),
        ("log_buf_len", 15),
        ("log_buf_len", 0xFFFFFFFF),
        ("log_first_idx", 4097),
        ("log_next_idx", 5000),
    ],
)
def test_numbers_that_make_no_sense(symbol: str, value: int) -> None:
    kernel = records(MESSAGES)
    set_number(kernel, symbol, value)
    with pytest.raises(KernelDataError, match="claims"):
        log_of(kernel)


@pytest.mark.parametrize(
    ("key", "value"),
    [("SIZE(printk_log)", "15"), ("SIZE(printk_log)", "5000"), ("OFFSET(printk_log.len)", "15")],
)
def test_descriptions_that_make_no_sense(key: str, value: str) -> None:
    kernel = records(MESSAGES)
    kernel.lines[key] = value if key != "SIZE(printk_log)" or value != "15" else "11"
    with pytest.raises(KernelDataError, match="makes no sense"):
        log_of(kernel)


@pytest.mark.parametrize("key", ["SYMBOL(log_buf)", "SYMBOL(log_next_idx)", "OFFSET(printk_log.text_len)"])
def test_a_missing_key_is_named(key: str) -> None:
    kernel = records(MESSAGES)
    del kernel.lines[key]
    with pytest.raises(KernelDataError) as caught:
        log_of(kernel)
    assert key in str(caught.value)


def test_a_large_buffer_full_of_nothing_is_bounded() -> None:
    """Records of 16 bytes, each leading to the next, for 16 MiB: more than are ever looked at."""
    kernel = records([], buffer_bytes=16 << 20)
    one = kernel.uint(0, 8) + kernel.uint(16, 2) + bytes(6)
    kernel.memory[: 16 << 20] = one * (1 << 20)
    set_number(kernel, "log_next_idx", 8)
    began = time.process_time()
    log = log_of(kernel)
    assert time.process_time() - began < 20
    assert log.truncated
    assert len(log.text) <= 2 << 20


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_mutations_raise_what_is_declared(data: st.DataObject) -> None:
    kernel = records(MESSAGES, word=data.draw(st.sampled_from([4, 8])), buffer_bytes=1024)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(kernel.memory) - 4))
        value = data.draw(st.sampled_from([0, 1, 16, 0xFFFFFFFF]) | st.integers(0, (1 << 32) - 1))
        kernel.memory[at : at + 4] = value.to_bytes(4, "little")
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(kernel.lines)))
        kernel.lines[key] = str(data.draw(st.integers(0, 64) | st.integers(0, (1 << 64) - 1)))
    began = time.process_time()
    try:
        log = log_of(kernel)
    except KernelDataError:
        pass
    else:
        assert log.text.isascii()
    assert time.process_time() - began < 10
