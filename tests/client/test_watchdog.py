from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from netdump.client.watchdog import Watchdog
from netdump.errors import DeadlineError


def test_barks_after_its_delay() -> None:
    barked = threading.Event()
    Watchdog(barked.set).arm(0.01)
    assert barked.wait(10)


def test_called_off_it_is_silent() -> None:
    barked = threading.Event()
    watchdog = Watchdog(barked.set)
    watchdog.call_off()
    watchdog.arm(60)
    watchdog.call_off()
    watchdog.call_off()
    assert not barked.is_set()


def test_the_last_time_that_was_said_counts() -> None:
    barked = threading.Event()
    watchdog = Watchdog(barked.set)
    watchdog.arm(60)
    watchdog.arm(0.01)
    assert barked.wait(10)
    watchdog.call_off()


def test_a_signal_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    watchdog = Watchdog(lambda: None)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watchdog.arm(60)
    watchdog.call_off()


NO_THREADS = """
import signal, threading, time
from netdump.client.watchdog import Watchdog, end_process
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
watchdog = Watchdog(end_process)
"""


def test_without_a_thread_the_process_is_ended_all_the_same() -> None:
    program = f"{NO_THREADS}watchdog.arm(0.05); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, cwd=os.getcwd())
    assert (done.returncode, done.stderr) == (-signal.SIGALRM, b"")


def test_a_delay_that_is_over_without_a_thread() -> None:
    program = f"{NO_THREADS}watchdog.arm(-1); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", program], timeout=30, cwd=os.getcwd())
    assert done.returncode == -signal.SIGALRM


def test_called_off_without_a_thread() -> None:
    program = f"{NO_THREADS}watchdog.arm(60); watchdog.call_off(); print(signal.getitimer(signal.ITIMER_REAL))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, cwd=os.getcwd())
    assert done.stdout == b"(0.0, 0.0)\n"


def test_it_ends_a_process_that_hangs() -> None:
    load = "import time; from netdump.client.watchdog import Watchdog, end_process"
    program = f"{load}; Watchdog(end_process).arm(0.05); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, cwd=os.getcwd())
    assert done.returncode == DeadlineError.exit_status
    assert b"the deadline has passed" in done.stderr


FILL = """
os.set_blocking(2, False)
try:
    while True:
        os.write(2, bytes(4096))
except BlockingIOError:
    os.set_blocking(2, True)
"""


@pytest.mark.parametrize("prepare", [FILL, "os.close(2)"])
def test_a_stderr_that_takes_nothing_does_not_hold_up_the_end(prepare: str) -> None:
    program = f"import os; from netdump.client.watchdog import end_process\n{prepare}\nend_process()"
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", program], stderr=write_end, timeout=20, cwd=os.getcwd())
    finally:
        os.close(read_end)
        os.close(write_end)
    assert done.returncode == DeadlineError.exit_status
