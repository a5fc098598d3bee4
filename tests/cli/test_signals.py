from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from netdump.cli.signals import ENDS, orderly_end

SCRIPT = """
import os
from netdump.cli.signals import orderly_end
with orderly_end():
    try:
        os.kill(os.getpid(), {number})
    finally:
        os.kill(os.getpid(), {number})  # a second one does not disturb
        print("removed", flush=True)
print("goes on", flush=True)
"""


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_unwinds_the_block_and_ends_the_process(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(number=int(number))], capture_output=True, text=True)
    assert (done.stdout, done.returncode, done.stderr) == ("removed\n", -number, "")


def test_who_runs_it_under_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
