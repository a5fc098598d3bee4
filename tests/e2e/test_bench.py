"""The benchmark runs: its smallest stage, with the real peers, in a few seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_start_up_is_measured_against_ssh(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    argv = [sys.executable, "-m", "bench", "--quick", "--only", "start-up", "--json", str(out)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2], env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "netdump -d 0" in done.stdout
    results = json.loads(out.read_text())
    (contest,) = results["contests"]
    assert {result["name"] for result in contest["results"]} >= {"netdump -d 0", "scp", "cat | ssh"}
    assert results["figures"]["upload.tiny.ratio"] > 0
    assert 8 < results["figures"]["client.peak_mib"] <= 32


def test_one_that_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    """No folder, no process, no network namespace. What is measured: tests/bench/test_launcher.py."""
    argv = [sys.executable, "-m", "bench", "--quick", "--only", "start-up", "--folder", str(tmp_path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=environment
    ) as bench:
        deadline = time.monotonic() + 120
        while not any("netdump\0serve" in line for line in running(tmp_path)):
            assert bench.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        bench.send_signal(signal.SIGTERM)
        assert bench.stderr is not None
        said = bench.stderr.read()
    assert bench.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    namespaces = Path("/run/netns")
    assert not (namespaces.exists() and [each for each in namespaces.iterdir() if each.name.endswith(f"-{bench.pid}")])


def running(folder: Path) -> list[str]:
    """The command lines that name that folder, their words with NUL between."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if str(folder) in (line := path.read_text(errors="replace")) and "bench\0--quick" not in line:
                found.append(line)
    return found
