from __future__ import annotations

import os
import pty
import select
import threading
import tty
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.client.progress import (
    KMSG_BURST,
    KMSG_INTERVAL,
    KMSG_LINE_MAX,
    LINE_MAX,
    MIB,
    Console,
    KernelLog,
    Meter,
    duration,
    mebibytes,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def text(self) -> str:
        os.set_blocking(self.read_end, False)
        try:
            return os.read(self.read_end, 1 << 20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    os.close(one.read_end)
    os.close(one.write_end)


def test_figures() -> None:
    assert mebibytes(1.5 * MIB) == "1.5 MiB"
    assert [duration(seconds) for seconds in (-1, 0.4, 59.6, 3599, 3600, 90061)] == [
        "0:00",
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
        "25:01:01",
    ]


def test_nothing_of_a_peer_reaches_a_terminal_raw() -> None:
    assert printable("a\x1b[2J\r\n\u202eb\udc80é") == "a\\x1b[2J\\r\\n\\u202eb\\udc80é"
    assert len(printable("\0" * 10_000)) == LINE_MAX


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_printable_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_plain_lines_at_their_interval(pipe: Pipe) -> None:
    clock = Clock()
    console = Console(pipe.write_end, interval=5, clock=clock)
    for _ in range(11):
        console.progress(lambda: f"at {clock.now:.0f}")
        clock.now += 1
    assert pipe.text() == "netdump: at 100\nnetdump: at 105\nnetdump: at 110\n"


def test_settings_that_come_later(pipe: Pipe) -> None:
    clock = Clock()
    console = Console(pipe.write_end, clock=clock)
    console.configure(7, None)
    for _ in range(8):
        console.progress(lambda: f"at {clock.now:.0f}")
        clock.now += 1
    assert pipe.text() == "netdump: at 107\n"


def test_text_is_made_only_when_it_is_due(pipe: Pipe) -> None:
    console = Console(pipe.write_end, clock=Clock())
    console.progress(lambda: "first")

    def never() -> str:
        raise AssertionError

    console.progress(never)


@pytest.mark.parametrize(("verbosity", "shown"), [(-1, "wp"), (0, "nswp"), (1, "dnswp")])
def test_verbosity(pipe: Pipe, verbosity: int, shown: str) -> None:
    console = Console(pipe.write_end, verbosity=verbosity, clock=Clock())
    console.detail("d")
    console.progress(lambda: "n")
    console.say("s")
    console.warn("w")
    console.warn("p")
    assert pipe.text() == "".join(f"netdump: {letter}\n" for letter in shown)


def test_a_terminal_gets_one_line_that_is_rewritten() -> None:
    master, slave = pty.openpty()
    try:
        clock = Clock()
        console = Console(slave, clock=clock)
        console.progress(lambda: "long line")
        clock.now += 1
        console.progress(lambda: "short")
        console.say("done")
        expected = "\rnetdump: long line\rnetdump: short    \r" + 14 * " " + "\rnetdump: done\r\n"
        got = b""
        while len(got) < len(expected):
            got += os.read(master, 4096)
        assert got.decode() == expected
        assert not os.get_terminal_size(slave).columns
    finally:
        os.close(master)
        os.close(slave)


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except BlockingIOError:
        os.set_blocking(descriptor, True)


def test_a_console_that_takes_nothing_costs_lines_not_time(pipe: Pipe) -> None:
    fill(pipe.write_end)
    clock = Clock()
    console = Console(pipe.write_end, clock=clock)
    for _ in range(100):
        console.progress(lambda: "x" * 100)  # would block for ever
        clock.now += 10


def write_in_time(console: Console, text: str) -> None:
    """Say something in a thread, so that a write which waits for ever does not stop the tests."""
    thread = threading.Thread(target=console.say, args=(text,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_terminal_with_less_room_than_a_line_costs_the_line_not_time() -> None:
    """It polls as writable, but a blocking write of the line would wait for the reader."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    fill(slave)
    poller = select.poll()
    poller.register(slave, select.POLLOUT)
    while not poller.poll(10):
        os.read(master, 50)
    console = Console(slave)
    write_in_time(console, "\U0001f600" * LINE_MAX)  # 4,000 bytes; the kernel has room for about 3,500
    assert os.get_blocking(slave), "whoever shares the terminal is not disturbed"
    console.close()
    os.close(slave)
    os.close(master)


def test_a_file_is_written_on_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"before\n")
    console = Console(descriptor)
    console.say("a")
    os.write(descriptor, b"between\n")
    console.say("b")
    console.close()
    os.close(descriptor)
    assert path.read_text() == "before\nnetdump: a\nbetween\nnetdump: b\n"


def test_closing_leaves_the_descriptor_to_its_owner(pipe: Pipe) -> None:
    before = os.listdir("/proc/self/fd")
    console = Console(pipe.write_end)
    console.say("x")
    console.close()
    console.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    os.write(pipe.write_end, b"y")
    assert pipe.text() == "netdump: x\ny"


def test_a_console_that_is_gone_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    console = Console(write_end)
    console.say("x")
    console.progress(lambda: "x")
    os.close(write_end)


def test_kernel_log_gets_what_matters(pipe: Pipe, tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    console = Console(pipe.write_end, kmsg=str(log), verbosity=-1)
    console.say("begun\n")
    console.warn("w" * 5000)
    console.progress(lambda: "not this")
    console.detail("nor this")
    console.close()
    assert log.read_text().startswith("<5>netdump: begun\\n<4>netdump: www")
    assert len(log.read_bytes()) < 2 * KMSG_LINE_MAX


def test_kernel_log_is_rate_limited_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.touch()
    clock = Clock()
    log = KernelLog(str(path), clock)
    for number in range(KMSG_BURST + 5):
        log.write(5, f"line {number}")
    assert path.read_text().count("line") == KMSG_BURST
    clock.now += KMSG_INTERVAL
    log.write(5, "later")
    assert path.read_text().endswith("<5>netdump: later (5 lines before this were dropped)")
    log.close()


@pytest.mark.parametrize("path", ["/nonexistent/kmsg", "/dev/full"])
def test_no_kernel_log_is_no_error(path: str) -> None:
    log = KernelLog(path, Clock())
    log.write(5, "x")
    log.write(5, "x")
    log.close()


def test_rate_and_estimate() -> None:
    meter = Meter(100 * MIB)
    assert meter.describe(0.0) == "0.0 MiB of 100.0 MiB (0.0 %), 0.0 MiB/s, ETA -:--"
    meter.restart(20 * MIB, 0.0)
    for second in range(1, 11):
        meter.update((20 + 2 * second) * MIB, float(second))
    assert meter.describe(10.0) == "40.0 MiB of 100.0 MiB (40.0 %), 2.0 MiB/s, ETA 0:30"


def test_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter(10_000)
    meter.restart(0, 0.0)
    for second in range(1, 101):
        meter.update(second if second <= 50 else 50 + 10 * (second - 50), float(second))
    assert 9.9 < meter.rate(100.0) < 10.1
    assert meter.rate(200.0) < 10.1  # stalled: falls
