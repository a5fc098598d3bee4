from __future__ import annotations

import os
import subprocess
import sys
import threading

from netdump.client.watchdog import Watchdog
from netdump.errors import DeadlineError


def test_barks_after_its_delay() -> None:
    barked = threading.Event()
    Watchdog(0.01, barked.set)
    assert barked.wait(10)


def test_called_off_it_is_silent() -> None:
    barked = threading.Event()
    watchdog = Watchdog(60, barked.set)
    watchdog.call_off()
    assert not barked.is_set()


def test_it_ends_a_process_that_hangs() -> None:
    load = "import time; from netdump.client.watchdog import Watchdog, end_process"
    program = f"{load}; Watchdog(0.05, end_process); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, cwd=os.getcwd())
    assert done.returncode == DeadlineError.exit_status
    assert b"the deadline has passed" in done.stderr
