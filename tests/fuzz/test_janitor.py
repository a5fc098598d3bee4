"""However a fuzzer ends, its folders in memory go."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.rig import wait_until

HERE = Path(__file__).parents[2]
FUZZER = """
import os, sys
from tests.fuzz.janitor import call_janitor
from tests.fuzz.targets_trust import office
call_janitor()
print(office().folder.parent, flush=True)
sys.stdin.read()
os._exit(77)
"""


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left(killed: bool) -> None:
    fuzzer = subprocess.Popen(
        [sys.executable, "-c", FUZZER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    assert fuzzer.stdin is not None
    assert fuzzer.stdout is not None
    folder = Path(fuzzer.stdout.readline().strip())
    assert folder.is_dir()
    assert folder.parent == Path("/dev/shm")
    if killed:
        fuzzer.kill()
    fuzzer.stdin.close()
    assert fuzzer.wait(20) == (-signal.SIGKILL if killed else 77)
    fuzzer.stdout.close()
    wait_until(lambda: not folder.exists(), "the end of the folder")
