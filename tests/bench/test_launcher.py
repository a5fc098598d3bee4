"""The process that starts what is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "bench" / "launcher.py"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_it_runs_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    ours, theirs = os.pipe()
    command = [sys.executable, "-I", "-S", str(LAUNCHER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, pass_fds=(theirs,)) as launcher:
        os.close(theirs)
        runs = ["sh", "-c", f"echo begun >/proc/self/fd/{theirs}; sleep 100; :"]
        print(json.dumps({"argv": runs, "log": str(tmp_path / "log")}), file=launcher.stdin, flush=True)
        with os.fdopen(ours) as told:
            assert told.readline() == "begun\n"
            launcher.send_signal(number)
            assert told.read() == "", "all who could say something are gone"
        assert launcher.wait() == 128 + number
